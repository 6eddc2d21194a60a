"""Ctrl-C and SIGTERM: the first one asks, the second one interrupts."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click


@contextmanager
def asked_to_stop(said: str) -> Iterator[Callable[[], bool]]:
    """Yields whether somebody asked to stop, which is answered with `said`. The second time KeyboardInterrupt is raised."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        click.echo(said, err=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
