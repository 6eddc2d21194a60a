"""Who ran what, when, and on which fingerprints: a journal of all runs of this user, which says nothing about a document.

It also keeps the last link of each run's own journal, so that one that was cut short or written anew shows.
"""

import getpass
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock

from clinex_edge import paths
from clinex_edge.errors import OutputError, RunError
from clinex_edge.runs.journal import Event, Journal, read


def log_path() -> Path:
    return paths.state_dir() / "audit.jsonl"


def note(event: Event) -> None:
    """Add an event. Raises RunError where the log was changed, and OutputError where it cannot be written."""
    path = log_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.with_suffix(".lock"), mode=0o600), _opened(path) as journal:
            journal.append(event)
    except RunError as error:
        raise RunError(str(error), f"Keep {path} elsewhere as evidence: once it is moved away, a new audit log begins.") from error
    except OSError as error:
        raise OutputError(
            f"The audit log {path} cannot be written: {error.strerror}.", "Free some space, or let CLINEX_HOME name another folder."
        ) from error


def events() -> Iterator[Event]:
    """All events so far, oldest first. Raises RunError where the log was changed."""
    if log_path().exists():
        for line in read(log_path()):
            yield line.event


def actor() -> dict[str, Any]:
    """Who acts, on which machine, and when (UTC)."""
    return {"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "by": _user(), "host": platform.node()}


@contextmanager
def _opened(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    try:
        yield journal
    finally:
        journal.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return "unknown"
