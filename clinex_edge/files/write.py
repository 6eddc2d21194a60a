"""Records into files and streams, one after the other, so that memory does not grow with their number."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from clinex_edge.atomic import replaced_privately
from clinex_edge.errors import OutputError
from clinex_edge.files.parquet import write_parquet
from clinex_edge.files.spreadsheet import write_workbook
from clinex_edge.files.wide import Cell, Row, cells, columns

_FORMULA = re.compile(r"'*(?:[\s\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*[=+\-@＝＋－＠]|[\t\r\n])")


def write_records(path: Path, format: str, rows: Iterable[Row], fields: Sequence[str], labels: Mapping[str, str] = {}) -> None:
    """Write records in their JSON form to a file that is replaced in one step and readable by its owner only.

    `fields` names the columns of tables, `labels` tells what they mean. Raises OutputError, and whatever `rows` raises; an old
    file then stays whole.
    """
    check_library(format)
    try:
        with replaced_privately(path) as draft:
            _WRITERS[format](draft, rows, fields, labels)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}.", "Give another --output; the old file is untouched."
        ) from error


def write_stream(stream: TextIO, format: str, rows: Iterable[Row], fields: Sequence[str]) -> None:
    """Write records to a stream as JSON Lines, JSON or CSV, each as soon as it comes."""
    for text in STREAMED[format](rows, fields):
        stream.write(text)
        stream.flush()


def format_of(path: Path) -> str | None:
    """The format that a file's name asks for; None where it asks for none of ours."""
    suffix = path.suffix.lower().removeprefix(".")
    return {"ndjson": "jsonl"}.get(suffix, suffix if suffix in FORMATS else None)


def check_library(format: str) -> None:
    """Raises OutputError where a format needs a package that is not installed."""
    if format == "parquet":
        from importlib.util import find_spec

        if find_spec("pyarrow") is None:
            raise OutputError("Parquet cannot be written: pyarrow is not installed.", "pip install 'clinex-edge[files]'")


def _jsonl(records: Iterable[Row], fields: Sequence[str]) -> Iterator[str]:
    for record in records:
        yield _json_text(record) + "\n"


def _json(records: Iterable[Row], fields: Sequence[str]) -> Iterator[str]:
    before = "[\n  "
    for record in records:
        yield before + _json_text(record, indent=2).replace("\n", "\n  ")
        before = ",\n  "
    yield "[]\n" if before == "[\n  " else "\n]\n"


def _json_text(record: Row, indent: int | None = None) -> str:
    """Half of a surrogate pair, which no encoding has, is spelled out as JSON allows."""
    return json.dumps(record, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace").decode()


def _csv(records: Iterable[Row], fields: Sequence[str]) -> Iterator[str]:
    line = csv.writer(_Echo(), lineterminator="\r\n")
    yield line.writerow(columns(fields))
    for record in records:
        yield line.writerow(_plain(cell) for cell in cells(record, fields))


class _Echo:
    """Hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _plain(cell: Cell) -> str | float | None:
    """What stands in CSV for a cell. A spreadsheet would run a text that begins like a formula."""
    if isinstance(cell, list):
        return " ".join(map(str, cell))
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def formula_restored(text: str) -> str:
    """A text of a CSV cell as it was before `'` was put before it."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    return text != "-" and _FORMULA.match(text) is not None


STREAMED: dict[str, Callable[[Iterable[Row], Sequence[str]], Iterator[str]]] = {"jsonl": _jsonl, "json": _json, "csv": _csv}


def _as_text(format: str, encoding: str) -> Callable[[Path, Iterable[Row], Sequence[str], Mapping[str, str]], None]:
    def write(draft: Path, records: Iterable[Row], fields: Sequence[str], labels: Mapping[str, str]) -> None:
        with draft.open("w", encoding=encoding, newline="") as file:
            file.writelines(STREAMED[format](records, fields))

    return write


_WRITERS = {
    "jsonl": _as_text("jsonl", "utf-8"),
    "json": _as_text("json", "utf-8"),
    "csv": _as_text("csv", "utf-8-sig"),  # Excel takes a file without this mark for something other than UTF-8
    "xlsx": write_workbook,
    "parquet": write_parquet,
}
FORMATS = tuple(_WRITERS)
