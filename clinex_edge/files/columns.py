"""Which column of a table holds the texts and which the ids, and what of a cell can be taken for either."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from numbers import Number
from pathlib import Path
from typing import Any

from clinex_edge.documents.normalise import normalise
from clinex_edge.errors import InputError, UsageError
from clinex_edge.files.tables import AMBIGUOUS, ERROR, Row, rows

TEXTS = (
    "text", "transcript", "transcription", "call_text", "note_text", "conversation", "dialogue", "note", "notes", "content", "body",
    "message",
    "متن", "متن_تماس", "متن_مکالمه", "مکالمه", "گفتگو", "گفت_و_گو", "رونوشت", "یادداشت", "شرح",
)  # fmt: skip
IDS = (
    "id", "call_id", "document_id", "doc_id", "record_id", "note_id", "case_id", "uid", "uuid", "key",
    "شناسه", "شناسه_تماس", "کد", "کد_تماس", "ردیف",
)  # fmt: skip
_LOOKED_AT = 100  # rows from which columns are guessed
_WORDS = 3  # a column of texts has more of them on average
_NAME, _NAME_WORDS = 40, 5  # characters and words; what is longer is no column's name but a text
_ID = 200  # characters; what is longer is a text
_EXCEL_CELL = 32_767  # characters; Excel cuts what is longer
_NO_NAME = re.compile(r"[.,:;?!؟؛،\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HALF = re.compile(r"[\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOTHING = {  # what programs write for a value that is missing or none
    "nan", "null", "none", "na", "n/a", "<na>", "nat", "nil", "true", "false",
    "#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#num!", "#null!",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One document of a table: where its row is, its id where it has one, and its text or why there is none."""

    place: str
    id: str | None
    text: str | InputError


@dataclass(frozen=True)
class _Columns:
    text: str
    id: str | None


def entries(
    path: Path, encoding: str, id_column: str | None, text_column: str | None, told: Callable[[str], None] = lambda text: None
) -> Iterator[Entry]:
    """The documents of a table, row by row; `told` hears which columns are read, and which sheets are not.

    Columns are those asked for, else those with a usual name, else for the text the one with the longest texts of several words.
    Raises UsageError for a column that is not there, and InputError where the table cannot be read from its beginning on.
    """
    remaining = rows(path, encoding)
    head = list(islice(remaining, _LOOKED_AT))
    columns = _choose(path, head, id_column, text_column)
    ids = f"column '{columns.id}'" if columns.id else "the numbers of the rows"
    told(f"{path.name}: text from column '{columns.text}', ids from {ids}.")
    left_out = set()
    for row in chain(head, remaining):
        if row.sheet and not row.error and columns.text not in row.values:
            if row.sheet not in left_out:
                left_out.add(row.sheet)
                told(f"{path.name}: sheet '{row.sheet}' has no column '{columns.text}' and is left out.")
        else:
            yield _entry(path, row, columns)


def _entry(path: Path, row: Row, columns: _Columns) -> Entry:
    identifier = identifier_of(row.values.get(columns.id)) if columns.id else None
    problem = text_problem(row.values.get(columns.text))
    if row.error:
        return Entry(row.place, identifier, row.error)
    if problem:
        advice = "Fill the cell with the text of one document, or leave the row out."
        return Entry(row.place, identifier, InputError(f"{path}, row {row.place}: column '{columns.text}' {problem}.", advice))
    return Entry(row.place, identifier, row.values[columns.text])


def text_problem(value: Any) -> str | None:
    """Why a cell's value is no text of a document; None where it is one."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "is empty"
    if not isinstance(value, str):
        return f"holds {kind_of(value)}, not text"
    if value.strip().casefold() in _NOTHING or _is_number(value) or not any(character.isalpha() for character in value):
        return "holds no words"
    if _HALF.search(value):
        return "holds half characters, so its text is damaged"
    if len(value.encode("utf-16-le")) == 2 * _EXCEL_CELL:
        return f"is as long as a cell of Excel can be ({_EXCEL_CELL:,} characters), so its text is probably cut off"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def kind_of(value: Any) -> str:
    """What a value that is no text is, in words."""
    if value is AMBIGUOUS:
        return "two values"
    if value is ERROR:
        return "an error"
    for kind, name in ((bool, "true or false"), (Number, "a number"), ((date, time, timedelta), "a date or time"), (bytes, "bytes")):
        if isinstance(value, kind):
            return name
    return "a list"


def identifier_of(value: Any) -> str | None:
    """A cell's value as an id: 12.0 is "12", dates are as in ISO 8601; None for what names nothing."""
    if isinstance(value, str):
        name = " ".join(value.split())
        return None if name.casefold() in {"", *_NOTHING} or len(name) > _ID or _UNPRINTABLE.search(name) else name
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return str(int(value)) if value == int(value) else str(value)
    return None


def _choose(path: Path, head: Sequence[Row], id_column: str | None, text_column: str | None) -> _Columns:
    good = [row for row in head if not row.error]
    if not good:
        raise head[0].error if head and head[0].error else InputError(f"{path} has no rows.", "Its first row must name the columns.")
    names = [name for name, _ in Counter(chain.from_iterable(row.values for row in good)).most_common()]
    for asked, option in ((id_column, "--id-column"), (text_column, "--text-column")):
        if asked is not None and asked not in names:
            raise UsageError(f"{path} has no column '{asked}' ({option}).", listed(names))
    text = text_column or usual_column(names, TEXTS) or guess_text(path, good, [name for name in names if name != id_column])
    columns = _Columns(text, id_column or usual_column([name for name in names if name != text], IDS))
    for name in (columns.text, columns.id):
        if name is not None and all(row.values.get(name) is AMBIGUOUS for row in good):
            raise InputError(f"{path} has two columns '{name}'.", "Give each column a name of its own.")
    return columns


def usual_column(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first of the usual names that is among `names`, as it is written there."""
    plain = {plain_name(name): name for name in reversed(names)}
    return next((plain[name] for name in map(plain_name, usual) if name in plain), None)


def plain_name(name: str) -> str:
    """A column's name as it is compared: "Call ID" and "call_id" are the same."""
    return re.sub(r"[\s\u200c_-]+", "", normalise(name.strip()).text.casefold())


def guess_text(path: Path, good: Sequence[Row], names: Sequence[str]) -> str:
    """The column with the longest texts. Raises InputError where none has texts of several words, or the first row is one of them."""
    texts = {name: [value for row in good if isinstance(value := row.values.get(name), str)] for name in names}
    wordy = [name for name in names if sum(len(text.split()) for text in texts[name]) > _WORDS * len(texts[name])]
    name = max(wordy, key=lambda name: sum(map(len, texts[name])), default=None)
    if name is None:
        raise InputError(f"{path} has no column with texts of several words.", f"Name one with --text-column. {listed(names)}")
    if not is_name(name) or re.fullmatch(r"column \d+", name) or any(re.fullmatch(r"[\d.]+", other) for other in names):
        raise InputError(
            f"{path} seems to have no header: its first row must name the columns.", "Add that row, or name the column with --text-column."
        )
    return name


def listed(names: Sequence[str]) -> str:
    """Names of columns, unless one of them could be a patient's words."""
    if all(map(is_name, names)):
        return f"Its columns: {', '.join(names)}."
    return "Its first row does not seem to name the columns."


def is_name(text: str) -> bool:
    return len(text) <= _NAME and len(text.split()) <= _NAME_WORDS and not _NO_NAME.search(text)
