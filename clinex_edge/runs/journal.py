"""Events that are only ever appended, each chained to the one before by its sha256, so that any later change shows."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clinex_edge.atomic import append_durably, open_private
from clinex_edge.errors import RunError

JOURNAL = "journal.jsonl"  # its name in a run's folder
START = "0" * 64  # what the first event is chained to
Event = dict[str, Any]


class Line(NamedTuple):
    """One event, the sha256 of its line, and where the line ends in the file (bytes)."""

    event: Event
    sha256: str
    end: int


def read(path: Path) -> Iterator[Line]:
    """The events of a journal, in order, each checked against the one before. A last line that a power cut tore is left out.

    Raises RunError where a whole line is not as it was written, and OSError.
    """
    previous, end = START, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            event = _event(line, previous)
            if event is None:
                raise RunError(
                    f"{path}, line {number}, is not as it was written.",
                    "Somebody or a failing disk changed it. Start a new run in another folder; keep this one as it is if it is evidence.",
                )
            previous, end = hashlib.sha256(line).hexdigest(), end + len(line)
            yield Line(event, previous, end)


class Journal:
    """A journal opened for appending."""

    def __init__(self, path: Path, take: Callable[[Event], None] = lambda event: None):
        """`take` is given each event that is there already. Raises RunError as `read` does, and OSError."""
        self.head, self._end = START, 0
        self._file = open_private(path)
        try:
            for line in read(path):
                take(line.event)
                self.head, self._end = line.sha256, line.end
        except BaseException:
            self._file.close()
            raise

    def append(self, event: Event) -> None:
        """Add an event and wait until it is on the disk. Raises OSError; the event is then not in the journal."""
        line = json.dumps({**event, "previous": self.head}).encode() + b"\n"
        append_durably(self._file, self._end, line)
        self.head, self._end = hashlib.sha256(line).hexdigest(), self._end + len(line)

    def close(self) -> None:
        self._file.close()


def _event(line: bytes, previous: str) -> Event | None:
    try:
        event = json.loads(line)
        return event if event.pop("previous") == previous else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
