"""Work on a run's folder, for `extract --run` and `runs retry`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from clinex_edge.cli.messages import notice, notices
from clinex_edge.cli.progress import progress
from clinex_edge.cli.stopping import asked_to_stop

if TYPE_CHECKING:
    from clinex_edge.runs.pace import Pace
    from clinex_edge.runs.settings import Settings
    from clinex_edge.runs.work import Engine

INCOMPLETE, INTERRUPTED = 3, 130


def work_on(folder: Path, settings: "Settings", as_json: bool = False, scheduler: str | None = None) -> int:
    """Start the run or go on with it, and return the exit status. Raises ClinexError."""
    from clinex_edge.runs.run import Run
    from clinex_edge.runs.work import work_through

    fingerprints = settings.fingerprints()
    notices(settings.models().values())
    documents = sum(1 for _ in settings.sources(notice))
    stopping = "Finishing the documents at hand. Again: stop at once; what is done is kept either way."
    with (
        Run(folder, settings.to_dict(), fingerprints, documents) as run,
        progress(documents, as_json=as_json) as pace,
        _engine(settings, fingerprints, pace, scheduler) as engine,
    ):
        interrupted = False
        try:
            with asked_to_stop(stopping) as stop:
                for status in work_through(run, settings.sources(), settings.task, engine, stop):
                    pace.settle(status)
                interrupted = stop()
        except KeyboardInterrupt:
            interrupted = True
        counts = run.history.counts
    return _told(folder, counts, documents, pace.settled.total() if interrupted else documents)


@contextmanager
def _engine(settings: "Settings", fingerprints: dict[str, str], pace: "Pace", scheduler: str | None) -> "Iterator[Engine]":
    from clinex_edge.runs.cluster import Cluster
    from clinex_edge.runs.local import Local
    from clinex_edge.runs.worker import Worker

    if scheduler:
        with Cluster(scheduler, settings, fingerprints, notice) as cluster:
            yield cluster
    else:
        with Worker(settings, fingerprints, pace.enter) as worker:
            yield Local(worker)


def _told(folder: Path, counts: Counter[str], documents: int, passed: int) -> int:
    """Say on stderr what came of it and what can be done next; returns the exit status. `passed` documents were looked at."""
    from clinex_edge.runs.shards import whole_of

    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("complete", "partial", "failed") if counts[kind])
    if passed < documents:
        click.echo(f"Stopped before all {documents:,} documents were read ({kinds or 'none'} so far).", err=True)
        click.echo(f"Go on with: clinex-edge runs retry {quote(str(folder))}", err=True)
        return INTERRUPTED
    if not counts:
        click.echo("No documents: all belong to other shards.", err=True)
        return 0
    click.echo(
        f"{counts.total():,} documents: {kinds}. A table of them: clinex-edge convert {quote(str(whole_of(folder)))} --to answers.xlsx",
        err=True,
    )
    if counts["failed"]:
        name = quote(str(folder))
        click.echo(f"Why some failed: clinex-edge runs show {name}. Try them again: clinex-edge runs retry {name}", err=True)
    if counts["failed"] == counts.total():
        return 1
    return 0 if counts["complete"] == counts.total() else INCOMPLETE
