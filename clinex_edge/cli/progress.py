"""How far the work is, on stderr: a line on a terminal, JSON Lines for other programs, nothing in a pipe."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from clinex_edge.runs.pace import Pace

_QUIET_SECONDS = 2.0
_JSON_SECONDS = 1.0  # between two lines


@contextmanager
def progress(documents: int, label: str = "", as_json: bool = False) -> Iterator["Pace"]:
    """Show the pace of the work that is done inside the block. `label` names a single document.

    The line on a terminal appears once the work has taken two seconds, and is gone in the end.
    """
    from clinex_edge.runs.pace import Pace

    if as_json:
        pace = Pace(documents, _throttled(_print_json))
        yield pace
        _print_json(pace)
    elif sys.stderr.isatty():
        with _line(label) as show:
            yield Pace(documents, show)
    else:
        yield Pace(documents)


def duration(seconds: float) -> str:
    """In the two largest units, such as "2 d 3 h"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{minutes} min" if minutes else "less than a minute"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


@contextmanager
def _line(label: str) -> Iterator[Callable[["Pace"], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(10), TextColumn("{task.fields[facts]}", markup=False))
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None, facts="")
    started = time.monotonic()

    def show(pace: "Pace") -> None:
        if time.monotonic() - started < _QUIET_SECONDS:
            return
        bar.start()
        stage, done, steps = pace.stage
        step = f"{stage} {done}/{steps}" if steps else stage
        if pace.total == 1:
            bar.update(task, description=f"{label} {step}", completed=done, total=steps or None)
        else:
            bar.update(task, description=step, completed=pace.settled.total(), total=pace.total, facts=_facts(pace))

    try:
        yield show
    finally:
        bar.stop()


def _facts(pace: "Pace") -> str:
    facts = [f"{pace.settled.total():,} of {pace.total:,}"]
    if failed := pace.settled["failed"]:
        facts.append(f"{failed:,} failed")
    if pace.per_hour:
        facts.append(f"{pace.per_hour:,.0f}/h")
    if pace.eta is not None:
        facts.append(f"{duration(pace.eta)} left")
    return " · ".join(facts)


def _print_json(pace: "Pace") -> None:
    click.echo(json.dumps({"event": "progress", **pace.to_dict()}), err=True)


def _throttled(show: Callable[["Pace"], None]) -> Callable[["Pace"], None]:
    last = float("-inf")

    def seldom(pace: "Pace") -> None:
        nonlocal last
        if time.monotonic() - last >= _JSON_SECONDS:
            last = time.monotonic()
            show(pace)

    return seldom
