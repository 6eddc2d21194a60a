"""clinex-edge runs"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clinex_edge.cli.messages import tell_missing_shards
from clinex_edge.cli.offline import GuardedGroup
from clinex_edge.cli.working import INTERRUPTED, work_on

if TYPE_CHECKING:
    from clinex_edge.runs.history import History

_SHOWN = 20  # failures, without --all


@click.group(cls=GuardedGroup)
def runs() -> None:
    """Runs over many documents (extract --run): what has become of them, and whether anything was changed since.

    \b
      clinex-edge runs list
      clinex-edge runs show run/
      clinex-edge runs retry run/
      clinex-edge runs verify run/
    """


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run.")
def list_runs(as_json: bool) -> None:
    """List the runs that you have started on this machine, the latest last."""
    from clinex_edge.runs import audit

    folders = dict.fromkeys(event["folder"] for event in audit.events())
    rows = [_summary(Path(folder)) for folder in folders]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    if not rows:
        click.echo("No runs yet. Start one: clinex-edge extract calls/ --run run/", err=True)
    for row in rows:
        counts = f"{row['documents']:,} documents, {_counted(row['counts'])}" if row["documents"] else ""
        click.echo(f"{row['folder']}\n  {row['state']}{', begun ' + row['began'] if row['began'] else ''}  {counts}")


@runs.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--all", "show_all", is_flag=True, help="Every document that failed, not just the first 20.")
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def show(folder: Path, show_all: bool, as_json: bool) -> None:
    """Show how far a run is, what failed and why, and what it runs on."""
    from clinex_edge.runs.history import History
    from clinex_edge.runs.shards import parts

    tell_missing_shards(folder)
    for part in parts(folder):
        history = History.of(part)
        failed = {name: state for name, state in history.states.items() if state.status == "failed"}
        summary = _summary(part)
        if as_json:
            failures = [{"id": name, "attempts": state.attempts, "error": state.error} for name, state in failed.items()]
            click.echo(json.dumps({**summary, "failures": failures, "sessions": history.started}, ensure_ascii=False))
            continue
        click.echo(f"{part}: {summary['state']}")
        click.echo(f"  documents  {summary['documents']:,}: {_counted(summary['counts'])}")
        first, last = history.started[0], history.started[-1]
        click.echo(f"  begun      {first['at']} by {first['by']} on {first['host']}")
        if first is not last:
            click.echo(f"  gone on    {last['at']} by {last['by']} on {last['host']} (session {len(history.started)})")
        for name, value in last["settings"].items():
            if plain := _plain(value):
                click.echo(f"  {name:<10} {plain}")
        for name, digest in first["fingerprints"].items():
            click.echo(f"  sha256     {name} {digest}")
        for name, state in list(failed.items())[: None if show_all else _SHOWN]:
            times = f", tried {state.attempts} times" if state.attempts > 1 else ""
            click.echo(f"  failed     {name}: {state.error}{times}")
        if len(failed) > _SHOWN and not show_all:
            click.echo(f"  … and {len(failed) - _SHOWN:,} more: --all")


@runs.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dask", metavar="ADDRESS", help="Compute on the workers of this Dask scheduler. Texts are sent to them.")
@click.option("--json-progress", is_flag=True, help="Tell progress on stderr as JSON Lines, for other programs.")
def retry(folder: Path, dask: str | None, json_progress: bool) -> int:
    """Try the documents that failed again, and go on with what is left, with the options of the last time."""
    from clinex_edge.runs.history import History
    from clinex_edge.runs.settings import Settings
    from clinex_edge.runs.shards import parts

    status = 0
    for part in parts(folder):
        status = max(status, work_on(part, Settings.from_dict(History.of(part).settings), json_progress, dask))
        if status == INTERRUPTED:
            break
    return status


@runs.command()
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> int:
    """Check that the journal, the records and the audit log are as they were written; exit status 1 where they are not."""
    from clinex_edge.runs.shards import parts
    from clinex_edge.runs.verify import findings

    status = 0
    for part in parts(folder):
        found = findings(part)
        click.echo(f"{part}: {'as it was written' if not found else 'NOT as it was written'}")
        for finding in found:
            click.echo(f"  {finding}")
            status = 1
    return status


def _summary(folder: Path) -> dict[str, Any]:
    """What a run's folder tells, in JSON form."""
    from clinex_edge.errors import RunError
    from clinex_edge.runs.history import History
    from clinex_edge.runs.run import is_busy

    try:
        history = History.of(folder)
    except RunError:
        state = "changed" if (folder / "journal.jsonl").exists() else "gone"
        return {"folder": str(folder), "state": state, "began": None, "documents": None, "counts": {}}
    last = history.started[-1]
    return {
        "folder": str(folder),
        "state": "running" if is_busy(folder) else _state(history, last["documents"]),
        "began": history.started[0]["at"],
        "documents": last["documents"],
        "counts": dict(history.counts),
    }


def _state(history: "History", documents: int) -> str:
    if history.counts.total() < documents:
        return "stopped" if history.stopped else "interrupted"
    return "finished"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in counts.items()) or "none done yet"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items() if part is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
