"""The wide form of records, for tables: a row for each document, two columns for each field."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from clinex_edge.errors import OutputError
from clinex_edge.pipeline.record import SCHEMA

BEFORE = ("id", "source", "language", "status", "error", "unanswered", "doubtful_turns")
AFTER = ("task", "document_sha256")  # the digest stands last because it shows whether a row is whole
NOT_ASKED = "not asked"  # a field of another task in the same table
NOT_HELD = "translations, windows, provenance, timings"
Row = dict[str, Any]  # a record in its JSON form
Cell = str | float | list[int] | None  # None: empty
_UNFIT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML forbids


def columns(fields: Sequence[str]) -> list[str]:
    """The names of all columns. Raises OutputError where a field has the name of another column."""
    names = [*BEFORE, *(name for field in fields for name in (field, f"p_{field}")), *AFTER]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OutputError(f"A table would have two columns '{twice}'.", "Rename that field, or write JSON Lines.")
    return names


def cells(record: Row, fields: Sequence[str]) -> list[Cell]:
    """A record's row. A field without an answer is None, and so is its probability; the column "unanswered" says why.

    What no spreadsheet can hold is replaced by U+FFFD. Raises OutputError where the record has a field that is not among `fields`.
    """
    features = record.get("features", {})
    if not features.keys() <= set(fields):
        raise OutputError("A record has a field without a column.", "If records were added meanwhile, run the same command again.")
    unanswered: dict[str, list[str]] = {}
    for name in fields if record["status"] != "failed" else ():
        if name not in features or features[name]["value"] is None:
            unanswered.setdefault(features.get(name, {}).get("reason", NOT_ASKED), []).append(name)
    why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in unanswered.items())
    doubtful = None if record["status"] == "failed" else _doubtful_turns(record)
    head = {**record, "unanswered": why or None, "doubtful_turns": doubtful}
    row = [
        *map(head.get, BEFORE),
        *(features.get(name, {}).get(key) for name in fields for key in ("value", "p_yes")),
        *map(head.get, AFTER),
    ]
    return [_UNFIT.sub("\ufffd", cell) if isinstance(cell, str) else cell for cell in row]


def fields_of(names: Iterable[str]) -> list[str]:
    """The fields of a table with these columns, in order. Raises ValueError where it is none of records."""
    names = list(names)
    if missing := [name for name in (*BEFORE, *AFTER) if name not in names]:
        raise ValueError(f"it has no column '{missing[0]}'")
    if len(set(names)) < len(names):
        raise ValueError("it has a column twice")
    rest = [name for name in names if name not in (*BEFORE, *AFTER)]
    fields = [name for name in rest if f"p_{name}" in rest]
    if strange := [number for number, name in enumerate(names, 1) if name in rest and not {name, name.removeprefix("p_")} & set(fields)]:
        raise ValueError(f"column {strange[0]} is neither a field nor a probability")
    return fields


def record(row: Mapping[str, Any], fields: Sequence[str]) -> Row:
    """The record of a row, with `doubtful_turns` in place of a translation. Values that are wrong stay as they are."""
    head: Row = {"schema": SCHEMA, **{name: row[name] or "" for name in ("id", "source")}}
    head |= {name: row[name] or None for name in ("document_sha256", "language", "task", "status")}
    if head["status"] == "failed":
        return {**head, "error": row["error"] or ""}
    reasons = _reasons(str(row["unanswered"] or ""), fields)
    features: dict[str, Any] = {}
    for name in fields:
        if reasons.get(name) != NOT_ASKED or row[name]:
            features[name] = _feature(row[name] or None, row[f"p_{name}"], reasons.get(name))
    turns = row["doubtful_turns"] or []
    numbers = turns if isinstance(turns, list) else [_or_as_it_is(int, turn) for turn in str(turns).split()]
    return {**head, "features": features, "doubtful_turns": numbers}


def _feature(value: Any, probability: Any, reason: str | None) -> dict[str, Any]:
    if value is not None:
        return {"value": value, "p_yes": _or_as_it_is(float, probability), "status": "answered"}
    p_yes = None if probability == "" else probability
    return {"value": None, "p_yes": p_yes, "status": "unanswered", "reason": reason}


def _doubtful_turns(record: Row) -> list[int]:
    if "translation" in record:
        return [turn["turn"] for turn in record["translation"] if turn.get("doubtful")]
    return list(record.get("doubtful_turns", []))


def _reasons(text: str, fields: Sequence[str]) -> dict[str, str]:
    """From "fever, pain: one reason; sleep: another" the reason of each field."""
    field = f"(?:{'|'.join(map(re.escape, fields))})"
    _, *pairs = re.split(rf"(?:^|; )({field}(?:, {field})*): ", text)
    return {name: reason for names, reason in zip(pairs[::2], pairs[1::2], strict=True) for name in names.split(", ")}


def _or_as_it_is(number: Callable[[Any], float], cell: Any) -> Any:
    try:
        return number(cell)
    except (TypeError, ValueError):
        return cell
