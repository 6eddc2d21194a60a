"""Reads a labelled set from a table: a document and its labels in each row."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clinex_edge.bench.answers import is_blank, label
from clinex_edge.bench.columns import GUESS, Asked, Columns, column_names, in_words, labelled_columns, rows_with, table_rows
from clinex_edge.bench.data import Example, LabelledSet
from clinex_edge.bench.problems import Problems
from clinex_edge.errors import InputError
from clinex_edge.files import tables
from clinex_edge.files.columns import identifier_of, text_problem
from clinex_edge.files.sources import Reading, sources
from clinex_edge.files.tables import Row
from clinex_edge.models.fingerprint import hash_file
from clinex_edge.tasks import Task

Told = Callable[[str], None]


def read_labelled(
    path: Path,
    task: Task,
    asked: Asked = GUESS,
    encoding: str = "utf-8",
    told: Told = lambda text: None,
    files_folder: Path | None = None,
) -> LabelledSet:
    """The labelled set in a CSV, TSV, XLSX, JSON Lines or Parquet file, all of it in memory.

    A text stands in the row, or in a file that the row names, relative to `files_folder` or else to the table's own folder. `told` hears
    which column is read as what, and what is left out. An empty label means that nobody has labelled that field of that document.
    Raises UsageError for a column that was asked for and is not there, and InputError with everything that is wrong, by row.
    """
    problems = Problems(path)
    found = table_rows(path, encoding)
    columns = labelled_columns(path, found, task, asked, problems)
    for line in in_words(path.name, columns, column_names(found), task):
        told(line)
    reader = _Reader(columns, path.parent if files_folder is None else files_folder, encoding, problems)
    examples = [example for row in rows_with(columns.text or columns.file, path.name, found, told) if (example := reader.example(row))]
    counts = Counter(field for example in examples for field in example.labels)
    problems.raise_all()
    if not counts:
        problems.add("no row has a label")
        problems.raise_all()
    fields = tuple(field for field in task.field_ids if counts[field])
    _tell_counts(path.name, examples, fields, columns, told)
    return LabelledSet(path.name, hash_file(path), fields, tuple(examples))


class _Reader:
    """Makes examples of rows."""

    def __init__(self, columns: Columns, folder: Path, encoding: str, problems: Problems):
        self._columns, self._folder, self._encoding, self._problems = columns, folder, encoding, problems
        self._places: dict[str, str] = {}  # by id

    def example(self, row: Row) -> Example | None:
        """None where the row is no example; why is among the problems then."""
        if row.error:
            self._problems.add_error(row.error)
            return None
        identifier, text = self._identifier(row), self._text(row)
        labels, group, reference = self._labels(row), self._group(row), self._reference(row)
        return Example(identifier, text, labels, group, reference) if identifier and text else None

    def _identifier(self, row: Row) -> str | None:
        column = self._columns.id or self._columns.file
        identifier = identifier_of(row.values.get(column)) if column else row.place
        if identifier is None:
            self._problems.add(f"column '{column}' holds no id", row)
        elif identifier in self._places:
            self._problems.add(f"its id is that of row {self._places[identifier]}", row)
        else:
            self._places[identifier] = row.place
        return identifier

    def _text(self, row: Row) -> str | None:
        if self._columns.file:
            return self._text_of_file(row, row.values.get(self._columns.file))
        if self._columns.text:
            text = row.values.get(self._columns.text)
            if not (problem := text_problem(text)):
                return str(text)
            self._problems.add(f"column '{self._columns.text}' {problem}", row)
        return None

    def _text_of_file(self, row: Row, name: Any) -> str | None:
        if not isinstance(name, str) or is_blank(name):
            self._problems.add(f"column '{self._columns.file}' names no file", row)
            return None
        path = Path(os.path.abspath(self._folder / name.strip()))
        if path.suffix.lower() in tables.SUFFIXES or path.is_dir():
            self._problems.add(f"{path} is {'a folder' if path.is_dir() else 'a table'}, not one document", row)
            return None
        try:
            (source,) = sources([str(path)], Reading(self._encoding))
            return source.read().text
        except InputError as error:
            self._problems.add(str(error).removesuffix("."), row)
            return None

    def _labels(self, row: Row) -> dict[str, bool]:
        labels = {}
        for field, column in self._columns.answers.items():
            try:
                said = label(row.values.get(column))
            except ValueError as error:
                self._problems.add(f"column '{column}' {error}", row)
            else:
                if said is not None:
                    labels[field] = said
        return labels

    def _group(self, row: Row) -> str | None:
        cell = row.values.get(self._columns.group) if self._columns.group else None
        group = None if is_blank(cell) else identifier_of(cell)
        if group is None and not is_blank(cell):
            self._problems.add(f"column '{self._columns.group}' holds no name of a group", row)
        return group

    def _reference(self, row: Row) -> str | None:
        cell = row.values.get(self._columns.reference) if self._columns.reference else None
        if is_blank(cell):
            return None
        if problem := text_problem(cell):
            self._problems.add(f"column '{self._columns.reference}' {problem}", row)
        return str(cell)


def _tell_counts(name: str, examples: Sequence[Example], fields: Sequence[str], columns: Columns, told: Told) -> None:
    labels = sum(len(example.labels) for example in examples)
    empty = len(fields) * len(examples) - labels
    parts = [f"documents: {len(examples):,}", f"labels: {labels:,}", f"empty, not scored: {empty:,}"]
    if columns.group:
        parts.append(f"groups: {len({example.group for example in examples} - {None}):,}")
        parts.append(f"documents without one: {sum(example.group is None for example in examples):,}")
    if columns.reference:
        parts.append(f"reference translations: {sum(example.reference is not None for example in examples):,}")
    told(f"{name}: {'; '.join(parts)}.")
    if unlabelled := [field for field in columns.answers if field not in fields]:
        told(f"{name}: fields that nobody has labelled, left out: {', '.join(unlabelled)}.")
