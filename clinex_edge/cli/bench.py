"""clinex-edge bench"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clinex_edge.cli import options
from clinex_edge.cli.messages import notice, notices, report
from clinex_edge.cli.offline import GuardedGroup
from clinex_edge.cli.progress import progress
from clinex_edge.cli.stopping import asked_to_stop
from clinex_edge.cli.working import INCOMPLETE, INTERRUPTED
from clinex_edge.errors import ClinexError, RunError

if TYPE_CHECKING:
    import pandas as pd

    from clinex_edge.bench.columns import Asked
    from clinex_edge.bench.data import LabelledSet
    from clinex_edge.bench.folder import Bench, System
    from clinex_edge.bench.predictions import Predictions
    from clinex_edge.runs.settings import Loading

_EXAMPLE = "examples/synthetic-calls.jsonl"
_EXAMPLE_MODEL = "clinex-demo"
_SHOWN = ("macro_f1", "mcc", "sensitivity", "specificity", "precision", "missing_rate")


@click.group(cls=GuardedGroup)
def bench() -> None:
    """Compare models on documents whose answers are known, and report how good, how fast and how sure they are.

    \b
      clinex-edge bench run --example                          the embedded model on invented calls, in a few minutes
      clinex-edge bench run labelled.xlsx --models qwen2.5-7b,llama-3.1-8b --translator aya-expanse-8b
      clinex-edge bench report bench-labelled/ --no-text       the report again, without texts of documents
      clinex-edge bench compare bench-labelled/runs/A bench-labelled/runs/B
      clinex-edge bench score answers.csv labelled.xlsx        answers of another tool
    """


def _columns(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which column of a table holds what."""
    for role in ("reference", "group", "file", "text", "id"):
        command = click.option(f"--{role}-column", metavar="NAME", help=f"Column of {_ROLES[role]}.  [default: guessed]")(command)
    return click.option("--column", "columns", metavar="FIELD=NAME", multiple=True, help="Column of a field. Can be repeated.")(command)


_ROLES = {
    "id": "the documents' names",
    "text": "their texts",
    "file": "names of the files that hold the texts",
    "group": "what belongs together, such as the patient",
    "reference": "translations made by people",
}


@bench.command()
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--models", metavar="A,B", help="Models that answer: names of models.toml or .gguf files.  [default: the usual one]")
@click.option("--conditions", default="translated,native", show_default=True, help="Read a translation, the text itself, or both.")
@click.option("--decoders", metavar="A,B", help="joint, independent, gbnf, free.  [default: joint; for the example joint,free]")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Times that all is run, to measure its speed.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many documents.")
@click.option("--task", default="palliative-call", show_default=True, help="What to ask; see: clinex-edge tasks list")
@click.option("--baselines/--no-baselines", default=True, help="Also score what can be had without a language model.")
@options.loading
@_columns
@click.option("--encoding", default="utf-8", show_default=True, help="utf-8, utf-16 or windows-1256.")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder of the benchmark.  [default: bench- and the name of DATA]")
@click.option("--resume", is_flag=True, help="Go on with --to as it was begun; DATA and options are taken from it.")
@click.option("--example", is_flag=True, help="Use the invented calls that clinex-edge brings along.")
@click.option("--no-text", is_flag=True, help="Leave texts of documents out of the report.")
@click.option("--json-progress", is_flag=True, help="Tell progress on stderr as JSON Lines, for other programs.")
def run(
    data: Path | None, folder: Path | None, resume: bool, example: bool, no_text: bool, json_progress: bool, **given: Any
) -> int:  # fmt: skip
    """Run every model on DATA, under each condition and with each decoder, and write a report.

    DATA is a table (.csv, .tsv, .xlsx, .jsonl, .parquet) with a document a row: its id, its text (or the name of a file that holds it), and
    a column for each field with yes or no (true, 1, بله ...); an empty cell is not scored. A column that says which patient a document is
    of keeps documents of one patient together in all statistics.

    \b
      clinex-edge bench run --example
      clinex-edge bench run labelled.csv --models qwen2.5-1.5b,/media/usb/model.gguf --conditions native
      clinex-edge bench run labelled.xlsx --decoders joint,independent,free --limit 50 --to trial/
      clinex-edge bench run labelled.xlsx --column pain=درد --group-column پرونده

    After Ctrl-C, a crash or a power cut the same command goes on where it was.
    """
    from clinex_edge.bench.folder import read_bench
    from clinex_edge.runs.settings import Loading

    loading = options.load_options(given["ctx_size"], given["threads"], given["gpu_layers"])
    if sum((data is not None, resume, example)) != 1:
        raise click.UsageError("Name either DATA, or --example, or --resume with --to FOLDER.")
    if resume:
        if folder is None:
            raise click.UsageError("--resume needs --to FOLDER.")
        begun = read_bench(folder)
    else:
        begun = _begun(data, folder, given)
    return _work_on(begun, Loading(loading.threads, loading.gpu_layers), not no_text, json_progress)


def _begun(data: Path | None, folder: Path | None, given: dict[str, Any]) -> "Bench":
    """The benchmark of these options, begun now or before."""
    from clinex_edge import paths
    from clinex_edge.bench.folder import Plan, begin_bench
    from clinex_edge.bench.labelled import read_labelled
    from clinex_edge.bench.run import systems_of
    from clinex_edge.tasks import load_task

    usual = _EXAMPLE_MODEL if data is None else None
    plan = Plan(
        models=tuple(map(options.absolute_model, _listed(given["models"]))) if given["models"] else (usual,),
        translator=options.absolute_model(given["translator"]) or usual,
        task=given["task"],
        conditions=_listed(given["conditions"]),
        decoders=_listed(given["decoders"] or ("joint" if data else "joint,free")),
        repeat=given["repeat"],
        limit=given["limit"],
        ctx_size=given["ctx_size"],
        baselines=given["baselines"],
    )
    asked = _asked({role: given[f"{role}_column"] for role in _ROLES}, given["columns"])
    labelled = read_labelled(data or paths.builtin(_EXAMPLE), load_task(plan.task), asked, given["encoding"], notice)
    labelled = _first(labelled, plan.limit)
    folder = folder or Path(f"bench-{data.stem if data else 'example'}")
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return begin_bench(folder, plan, systems_of(plan, labelled, notice), labelled, started)


def _listed(names: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in names.split(",") if name.strip())
    if not found:
        raise click.UsageError("A list of names is empty.")
    return found


def _asked(roles: Mapping[str, str | None], fields: Sequence[str]) -> "Asked":
    from clinex_edge.bench.columns import Asked

    pairs = [field.partition("=") for field in fields]
    if any(not name or not field for field, _, name in pairs):
        raise click.UsageError("--column takes a field and the name of its column, such as: --column pain=PAIN")
    return Asked(**roles, fields={field: name for field, _, name in pairs})


def _asked_of_data(columns: Sequence[str]) -> "Asked":
    roles = {what: name for what, _, name in (column.partition("=") for column in columns) if what in _ROLES}
    return _asked(roles, [column for column in columns if column.partition("=")[0] not in _ROLES])


def _first(labelled: "LabelledSet", limit: int | None) -> "LabelledSet":
    if limit is None or limit >= len(labelled.examples):
        return labelled
    notice(f"Only the first {limit:,} of {len(labelled.examples):,} documents are used (--limit).")
    examples = labelled.examples[:limit]
    return replace(labelled, examples=examples, fields=tuple(f for f in labelled.fields if any(f in e.labels for e in examples)))


class _Told:
    """Says on stderr how the work goes on."""

    def __init__(self, systems: int):
        self._systems = systems
        self.given_up = 0

    def begins(self, number: int, system: "System") -> None:
        repeat = f", again ({system.repeat})" if system.repeat > 1 else ""
        click.echo(f"{number} of {self._systems}: {system.name}{repeat}", err=True)

    def gives_up(self, system: "System", error: ClinexError) -> None:
        self.given_up += 1
        click.echo(f"{system.name} cannot go on:", err=True)
        report(error)


def _work_on(bench: "Bench", loading: "Loading", with_text: bool, as_json: bool) -> int:
    from clinex_edge.bench.baselines import write_baselines
    from clinex_edge.bench.report import write_report
    from clinex_edge.bench.run import run_systems
    from clinex_edge.tasks import load_task

    notices(spec for system in bench.systems for spec in bench.settings(system).models().values())
    told, counts = _Told(len(bench.systems)), Counter[str]()
    interrupted = False
    documents = len(bench.labelled.examples) * len(bench.systems)
    with progress(documents, as_json=as_json) as pace:
        try:
            with asked_to_stop("Finishing the documents at hand. Again: stop at once; what is done is kept either way.") as stop:
                for _, found in run_systems(bench, loading, pace, told, stop):
                    counts += found
                interrupted = stop()
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        click.echo(f"Stopped. Go on with: clinex-edge bench run --resume --to {bench.folder}", err=True)
        return INTERRUPTED
    if told.given_up == len(bench.systems):
        return 1
    if bench.plan.baselines:
        write_baselines(bench, load_task(bench.plan.task), notice)
    _print(_medians(bench.predictions()))
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("complete", "partial", "failed") if counts[kind])
    click.echo(f"{len(bench.labelled.examples):,} documents, {len(bench.systems)} runs: {kinds or 'none'}.", err=True)
    click.echo(f"Report: {write_report(bench.folder, [bench.folder], with_text)}", err=True)
    if told.given_up or counts["failed"] == counts.total():
        return 1
    return 0 if counts["complete"] == counts.total() else INCOMPLETE


@bench.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="BENCH...", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder of the report.  [default: that of the benchmark]")
@click.option("--no-text", is_flag=True, help="Leave texts of documents out.")
def write(runs: tuple[Path, ...], folder: Path | None, no_text: bool) -> None:
    """Write the report of a benchmark again, or one of several on the same documents. No model is needed.

    \b
      clinex-edge bench report bench-labelled/
      clinex-edge bench report monday/ tuesday/ --to both/ --no-text
    """
    from clinex_edge.bench.report import write_report

    if folder is None and len(runs) > 1:
        raise click.UsageError("A report of several benchmarks needs a folder of its own: --to FOLDER")
    click.echo(write_report(folder or runs[0], runs, not no_text))


@bench.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each pair.")
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Say whether A is better than B, or whether these documents cannot tell.

    A and B are benchmarks, whose systems of the same name are compared, or one system each: its run, or a baseline's file.

    \b
      clinex-edge bench compare monday/ tuesday/
      clinex-edge bench compare bench-calls/runs/qwen2.5-7b.native.joint bench-calls/baselines/majority.jsonl
    """
    from clinex_edge.bench.compare import compare as compared
    from clinex_edge.bench.intervals import resample

    for a, b in _pairs(first, second):
        found = compared(resample(a), resample(b))
        if as_json:
            said: dict[str, Any] = {"a": found.a, "b": found.b, "verdict": found.verdict, "test": found.test}
            said["differences"] = {metric: vars(difference) for metric, difference in found.differences.items()}
            said["fields"] = found.fields.to_dict(orient="index")
            click.echo(json.dumps(_without_nan(said), ensure_ascii=False))
        else:
            click.echo(found.words())
            _print(found.fields)


def _pairs(first: Path, second: Path) -> Iterator[tuple["Predictions", "Predictions"]]:
    """What to compare, under names that tell the two apart."""
    of_a, of_b = ({predictions.name: predictions for predictions in _systems(path)} for path in (first, second))
    names = [(name, name) for name in of_a if name in of_b]
    if len(of_a) == len(of_b) == 1:
        names = list(zip(of_a, of_b, strict=True))
    if not names:
        raise RunError(
            f"{first} and {second} have no system in common.",
            f"Name one run of each, such as {first}/runs/… and {second}/runs/… Theirs: {', '.join([*of_a, *of_b])}.",
        )
    for a, b in names:
        is_same = a == b
        yield (
            replace(of_a[a], name=f"{a} ({first})" if is_same else a),
            replace(of_b[b], name=f"{b} ({second})" if is_same else b),
        )


def _systems(path: Path) -> list["Predictions"]:
    """Those of a benchmark, or the one that a run's folder or a file of records in a benchmark holds."""
    from clinex_edge.bench.folder import ABOUT, read_bench
    from clinex_edge.bench.predictions import Predictions
    from clinex_edge.files.records import read_records as read_file
    from clinex_edge.runs.history import read_records

    if (path / ABOUT).exists() or not (path.resolve().parent.parent / ABOUT).exists():
        return list(read_bench(path).predictions())
    bench, name = read_bench(path.resolve().parent.parent), path.resolve().name
    titles = {system.folder: system.name for system in bench.systems}
    if path.is_dir():
        return [Predictions.of(titles.get(name, name), bench.labelled, read_records(path))]
    return [Predictions.of(path.stem, bench.labelled, read_file(path))]


@bench.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--task", default="palliative-call", show_default=True, help="Whose fields they are.")
@click.option("--id-column", metavar="NAME", help="Column of PREDICTIONS with the documents' names.  [default: guessed]")
@click.option("--column", "columns", metavar="FIELD=NAME", multiple=True, help="Column of PREDICTIONS with a field. Can be repeated.")
@click.option("--data-column", "data_columns", metavar="WHAT=NAME", multiple=True,
              help="Column of DATA; WHAT is id, text, file, group, reference or a field. Can be repeated.")  # fmt: skip
@click.option("--encoding", default="utf-8", show_default=True, help="utf-8, utf-16 or windows-1256.")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def score(
    predictions: Path, data: Path, task: str, id_column: str | None, columns: tuple[str, ...], data_columns: tuple[str, ...],
    encoding: str, as_json: bool,
) -> None:  # fmt: skip
    """Score answers that were made elsewhere, by clinex-edge or any other tool.

    PREDICTIONS is a run's folder, a file of records, or a table with a column of ids and one for each field: yes or no, or a probability.
    DATA is a labelled table as for bench run, or the folder of a benchmark. A missing answer counts as no, and is counted.

    \b
      clinex-edge bench score answers.csv labelled.xlsx
      clinex-edge bench score run/ labelled.csv --data-column id=case --json
    """
    from clinex_edge.bench.folder import read_bench
    from clinex_edge.bench.intervals import intervals, median_intervals, resample
    from clinex_edge.bench.labelled import read_labelled
    from clinex_edge.bench.metrics import by_field, medians
    from clinex_edge.bench.predicted import read_predictions
    from clinex_edge.tasks import load_task

    known = load_task(task)
    is_bench = data.is_dir()
    labelled = read_bench(data).labelled if is_bench else read_labelled(data, known, _asked_of_data(data_columns), encoding, notice)
    found = read_predictions(predictions, labelled, known, _asked({"id": id_column}, columns), encoding, notice)
    resampled = resample(found)
    table = by_field(found)
    middle = medians(table).join(median_intervals(resampled))
    if as_json:
        ends = intervals(resampled)
        fields = {
            str(field): {
                name: {"value": value, "low": ends.at[field, (name, "low")], "high": ends.at[field, (name, "high")]}
                if (name, "low") in ends
                else value
                for name, value in row.items()
            }
            for field, row in table.iterrows()
        }
        said = {"name": found.name, "documents": len(found.ids), "medians": middle.to_dict(orient="index"), "fields": fields}
        click.echo(json.dumps(_without_nan(said), ensure_ascii=False))
        return
    _print(table[["labelled", "positives", "missing", *_SHOWN]])
    click.echo("\nMedians over the fields, with quartiles and the 95 % interval of the median")
    _print(middle)


def _medians(systems: Iterator["Predictions"]) -> "pd.DataFrame":
    """A row for each system: medians over the fields."""
    import pandas as pd

    from clinex_edge.bench.metrics import by_field, medians

    return pd.DataFrame({predictions.name: medians(by_field(predictions))["median"][list(_SHOWN)] for predictions in systems}).T


def _print(table: "pd.DataFrame") -> None:
    click.echo(table.to_string(float_format=lambda value: "<0.001" if 0 < value < 0.0005 else f"{value:.3f}", na_rep="-"))


def _without_nan(value: Any) -> Any:
    """JSON has no nan; null stands for it."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else getattr(value, "item", lambda: value)()
