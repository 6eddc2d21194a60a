"""What is said on stderr: errors, notices, progress."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
def progress(documents: int) -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int], None]]]:
    """A progress line on a terminal's stderr, shown once the work has taken two seconds.

    Yields two functions: one to call as each document begins (with its id), one for the stages of a document.
    """
    if not sys.stderr.isatty():
        yield (lambda name: None), (lambda stage, done, total: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("loading", total=None)
    begun: list[str] = []
    started = time.monotonic()

    def begin(name: str) -> None:
        begun.append(name)

    def stage(name: str, done: int, total: int) -> None:
        if time.monotonic() - started > _QUIET_SECONDS:
            bar.start()
        label = f"{begun[-1]} " if documents == 1 else f"{begun[-1]} ({len(begun)} of {documents}) "
        bar.update(task, description=label + name, completed=done, total=total)

    try:
        yield begin, stage
    finally:
        bar.stop()
