"""clinex-edge extract"""

import os
import re
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clinex_edge.cli import options
from clinex_edge.cli.messages import notice, notices, report
from clinex_edge.cli.offline import GuardedCommand
from clinex_edge.cli.progress import progress
from clinex_edge.cli.working import INCOMPLETE, work_on
from clinex_edge.errors import InputError, OutputError

if TYPE_CHECKING:
    from clinex_edge.documents import Document
    from clinex_edge.files.sources import Source
    from clinex_edge.pipeline.pipeline import Pipeline
    from clinex_edge.pipeline.record import Record
    from clinex_edge.runs.pace import Pace
    from clinex_edge.runs.settings import Settings


@click.command(cls=GuardedCommand)
@click.argument("paths", nargs=-1, metavar="PATH... [-]")
@click.option("-m", "--model", metavar="NAME|FILE", help="Model that answers: a name of models.toml or a .gguf file.")
@options.loading
@click.option("--task", default="palliative-call", show_default=True, help="What to ask; see: clinex-edge tasks list")
@click.option("--decoder", default="joint", show_default=True, help="joint, independent, gbnf or free.")
@click.option("--no-translate", is_flag=True, help="Read the source language directly.")
@options.reading
@click.option("--pattern", metavar="GLOB", help="Which files of a folder, such as '*.log'.  [default: all kinds that can be read]")
@click.option("--id-column", metavar="NAME", help="Column of a table that names the documents.  [default: guessed]")
@click.option("--text-column", metavar="NAME", help="Column of a table that holds the texts.  [default: guessed]")
@click.option("--format", "format", type=click.Choice(["table", "json", "jsonl", "csv", "xlsx", "parquet"]),
              help="[default: table in a terminal, else jsonl; of a file, by its name]")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="Write to a file (readable by you only) instead of stdout.")
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Keep the records in this folder; what is interrupted can go on.")
@click.option("--resume", is_flag=True, help="Go on with --run as it was begun; PATH and options are taken from it.")
@click.option("--shard", metavar="I/N", callback=lambda context, option, value: _shard(value), help="Only the I-th of N parts of --run.")
@click.option("--dask", metavar="ADDRESS", help="Compute --run on the workers of this Dask scheduler. Texts are sent to them.")
@click.option("--json-progress", is_flag=True, help="Tell progress on stderr as JSON Lines, for other programs.")
def extract(
    paths: tuple[str, ...], format: str | None, output: Path | None, folder: Path | None, resume: bool, dask: str | None,
    json_progress: bool, **given: Any,
) -> int:  # fmt: skip
    """Answer a task's questions about documents.

    PATH is a text file, .docx or .pdf (one document), a table (.csv, .tsv, .xlsx, .jsonl, .parquet: one document a row), a folder of
    these, or "-", standard input. In a text a turn is a line ("Nurse: ..."), or else a sentence.

    \b
      clinex-edge extract examples/call-01.fa.txt
      clinex-edge extract calls.csv --text-column transcript --output answers.xlsx
      clinex-edge extract note.txt --no-translate --decoder independent
      clinex-edge extract call.txt --model /media/usb/Qwen2.5-7B-Instruct-Q4_K_M.gguf

    Many documents, into a folder. After Ctrl-C, a crash or a power cut the same command goes on; failed documents are tried again:

    \b
      clinex-edge extract calls/ --run run/
      clinex-edge convert run/ --to answers.xlsx
    """
    if folder is not None:
        if output or format:
            raise click.UsageError(f"--run keeps JSON Lines. Afterwards: clinex-edge convert {folder} --to answers.xlsx")
        return _in_run(folder, paths, resume, dask, json_progress, given)
    if resume or dask or given["shard"]:
        raise click.UsageError("--resume, --shard and --dask need --run FOLDER.")
    if not paths:
        raise click.UsageError("Missing argument 'PATH...'. Name a file, a folder or - for standard input.")
    return _to_output(_settings(paths, given), format, output, json_progress)


def _in_run(folder: Path, paths: tuple[str, ...], resume: bool, dask: str | None, json_progress: bool, given: dict[str, Any]) -> int:
    from clinex_edge.runs.history import History
    from clinex_edge.runs.settings import Settings
    from clinex_edge.runs.shards import shard_folder

    if "-" in paths:
        raise click.UsageError("A run must be able to read its documents again, and standard input is read once. Name files.")
    if given["shard"]:
        folder = shard_folder(folder, given["shard"])
    if resume and not paths:
        return work_on(folder, Settings.from_dict(History.of(folder).settings), json_progress, dask)
    if not paths:
        raise click.UsageError("Missing argument 'PATH...'. Name files or folders, or --resume to go on with the run as it was begun.")
    _check_apart(folder, paths)
    if resume:
        History.of(folder)
    return work_on(folder, _settings(tuple(os.path.abspath(path) for path in paths), given), json_progress, dask)


def _settings(paths: tuple[str, ...], given: dict[str, Any]) -> "Settings":
    from clinex_edge.files.sources import Reading
    from clinex_edge.runs.settings import Loading, Settings

    loading = options.load_options(given["ctx_size"], given["threads"], given["gpu_layers"])
    return Settings(
        paths,
        Reading(given["encoding"], given["language"], given["pattern"], given["id_column"], given["text_column"]),
        given["shard"],
        options.absolute_model(given["model"]),
        options.absolute_model(given["translator"]),
        given["task"],
        given["decoder"],
        not given["no_translate"],
        loading.ctx_size,
        Loading(loading.threads, loading.gpu_layers),
    )


def _to_output(settings: "Settings", format: str | None, output: Path | None, json_progress: bool) -> int:
    from clinex_edge.files.write import check_library, format_of, write_records, write_stream
    from clinex_edge.llama.model import LoadOptions
    from clinex_edge.pipeline.pipeline import Pipeline

    if format is None:
        format = "table" if output is None and sys.stdout.isatty() else (format_of(output) if output else None) or "jsonl"
    if format == "table" and output is not None:
        raise click.UsageError("A table cannot go to a file. Use --format json, jsonl, csv, xlsx or parquet with --output.")
    if format in ("xlsx", "parquet") and output is None:
        raise click.UsageError(f"{format} goes to a file: give --output answers.{format}")
    if output is not None:
        check_library(format)
        _check_output(output, settings.paths)
    documents = sum(1 for _ in settings.sources(notice))
    statuses: set[str] = set()
    with progress(documents, Path(settings.paths[0]).name, json_progress) as pace:
        pipeline = Pipeline(
            settings.model, settings.translator, task=settings.task, decoder=settings.decoder, translate=settings.translate,
            options=LoadOptions(settings.ctx_size, settings.loading.threads, settings.loading.gpu_layers), progress=pace.enter,
        )  # fmt: skip
        notices(settings.models().values())
        with pipeline:
            records = _counted(_extract_each(pipeline, settings.sources()), pace, statuses)
            fields = pipeline.task.field_ids
            if output is not None:
                labels = {field.id: field.label.get("en", field.id) for field in pipeline.task.fields}
                write_records(output, format, (record.to_dict() for record in records), fields, labels)
            elif format == "table":
                for record in records:
                    _show(record, pipeline)
            else:
                write_stream(sys.stdout, format, (record.to_dict() for record in records), fields)
    if statuses == {"failed"}:
        return 1
    return 0 if statuses <= {"complete"} else INCOMPLETE


def _extract_each(pipeline: "Pipeline", sources: Iterator["Source"]) -> Iterator["Record"]:
    """The record of each source, in order; a document that cannot be read is reported and becomes a failed record."""
    from clinex_edge.pipeline.record import Record

    failures: deque[Record | None] = deque()  # of the sources read so far; None for a document

    def documents() -> Iterator["Document"]:
        for source in sources:
            try:
                document = source.read()
                failures.append(None)
                yield document
            except InputError as error:
                report(error)
                failures.append(Record.failed(source.id, source.name, pipeline.task.name, str(error)))

    for record in pipeline.extract_all(documents()):
        while failure := failures.popleft():
            yield failure
        yield record
    yield from (failure for failure in failures if failure)


def _counted(records: Iterator["Record"], pace: "Pace", statuses: set[str]) -> Iterator["Record"]:
    for record in records:
        statuses.add(record.status)
        yield record
        pace.settle(record.status)


def _check_output(output: Path, paths: tuple[str, ...]) -> None:
    """Find out before the work, not after it, that a result could not be written or would be read as a document."""
    if output.is_dir():
        raise OutputError(f"{output} is a folder.", f"Name a file in it, for example: {output / 'answers.jsonl'}")
    if output.parent.exists() and not os.access(output.parent, os.W_OK):
        raise OutputError(f"The folder {output.parent} is not writable.", "Give another --output.")
    if any(path != "-" and os.path.realpath(path) == os.path.realpath(output) for path in paths):
        raise OutputError(f"{output} is one of the documents.", "Give another --output; nothing was changed.")
    _check_apart(output, paths)


def _check_apart(result: Path, paths: tuple[str, ...]) -> None:
    for path in paths:
        if path != "-" and os.path.isdir(path) and Path(os.path.realpath(result)).is_relative_to(os.path.realpath(path)):
            raise OutputError(f"{result} lies in {path}, so it would be read as documents the next time.", "Give a place outside of it.")


def _shard(value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter("it takes a part and the number of parts, such as 1/8 to 8/8.")
    return int(match[1]), int(match[2])


def _show(record: "Record", pipeline: "Pipeline") -> None:
    from clinex_edge.cli.table import show

    if record.error is None:
        show(record, pipeline.task)
