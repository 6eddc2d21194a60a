"""Rows of CSV, TSV, JSON Lines, XLSX and Parquet files, one after another."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from clinex_edge.errors import InputError
from clinex_edge.files.archive import check_archive
from clinex_edge.files.optional import library
from clinex_edge.files.read import check_is_text, codec, unreadable, wrong_encoding

AMBIGUOUS: Final = object()  # the value of a column whose name is there twice
ERROR: Final = object()  # the value of a cell that its program or library could not compute
_LINE = 4_000_000  # characters; four times the longest document
_HEAD = 65536  # bytes that tell text from something else, and characters that tell the delimiter
_EXCEL_ROWS = 1_048_576
_UNPACKED = 1_000_000_000  # bytes
_ROWS_AT_ONCE = 64
_UNDECODED = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile(r"_x(00[01][0-9A-Fa-f])_")  # how XLSX writes control characters, a carriage return above all


@dataclass(frozen=True)
class Row:
    """A row's values by column; or, with `error`, why it has none.

    `number` counts as a spreadsheet does (the header is row 1), or lines of JSON Lines, or rows of Parquet from 1. `sheet` names the
    sheet of an .xlsx file that is not its first visible one.
    """

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    error: InputError | None = None
    sheet: str = ""

    @property
    def place(self) -> str:
        """The number as text, behind the sheet's name where there is one: "12", "March!12"."""
        return f"{self.sheet}!{self.number}" if self.sheet else str(self.number)


def rows(path: Path, encoding: str) -> Iterator[Row]:
    """Every row that is not blank. Where the file cannot be read any further, the last row holds the reason.

    Memory does not grow with the number of rows, but for .xlsx files, which keep their texts in one list that must be read whole.
    """
    row = Row(0)
    try:
        for row in _READERS[path.suffix.lower()](path, encoding):
            yield row
    except Exception as error:  # whatever a damaged file makes a library do
        yield Row(row.number + 1, error=_explained(error, path, encoding, row.number + 1), sheet=row.sheet)


def _explained(error: Exception, path: Path, encoding: str, number: int) -> InputError:
    """A library's own words are left out: they could quote a document."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return unreadable(path, error)
    if isinstance(error, UnicodeError):
        return wrong_encoding(str(path), encoding, f"row {number} or one after it")
    start = f" from row {number} on" if number > 1 else ""
    return InputError(f"{path} is damaged{start}, or not what its name says ({type(error).__name__}).", _ADVICE[path.suffix.lower()])


def _delimited(path: Path, encoding: str) -> Iterator[Row]:
    csv.field_size_limit(_LINE)
    with _opened(path, encoding, newline="") as file:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(file.read(_HEAD))
        file.seek(0)
        header: list[str] = []
        for number, cells in enumerate(csv.reader(_lines(file, path), delimiter=delimiter, strict=True), 1):
            if not any(cell.strip() for cell in cells):
                continue
            if _has_undecoded(cells):
                wrong = wrong_encoding(str(path), encoding, f"row {number}")
                if not header:
                    raise wrong
                yield Row(number, error=wrong)
            elif not header:
                header = _names(cells)
            elif len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
                yield Row(number, error=_wrong_width(path, number, len(cells), len(header)))
            else:
                yield Row(number, _by_name(header, cells))


def _delimiter(sample: str) -> str:
    """That of comma, semicolon and tab which gives most rows as many cells as the header."""

    def fit(delimiter: str) -> tuple[float, int]:
        records = [record for record in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if record]
        if not records or len(records[0]) < 2:
            return 0.0, 1
        whole = records[1:-1] or records[1:]  # the last may be cut off
        width = len(records[0])
        return sum(len(record) == width for record in whole) / max(len(whole), 1), width

    return max((",", ";", "\t"), key=fit)


def _wrong_width(path: Path, number: int, cells: int, columns: int) -> InputError:
    return InputError(
        f"{path}, row {number} has another number of cells than the header ({cells}, not {columns}), so its text may be cut.",
        "A text with a delimiter or a line break in it needs quotation marks around it.",
    )


def _json_lines(path: Path, encoding: str) -> Iterator[Row]:
    with _opened(path, encoding, newline="\n") as file:
        for number, line in enumerate(_lines(file, path), 1):
            if not line.strip():
                continue
            if _has_undecoded([line]):
                yield Row(number, error=wrong_encoding(str(path), encoding, f"line {number}"))
                continue
            try:
                value = json.loads(line, object_pairs_hook=_object)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                yield Row(number, value)
            else:
                yield Row(number, error=InputError(f"{path}, line {number} is no JSON object.", _ADVICE[".jsonl"]))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        values.update((name, AMBIGUOUS) for name, times in Counter(name for name, _ in pairs).items() if times > 1)
    return values


def _opened(path: Path, encoding: str, newline: str) -> io.TextIOWrapper:
    """Raises InputError for a file that is no text. In UTF-8, a byte that does not fit spoils its row only."""
    with path.open("rb") as file:
        check_is_text(file.read(_HEAD), encoding, str(path))
    return path.open(encoding=codec(encoding), errors="surrogateescape" if encoding == "utf-8" else "strict", newline=newline)


def _lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    while line := file.readline(_LINE):
        if len(line) == _LINE:
            raise InputError(f"{path} has a line of more than {_LINE:,} characters.", "Is a quotation mark or a line break missing?")
        yield line


def _has_undecoded(cells: Sequence[str]) -> bool:
    """Whether a byte that was no UTF-8 stands among the characters."""
    return any(_UNDECODED.search(cell) for cell in cells)


def _sheets(path: Path, encoding: str) -> Iterator[Row]:
    openpyxl = library("openpyxl", "openpyxl", path)
    check_archive(path, _UNPACKED)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        for index, sheet in enumerate(visible):
            sheet.reset_dimensions()  # what a file says of its size may be less than its rows
            header: list[str] = []
            for number, cells in enumerate(sheet.iter_rows(), 1):
                if number > _EXCEL_ROWS:
                    raise InputError(f"{path} has more rows than a sheet can have.", _ADVICE[".xlsx"])
                values = [_cell_value(cell) for cell in cells]
                if all(value is None for value in values):
                    continue
                if not header:
                    header = _names(values)
                else:
                    header += [f"column {column + 1}" for column in range(len(header), len(values))]
                    yield Row(number, _by_name(header, values), sheet=sheet.title if index else "")
    finally:
        book.close()


def _cell_value(cell: Any) -> Any:
    value = ERROR if cell.data_type == "e" else cell.value
    if not isinstance(value, str):
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value) if value.strip() else None


def _parquet(path: Path, encoding: str) -> Iterator[Row]:
    parquet = library("pyarrow.parquet", "pyarrow", path)
    with parquet.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True) as file:
        names = _names(file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, use_threads=False):
            for values in zip(*map(_column_values, batch.columns), strict=True):
                number += 1
                yield Row(number, _by_name(names, values))


def _column_values(column: Any) -> list[Any]:
    """One value that is no valid UTF-8, or no date that Python knows, spoils its row only."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_scalar_value(scalar) for scalar in column]


def _scalar_value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return ERROR


def _names(header: Sequence[Any]) -> list[str]:
    """The names of the columns; "column 3" for one without."""
    names = ["" if name is None else str(name).strip() for name in header]
    while names and not names[-1]:
        names.pop()
    return [name or f"column {column}" for column, name in enumerate(names, 1)]


def _by_name(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return _object(list(zip_longest(names, values[: len(names)])))


_READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".csv": _delimited, ".tsv": _delimited, ".jsonl": _json_lines, ".ndjson": _json_lines,
    ".xlsx": _sheets, ".xlsm": _sheets, ".parquet": _parquet,
}  # fmt: skip
_JSON_ADVICE = 'Each line must be a JSON object of its own, such as {"id": 1, "text": "…"}.'
_CSV_ADVICE = "Is a quotation mark missing or left over there? Save it again as CSV in UTF-8."
_ADVICE = {
    ".csv": _CSV_ADVICE, ".tsv": _CSV_ADVICE, ".jsonl": _JSON_ADVICE, ".ndjson": _JSON_ADVICE,
    ".xlsx": "Open it in Excel and save it again as .xlsx.", ".xlsm": "Open it in Excel and save it again as .xlsx.",
    ".parquet": "Write it again.",
}  # fmt: skip
SUFFIXES = tuple(_READERS)
