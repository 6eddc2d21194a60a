"""clinex-edge convert"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from clinex_edge.cli.messages import notice, tell_missing_shards
from clinex_edge.cli.offline import GuardedCommand
from clinex_edge.errors import InputError, OutputError, TaskError


@click.command(cls=GuardedCommand)
@click.argument("records", type=click.Path(path_type=Path), metavar="RECORDS")
@click.option("--to", "--output", "to", required=True, metavar="FILE|FORMAT", help="A file to write, or jsonl, json or csv for stdout.")
def convert(records: Path, to: str) -> None:
    """Turn records into another format.

    RECORDS is a file that clinex-edge has written (.jsonl, .json, .csv, .xlsx, .parquet) or the folder of a run. The name of
    the new file chooses its format. Tables hold the answers, not the translations and fingerprints: keep the JSON Lines.

    \b
      clinex-edge convert answers.jsonl --to answers.xlsx
      clinex-edge convert weekend-run --to answers.parquet
      clinex-edge convert answers.xlsx --to csv
    """
    from clinex_edge.files.wide import NOT_HELD
    from clinex_edge.files.write import FORMATS, STREAMED, check_library, format_of, write_records, write_stream

    path = None if to in FORMATS else Path(to)
    format = to if path is None else format_of(path)
    if format is None:
        raise click.UsageError(f"--to takes a file name that ends in {', '.join(f'.{f}' for f in FORMATS)}, or {', '.join(STREAMED)}.")
    if path is None and format not in STREAMED:
        raise click.UsageError(f"{format} cannot go to stdout. Name a file: --to answers.{format}")
    check_library(format)
    tell_missing_shards(records)
    fields, tasks = _survey(_read(records))
    if path is not None:
        _check_target(path, records)
    if format in ("jsonl", "json") and format_of(records) in ("csv", "xlsx", "parquet"):
        notice(f"{records} is a table and holds no {NOT_HELD}: the records are written without them.")
    if path is None:
        write_stream(sys.stdout, format, _read(records), fields)
    else:
        write_records(path, format, _read(records), fields, _labels(tasks))


def _read(records: Path) -> Iterator[dict[str, Any]]:
    from clinex_edge.files.records import read_records
    from clinex_edge.runs.history import read_records as read_run

    return read_run(records) if records.is_dir() else read_records(records)


def _survey(records: Iterable[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """All fields and tasks in the order in which they first occur; reading all records shows that they can be read."""
    fields: dict[str, None] = {}
    tasks: dict[str, None] = {}
    for record in records:
        fields |= dict.fromkeys(record.get("features", {}))
        tasks[record["task"]] = None
    if not tasks:
        raise InputError("There are no records.", "Name a file or folder with at least one.")
    return list(fields), list(tasks)


def _labels(tasks: list[str]) -> dict[str, str]:
    """What the fields of tasks that are installed here are called, in every language."""
    from clinex_edge.tasks import folders, read_task

    labels: dict[str, str] = {}
    installed = folders()
    for name in tasks:
        with suppress(TaskError):  # the ids will do
            if name in installed:
                labels |= {field.id: " · ".join(field.label.values()) for field in read_task(installed[name]).fields}
    return labels


def _check_target(path: Path, records: Path) -> None:
    """Raises OutputError where the records themselves would be replaced."""
    of_run = path.suffix == ".jsonl" and records.resolve() in path.resolve().parents
    if of_run or (path.exists() and path.samefile(records)):
        raise OutputError(f"{path} would replace the records themselves.", "Give another --to; nothing was changed.")
