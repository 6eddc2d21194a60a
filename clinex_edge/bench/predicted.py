"""Reads predictions: records of clinex-edge, or a table that another program has written."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clinex_edge.bench.answers import answer, probability
from clinex_edge.bench.columns import GUESS, Asked, Columns, column_names, in_words, predicted_columns, rows_with, table_rows
from clinex_edge.bench.data import LabelledSet
from clinex_edge.bench.predictions import Array, Join, Predictions, Told
from clinex_edge.bench.problems import Problems
from clinex_edge.files import tables, wide
from clinex_edge.files.columns import identifier_of
from clinex_edge.files.records import read_records
from clinex_edge.files.tables import Row
from clinex_edge.runs.history import read_records as read_run
from clinex_edge.tasks import Task

_YES_FROM = 0.5  # the probability from which a table that holds nothing else says yes
_LOOKED_AT = 100  # rows that tell whether a file holds records
Value = TypeVar("Value")


def read_predictions(
    path: Path,
    labelled: LabelledSet,
    task: Task,
    asked: Asked = GUESS,
    encoding: str = "utf-8",
    told: Told = lambda text: None,
) -> Predictions:
    """The predictions in a run's folder, a file of records, or any table with a column of ids and one for each field.

    A column of answers holds words (yes, False, بله) or numbers from 0 to 1. Where any number in it lies between the two, all are
    probabilities, and yes begins at 0.5; "p_pain" holds probabilities always. An empty cell is a missing answer. `told` hears which
    column is read as what, and what is missing. Raises UsageError, RunError, and InputError with everything that is wrong, by row.
    """
    if path.is_dir():
        return Predictions.of(path.resolve().name, labelled, read_run(path), told)
    if _holds_records(path, encoding):
        return Predictions.of(path.stem, labelled, read_records(path), told)
    problems = Problems(path)
    found = table_rows(path, encoding)
    columns = predicted_columns(path, found, task, asked, problems)
    for line in in_words(path.name, columns, column_names(found), task):
        told(line)
    if not columns.id:
        problems.add("no column holds ids (name one with --id-column)")
    if not {*columns.answers, *columns.probabilities} & set(labelled.fields):
        problems.add(f"no column is named like a field that {labelled.name} labels (name one with --column FIELD=COLUMN)")
    predictions = Predictions.missing(path.stem, labelled)
    join = Join(path.name, labelled)
    numbers = _fill(predictions, rows_with(columns.id, path.name, found, told), columns, join, problems)
    for repeated in join.repeated:
        problems.add(repeated)
    problems.raise_all()
    join.close(told)
    if weighed := _weigh(predictions, numbers, columns):
        told(f"{path.name}: read as probabilities, yes from {_YES_FROM} on: {', '.join(weighed)}.")
    return predictions


def _holds_records(path: Path, encoding: str) -> bool:
    if path.suffix.lower() == ".json":
        return True
    if path.suffix.lower() not in tables.SUFFIXES:
        return False
    return any(_is_record(row) for row in islice(tables.rows(path, encoding.lower()), _LOOKED_AT))


def _is_record(row: Row) -> bool:
    columns = row.values.keys()
    return columns >= {"schema", "status", "task"} or columns >= {*wide.BEFORE, *wide.AFTER}


def _fill(predictions: Predictions, found: Sequence[Row], columns: Columns, join: Join, problems: Problems) -> Array:
    """Enter what the rows say; the numbers in columns of answers are returned instead."""
    numbers = np.full_like(predictions.said, np.nan)
    for row in found:
        if row.error:
            problems.add_error(row.error)
            continue
        at = _document(row, columns.id, join, problems)
        for index, field in enumerate(predictions.fields):
            said = _cell(answer, row, columns.answers.get(field), problems)
            p_yes = _cell(probability, row, columns.probabilities.get(field), problems)
            if at is not None and said is not None:
                (numbers if isinstance(said, float) else predictions.said)[at, index] = said
            if at is not None and p_yes is not None:
                predictions.p_yes[at, index] = p_yes
    return numbers


def _document(row: Row, column: str | None, join: Join, problems: Problems) -> int | None:
    if column is None:
        return None
    identifier = identifier_of(row.values.get(column))
    if identifier is None:
        problems.add(f"column '{column}' holds no id", row)
        return None
    return join.row(identifier, f"row {row.place}")


def _cell(read: Callable[[Any], Value], row: Row, column: str | None, problems: Problems) -> Value | None:
    try:
        return read(row.values.get(column)) if column else None
    except ValueError as error:
        problems.add(f"column '{column}' {error}", row)
        return None


def _weigh(predictions: Predictions, numbers: Array, columns: Columns) -> list[str]:
    """Make answers of numbers, and return the fields whose answers were probabilities."""
    weighed = []
    for index, field in enumerate(predictions.fields):
        said, p_yes, number = predictions.said[:, index], predictions.p_yes[:, index], numbers[:, index]
        is_number = ~np.isnan(number)
        is_weighed = bool(((number > 0) & (number < 1)).any())
        said[is_number] = number[is_number] >= _YES_FROM
        if is_weighed and field not in columns.probabilities:
            p_yes[is_number] = number[is_number]
        if field not in columns.answers and field in columns.probabilities:
            is_weighed, is_probability = True, ~np.isnan(p_yes)
            said[is_probability] = p_yes[is_probability] >= _YES_FROM
        p_yes[np.isnan(said)] = np.nan
        if is_weighed:
            weighed.append(field)
    return weighed
