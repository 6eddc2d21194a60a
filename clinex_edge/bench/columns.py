"""Which column of a table holds what: ids, texts, groups, and the answers to each field."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from pathlib import Path

from clinex_edge.bench.problems import Problems
from clinex_edge.errors import InputError, UsageError, unknown_name
from clinex_edge.files import tables
from clinex_edge.files.columns import IDS, TEXTS, guess_text, is_name, listed, plain_name, usual_column
from clinex_edge.files.read import check_encoding
from clinex_edge.files.tables import Row
from clinex_edge.tasks import Task

_FILES = ("file", "file_name", "file_path", "path", "فایل", "نام_فایل", "مسیر", "مسیر_فایل")
_GROUPS = (
    "group", "patient", "patient_id", "patient_no", "patient_number", "subject", "subject_id", "mrn",
    "گروه", "بیمار", "کد_بیمار", "شناسه_بیمار", "شماره_بیمار", "پرونده", "شماره_پرونده", "کد_پرونده",
)  # fmt: skip
_REFERENCES = (
    "reference", "reference_translation", "translation", "human_translation", "english", "english_text", "text_en", "en",
    "ترجمه", "ترجمه_مرجع", "ترجمه_انگلیسی", "متن_انگلیسی", "انگلیسی",
)  # fmt: skip
_LOOKED_AT = 100  # rows from which the column of the texts is guessed


@dataclass(frozen=True)
class Asked:
    """Columns that were asked for by name: by what they hold, and by field. What is left open is guessed."""

    id: str | None = None
    text: str | None = None
    file: str | None = None
    group: str | None = None
    reference: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_option(self) -> list[tuple[str, str]]:
        """Each option of the command line that asks for a column, and the column."""
        roles = [(role.name, getattr(self, role.name)) for role in fields(self) if role.name != "fields"]
        return [(f"--{role}-column", name) for role, name in roles if name] + [(f"--column {f}", name) for f, name in self.fields.items()]


GUESS = Asked()  # everything


@dataclass(frozen=True)
class Columns:
    """The columns of a table. `answers` and `probabilities` are by field; `file` holds the names of files, where no `text` holds texts."""

    id: str | None
    text: str | None = None
    file: str | None = None
    group: str | None = None
    reference: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    probabilities: Mapping[str, str] = field(default_factory=dict)


def table_rows(path: Path, encoding: str) -> list[Row]:
    """All rows of a table. The values of an object "labels" (JSON Lines) count as columns.

    Raises InputError where there are none, and UsageError for an unknown encoding.
    """
    check_encoding(encoding)
    if path.suffix.lower() not in tables.SUFFIXES:
        raise InputError(f"{path} is no table that can be read.", f"Its name must end in one of: {', '.join(tables.SUFFIXES)}")
    found = [_flat(row) for row in tables.rows(path, encoding.lower())]
    if all(row.error for row in found):
        raise (found[0].error if found else None) or InputError(f"{path} has no rows.", "Its first row must name the columns.")
    return found


def _flat(row: Row) -> Row:
    labels = row.values.get("labels")
    if not isinstance(labels, dict):
        return row
    return replace(row, values={**labels, **{name: value for name, value in row.values.items() if name != "labels"}})


def rows_with(column: str | None, name: str, found: Sequence[Row], told: Callable[[str], None]) -> list[Row]:
    """All rows but those of further sheets that have no such column; `told` hears of them."""
    if column is None:
        return list(found)
    others = dict.fromkeys(row.sheet for row in found if row.sheet and not row.error and column not in row.values)
    for sheet in others:
        told(f"{name}: sheet '{sheet}' has no column '{column}' and is left out.")
    return [row for row in found if row.sheet not in others]


def column_names(found: Sequence[Row]) -> list[str]:
    """The names of all columns, those that most rows have first."""
    return [name for name, _ in Counter(chain.from_iterable(row.values for row in found)).most_common()]


def labelled_columns(path: Path, found: Sequence[Row], task: Task, asked: Asked, problems: Problems) -> Columns:
    """Those of a labelled set. Raises UsageError for what was asked and is not there; what cannot be decided is a problem."""
    names = column_names(found)
    _check(path, names, task, asked)
    free = _free(names, asked)
    answers = _by_field(free, task, "", asked.fields, problems)
    free = [name for name in free if name not in answers.values()]
    if not answers:
        problems.add(f"no column is named like a field of {task.name} (name one with --column FIELD=COLUMN)")
    text, file = asked.text, asked.file
    if not (text or file):
        text = usual_column(free, TEXTS)
        file = None if text else usual_column(free, _FILES)
    free = [name for name in free if name not in (text, file)]
    identifier = asked.id or usual_column(free, IDS)
    group = asked.group or usual_column(free, _GROUPS)
    free = [name for name in free if name not in (identifier, group)]
    reference = asked.reference or usual_column(free, _REFERENCES)
    if not (text or file):
        good = list(islice((row for row in found if not row.error), _LOOKED_AT))
        try:
            text = guess_text(path, good, [name for name in free if name != reference])
        except InputError as error:
            problems.add_error(error)
    return Columns(identifier, text, file, group, reference, answers)


def predicted_columns(path: Path, found: Sequence[Row], task: Task, asked: Asked, problems: Problems) -> Columns:
    """Those of a table of predictions: ids, answers, and probabilities in columns such as "p_pain". Raises as `labelled_columns` does."""
    names = column_names(found)
    _check(path, names, task, asked)
    free = _free(names, asked)
    answers = _by_field(free, task, "", asked.fields, problems)
    probabilities = _by_field(free, task, "p_", {}, problems)
    taken = {*answers.values(), *probabilities.values()}
    return Columns(
        asked.id or usual_column([name for name in free if name not in taken], IDS), answers=answers, probabilities=probabilities
    )


def in_words(name: str, columns: Columns, names: Sequence[str], task: Task) -> list[str]:
    """Lines that say which column of the table `name` is read as what, and which are not read."""
    roles = {"text": columns.text, "file of the text": columns.file, "group": columns.group, "reference": columns.reference}
    by_role = [f"{role} <- '{column}'" for role, column in roles.items() if column]
    pairs = [*columns.answers.items(), *((f"p_{field}", column) for field, column in columns.probabilities.items())]
    answers = [f"{field} <- '{column}'" for field, column in pairs if field != column]
    if same := [field for field, column in pairs if field == column]:
        answers.append(f"columns of that name hold {', '.join(same)}")
    read = {columns.id, *roles.values(), *columns.answers.values(), *columns.probabilities.values()}
    unread = [column for column in names if column not in read]
    shown = [f"'{column}'" for column in unread if is_name(column)]
    if len(shown) < len(unread):
        shown.append(f"{len(unread) - len(shown)} whose names could be texts")
    absent = [field for field in task.field_ids if field not in (*columns.answers, *columns.probabilities)]
    identifier = f"id <- '{columns.id}'" if columns.id else "id <- the file's name" if columns.file else "id <- the number of the row"
    lines = [
        f"{name}: {'; '.join([identifier, *by_role])}.",
        f"{name}: {'; '.join(answers)}." if answers else "",
        f"{name}: no column for {', '.join(absent)}." if absent else "",
        f"{name}: columns that are not read: {', '.join(shown)}." if shown else "",
    ]
    return [line for line in lines if line]


def _check(path: Path, names: Sequence[str], task: Task, asked: Asked) -> None:
    if unknown := [name for name in asked.fields if name not in task.field_ids]:
        raise unknown_name("field", unknown[0], task.field_ids)
    options = asked.by_option
    if missing := [f"'{name}' ({option})" for option, name in options if name not in names]:
        raise UsageError(f"{path} has no column {', '.join(missing)}.", listed(names))
    times = Counter(name for _, name in options)
    if twice := [option for option, name in options if times[name] > 1]:
        raise UsageError(f"One column is asked for twice ({', '.join(twice)}).", "Each column holds one thing.")
    if asked.text and asked.file:
        raise UsageError("--text-column and --file-column exclude each other.", "A text stands in the table or in a file.")


def _free(names: Sequence[str], asked: Asked) -> list[str]:
    taken = {name for _, name in asked.by_option}
    return [name for name in names if name not in taken]


def _by_field(free: Sequence[str], task: Task, prefix: str, asked: Mapping[str, str], problems: Problems) -> dict[str, str]:
    """The column of each field, in the task's order: as asked for, or named by its id, its label or its label in a prompt."""
    by_name = _fields_by_name(task, prefix)
    found: dict[str, list[str]] = {}
    for name in free:
        if identifier := by_name.get(plain_name(name)):
            found.setdefault(identifier, []).append(name)
    columns = {}
    for identifier in task.field_ids:
        candidates = [asked[identifier]] if identifier in asked else found.get(identifier, [])
        if len(candidates) > 1:
            quoted = " and ".join(f"'{name}'" for name in candidates)
            problems.add(f"columns {quoted} could all be {prefix}{identifier} (choose with --column {identifier}=COLUMN)")
        elif candidates:
            columns[identifier] = candidates[0]
    return columns


def _fields_by_name(task: Task, prefix: str) -> dict[str, str]:
    """The field of each plain name that can mean one field only; ids before labels before the labels of prompts."""
    kinds = [
        [(identifier, identifier) for identifier in task.field_ids],
        [(label, field.id) for field in task.fields for label in field.label.values()],
        [(label, identifier) for profile in task.profiles.values() for identifier, label in profile.labels.items()],
    ]
    by_name: dict[str, str] = {}
    for pairs in kinds:
        meant: dict[str, set[str]] = {}
        for name, identifier in pairs:
            meant.setdefault(plain_name(prefix + name), set()).add(identifier)
        by_name = {name: next(iter(those)) for name, those in meant.items() if len(those) == 1} | by_name
    return by_name
