"""clinex-edge extract"""

import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clinex_edge.cli import options
from clinex_edge.cli.messages import notice, progress, report
from clinex_edge.cli.offline import GuardedCommand
from clinex_edge.errors import InputError, OutputError

if TYPE_CHECKING:
    from clinex_edge.documents import Document
    from clinex_edge.pipeline.pipeline import Pipeline
    from clinex_edge.pipeline.record import Record

INCOMPLETE = 3


@click.command(cls=GuardedCommand)
@click.argument("paths", nargs=-1, required=True, metavar="PATH... [-]")
@click.option("-m", "--model", metavar="NAME|FILE", help="Model that answers: a name of models.toml or a .gguf file.")
@options.loading
@click.option("--task", default="palliative-call", show_default=True, help="What to ask; see: clinex-edge tasks list")
@click.option("--decoder", default="joint", show_default=True, help="joint, independent, gbnf or free.")
@click.option("--no-translate", is_flag=True, help="Read the source language directly.")
@options.reading
@click.option("--format", "format", type=click.Choice(["table", "json", "jsonl", "csv"]), help="[default: table in a terminal, else jsonl]")
@click.option("--output", type=click.Path(path_type=Path), help="Write to a file (readable by you only) instead of stdout.")
def extract(paths: tuple[str, ...], format: str | None, output: Path | None, encoding: str, language: str | None, **settings: Any) -> int:
    """Answer a task's questions about documents.

    A document is a text file: one turn a line ("Nurse: ..."), or paragraphs. "-" is standard input.

    \b
      clinex-edge extract examples/call-01.fa.txt
      clinex-edge extract calls/*.txt --output answers.csv --format csv
      clinex-edge extract note.txt --no-translate --decoder independent
      clinex-edge extract call.txt --model /media/usb/Qwen2.5-7B-Instruct-Q4_K_M.gguf
    """
    from clinex_edge.files.write import FORMATS, write_records
    from clinex_edge.pipeline.pipeline import Pipeline

    if format is None:
        format = "table" if output is None and sys.stdout.isatty() else _format_of(output)
    if format == "table" and output is not None:
        raise click.UsageError("A table cannot go to a file. Use --format json, jsonl or csv with --output.")
    if output is not None:
        _check_output(output, paths)
    with progress(paths) as (finished, stage):
        pipeline = Pipeline(
            settings["model"],
            settings["translator"],
            task=settings["task"],
            decoder=settings["decoder"],
            translate=not settings["no_translate"],
            options=options.load_options(settings["ctx_size"], settings["threads"], settings["gpu_layers"]),
            progress=stage,
        )
        _notices(pipeline)
        records: list[Record] = []
        with pipeline:
            for record in _extract_each(pipeline, paths, encoding, language):
                records.append(record)
                finished()
                if output is None and format == "jsonl":
                    click.echo(FORMATS["jsonl"]([record]), nl=False)
                elif format == "table" and record.error is None:
                    _show(record, pipeline)
    if output is not None:
        write_records(output, format, records)
    elif format in ("json", "csv"):
        click.echo(FORMATS[format](records), nl=False)
    if all(record.status == "failed" for record in records):
        return 1
    return 0 if all(record.status == "complete" for record in records) else INCOMPLETE


def _extract_each(pipeline: "Pipeline", paths: tuple[str, ...], encoding: str, language: str | None) -> Iterator["Record"]:
    """The record of each path, in order; a document that cannot be read is reported and becomes a failed record."""
    from dataclasses import replace

    from clinex_edge.files.read import read_document
    from clinex_edge.pipeline.record import Record

    failures: deque[Record | None] = deque()  # of the paths read so far; None for a document

    def documents() -> Iterator["Document"]:
        for path, identifier in zip(paths, _identifiers(paths), strict=True):
            try:
                document = read_document(path, encoding, language)
                failures.append(None)
                yield replace(document, id=identifier)
            except InputError as error:
                report(error)
                failures.append(Record.failed(identifier, Path(path).name, pipeline.task.name, str(error)))

    for record in pipeline.extract_all(documents()):
        while failure := failures.popleft():
            yield failure
        yield record
    yield from (failure for failure in failures if failure)


def _identifiers(paths: tuple[str, ...]) -> list[str]:
    """Each file's name up to the first dot; the whole path where two would be alike, numbered where it is given twice."""
    from clinex_edge.files.read import short_name

    names = [short_name(path) for path in paths]
    unique = [path if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    return [f"{name}#{unique[:i].count(name) + 1}" if name in unique[:i] else name for i, name in enumerate(unique)]


def _check_output(output: Path, paths: tuple[str, ...]) -> None:
    """Find out before the work, not after it, that a result could not be written or would replace a document."""
    if output.is_dir():
        raise OutputError(f"{output} is a folder.", f"Name a file in it, for example: {output / 'answers.jsonl'}")
    if output.parent.exists() and not os.access(output.parent, os.W_OK):
        raise OutputError(f"The folder {output.parent} is not writable.", "Give another --output.")
    if any(path != "-" and os.path.realpath(path) == os.path.realpath(output) for path in paths):
        raise OutputError(f"{output} is one of the documents.", "Give another --output; nothing was changed.")


def _format_of(output: Path | None) -> str:
    """The format that a file's name asks for."""
    suffix = output.suffix.lstrip(".").lower() if output else ""
    return suffix if suffix in ("json", "csv") else "jsonl"


def _notices(pipeline: "Pipeline") -> None:
    used = [pipeline.extractor_spec, *([pipeline.translator_spec] if pipeline.translates else [])]
    for text in dict.fromkeys(spec.notice for spec in used if spec.notice):
        notice(text)


def _show(record: "Record", pipeline: "Pipeline") -> None:
    from clinex_edge.cli.table import show

    show(record, pipeline.task)
