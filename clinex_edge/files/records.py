"""Records read back from a file in any of our formats, one after the other."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clinex_edge.errors import InputError
from clinex_edge.files import wide
from clinex_edge.files.archive import check_archive
from clinex_edge.files.optional import library
from clinex_edge.files.wide import Row
from clinex_edge.files.write import FORMATS, format_of, formula_restored
from clinex_edge.pipeline.record import SCHEMA

_AT_ONCE = 1 << 16  # characters
_ROWS_AT_ONCE = 1024
_UNPACKED = 1 << 31  # bytes; a larger workbook cannot be written
_ADVICE = "Name a file that clinex-edge has written."
Numbered = Iterator[tuple[int, Any]]  # the row of a spreadsheet (its header is row 1), the line or the element


class _Damaged(Exception):
    """A row that is no record. The message is a part of a sentence, without a word of the file."""

    def __init__(self, row: int, problem: str, advice: str = _ADVICE):
        super().__init__(problem)
        self.row, self.advice = row, advice


def read_records(path: Path) -> Iterator[Row]:
    """The records of a file in their JSON form. Raises InputError where it cannot be read or a row is no record."""
    format = format_of(path)
    if format is None:
        raise InputError(f"{path} has no name of a file of records.", f"Its name must end in one of: {', '.join(f'.{f}' for f in FORMATS)}")
    number = 0
    try:
        for number, row in _READERS[format](path):
            _check(number, row)
            yield row
    except InputError:
        raise
    except _Damaged as damage:
        raise InputError(f"{path}, row {damage.row}: {damage}.", damage.advice) from None
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.", f"The current folder is {Path.cwd()}.") from None
    except OSError as error:
        if error.strerror is None:
            raise _unreadable(path, number, error) from None
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except Exception as error:  # whatever a damaged file makes a library do; its own words could quote a document
        raise _unreadable(path, number, error) from None


def _unreadable(path: Path, number: int, error: Exception) -> InputError:
    after = f" after row {number}" if number else ""
    return InputError(f"{path} is damaged{after} ({type(error).__name__}).", _ADVICE)


def _check(number: int, row: Any) -> None:
    """Raises _Damaged for anything other than a record."""
    if not isinstance(row, dict) or not isinstance(row.get("schema"), int):
        raise _Damaged(number, "it is no record")
    if row["schema"] > SCHEMA:
        raise _Damaged(number, f"it is a record of schema {row['schema']}; this version knows {SCHEMA}", "Update clinex-edge.")
    if problem := _problem(row):
        raise _Damaged(number, problem)


def _problem(row: Row) -> str | None:
    if strange := [name for name in ("id", "source", "task", "status") if not isinstance(row.get(name), str)]:
        return f"its {strange[0]} is no text"
    if not isinstance(row.get("language"), str | None):
        return "its language is no text"
    if row["status"] == "failed":
        return None if isinstance(row.get("error"), str) and "features" not in row else "it has not what a failed record has"
    if not isinstance(row.get("document_sha256"), str) or not re.fullmatch("[0-9a-f]{64}", row["document_sha256"]):
        return "its document_sha256 is no sha256"
    features = row.get("features")
    if not isinstance(features, dict) or not all(map(_is_feature, features, features.values())):
        return "an answer is neither yes nor no with a probability, nor missing with a reason"
    if row["status"] != ("complete" if all(feature["value"] for feature in features.values()) else "partial"):
        return "its status does not agree with its answers"
    turns = [turn.get("turn") if isinstance(turn, dict) else None for turn in _listed(row, "translation")]
    if not all(type(turn) is int and 0 < turn < 2**31 for turn in [*turns, *_listed(row, "doubtful_turns")]):
        return "a turn has no number"
    return None


def _is_feature(name: str, feature: Any) -> bool:
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or not isinstance(feature, dict):
        return False
    probability = feature.get("p_yes")
    if feature.get("value") is None:
        return probability is None and feature.get("status") == "unanswered" and isinstance(feature.get("reason"), str)
    is_probability = isinstance(probability, int | float) and not isinstance(probability, bool) and 0 <= probability <= 1
    return feature["value"] in ("yes", "no") and feature.get("status") == "answered" and is_probability


def _listed(row: Row, name: str) -> list[Any]:
    found = row.get(name, [])
    return found if isinstance(found, list) else [found]


def _lines(path: Path) -> Numbered:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError):
                    raise _Damaged(number, "it is cut off or no JSON") from None


def _array(path: Path) -> Numbered:
    """The elements of one JSON array, of which no more than a part is held at a time."""
    decoder = json.JSONDecoder()
    number, text, before = 1, "", "["  # the next element, what was read and not yet used, and what must stand before the element
    with path.open(encoding="utf-8-sig") as file:
        while more := file.read(max(_AT_ONCE, len(text))):
            text = (text + more).lstrip()
            while text.startswith(before):
                element = text[1:].lstrip()
                try:
                    row, end = decoder.raw_decode(element)
                except ValueError:  # it may go on
                    break
                yield number, row
                number, text, before = number + 1, element[end:].lstrip(), ","
    if "".join(text.split()) != ("[]" if before == "[" else "]"):
        raise _Damaged(number, "it is cut off or no JSON")


def _csv(path: Path) -> Numbered:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from _table([formula_restored(cell) for cell in row] for row in csv.reader(file, strict=True))


def _workbook(path: Path) -> Numbered:
    openpyxl = library("openpyxl", "openpyxl", path)
    check_archive(path, _UNPACKED)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        sheet = book["answers"] if "answers" in book.sheetnames else book.worksheets[0]
        yield from _table(
            [_unescaped(cell) if isinstance(cell, str) else cell for cell in row] for row in sheet.iter_rows(values_only=True)
        )
    finally:
        book.close()


def _parquet(path: Path) -> Numbered:
    parquet = library("pyarrow.parquet", "pyarrow", path)

    def rows() -> Iterator[list[Any]]:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            yield list(file.schema_arrow.names)
            found = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                found += batch.num_rows
                yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))
            if found != file.metadata.num_rows:
                raise _Damaged(found + 2, "it and those behind it are missing")

    return _table(rows())


def _table(rows: Iterator[list[Any]]) -> Numbered:
    names = [str(name) for name in next(rows, [])]
    try:
        fields = wide.fields_of(names)
    except ValueError as error:
        raise _Damaged(1, f"{error}") from None
    for number, row in enumerate(rows, 2):
        if any(cell not in (None, "") for cell in row):
            if len(row) != len(names):
                raise _Damaged(number, "it has not as many cells as the header")
            yield number, wide.record(dict(zip(names, row, strict=True)), fields)


def _unescaped(text: str) -> str:
    """Excel's own way to write what XML cannot hold."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)


_READERS: dict[str, Callable[[Path], Numbered]] = {"jsonl": _lines, "json": _array, "csv": _csv, "xlsx": _workbook, "parquet": _parquet}
