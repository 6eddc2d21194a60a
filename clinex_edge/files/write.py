"""Records into JSON Lines, JSON and CSV."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from clinex_edge.atomic import write_private
from clinex_edge.errors import OutputError
from clinex_edge.pipeline.record import Record


def to_jsonl(records: Sequence[Record]) -> str:
    """One JSON object on each line."""
    return "".join(json.dumps(record.to_dict(), ensure_ascii=False) + "\n" for record in records)


def to_json(records: Sequence[Record]) -> str:
    """One JSON array."""
    return json.dumps([record.to_dict() for record in records], ensure_ascii=False, indent=2) + "\n"


def to_csv(records: Sequence[Record]) -> str:
    """One row for each document: what it is, then two columns a field, the answer and `p_<field>`.

    An unanswered field is an empty cell.
    """
    fields = list(dict.fromkeys(name for record in records for name in record.features))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(["id", "source", "language", "status", "error", "doubtful_turns", *(c for f in fields for c in (f, f"p_{f}"))])
    for record in records:
        cells: list[object] = []
        for name in fields:
            feature = record.features.get(name)
            cells += ["", ""] if feature is None or feature.value is None else [feature.value, feature.p_yes]
        doubtful = " ".join(map(str, record.doubtful_turns))
        texts = (record.id, record.source, record.language or "", record.status, record.error or "", doubtful)
        writer.writerow([*map(_no_formula, texts), *cells])
    return stream.getvalue()


FORMATS: dict[str, Callable[[Sequence[Record]], str]] = {"jsonl": to_jsonl, "json": to_json, "csv": to_csv}


def write_records(path: Path, format: str, records: Sequence[Record]) -> None:
    """Write all records to one file at once, readable by its owner only. Raises OutputError; an old file then stays whole."""
    text = FORMATS[format](records)
    if format == "csv":
        text = "\ufeff" + text  # Excel takes a file without this mark for something other than UTF-8
    try:
        write_private(path, text)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Give another --output; the old file is untouched.") from error


def _no_formula(text: str) -> str:
    """A spreadsheet would run a cell that starts like a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") and text != "-" else text
