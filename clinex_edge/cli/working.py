"""Work on a run's folder, for `extract --run` and `runs retry`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clinex_edge.cli.messages import notice, notices
from clinex_edge.cli.progress import progress
from clinex_edge.cli.stopping import asked_to_stop

if TYPE_CHECKING:
    from clinex_edge.runs.settings import Settings

INCOMPLETE, INTERRUPTED = 3, 130


def work_on(folder: Path, settings: "Settings", as_json: bool = False, scheduler: str | None = None) -> int:
    """Start the run or go on with it, and return the exit status. Raises ClinexError."""
    from clinex_edge.runs.local import Local
    from clinex_edge.runs.run import Run
    from clinex_edge.runs.work import work_through
    from clinex_edge.runs.worker import Worker

    fingerprints = settings.fingerprints()
    notices(settings.models().values())
    documents = sum(1 for _ in settings.sources(notice))
    stopping = "Finishing the documents at hand. Again: stop at once; what is done is kept either way."
    with (
        Run(folder, settings.to_dict(), fingerprints, documents) as run,
        progress(documents, as_json=as_json) as pace,
        Worker(settings, fingerprints, pace.enter) as worker,
    ):
        interrupted = False
        try:
            with asked_to_stop(stopping) as stop:
                for status in work_through(run, settings.sources(), settings.task, Local(worker), stop):
                    pace.settle(status)
                interrupted = stop()
        except KeyboardInterrupt:
            interrupted = True
        counts = run.history.counts
    return _told(folder, counts, documents, pace.settled.total() if interrupted else documents)


def _told(folder: Path, counts: Counter[str], documents: int, passed: int) -> int:
    """Say on stderr what came of it and what can be done next; returns the exit status. `passed` documents were looked at."""
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("complete", "partial", "failed") if counts[kind])
    if passed < documents:
        click.echo(f"Stopped after {passed:,} of {documents:,} documents ({kinds or 'none'}).", err=True)
        click.echo(f"Go on with: clinex-edge extract --run {folder} --resume", err=True)
        return INTERRUPTED
    click.echo(f"{counts.total():,} documents: {kinds}. A table of them: clinex-edge convert {folder} --to answers.xlsx", err=True)
    if counts["failed"]:
        click.echo(f"Why some failed: clinex-edge runs show {folder}. Try them again: clinex-edge runs retry {folder}", err=True)
    if counts["failed"] == counts.total():
        return 1
    return 0 if counts["complete"] == counts.total() else INCOMPLETE
