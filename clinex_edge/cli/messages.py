"""What is said on stderr: errors, notices, progress."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from clinex_edge.errors import ClinexError

_QUIET_SECONDS = 2.0


def report(error: ClinexError) -> None:
    """Print an error and its hint."""
    click.echo(f"Error: {error}", err=True)
    if error.hint:
        click.echo(error.hint, err=True)


def notice(text: str) -> None:
    click.secho(f"Note: {text}", err=True, dim=True)


@contextmanager
def progress(documents: Sequence[str]) -> Iterator[tuple[Callable[[], None], Callable[[str, int, int], None]]]:
    """A progress line on a terminal's stderr, shown once the work has taken two seconds.

    Yields two functions: one to call when a document is finished, one for the steps of a stage.
    """
    if not sys.stderr.isatty():
        yield (lambda: None), (lambda stage, done, total: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("loading", total=None)
    count = 0
    started = time.monotonic()

    def finished() -> None:
        nonlocal count
        count += 1

    def stage(name: str, done: int, total: int) -> None:
        if time.monotonic() - started > _QUIET_SECONDS:
            bar.start()
        label = Path(documents[0]).name if len(documents) == 1 else f"{count + 1} of {len(documents)}"
        bar.update(task, description=f"{label} {name}", completed=done, total=total)

    try:
        yield finished, stage
    finally:
        bar.stop()
