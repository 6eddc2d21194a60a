"""Whether a run is as it was written: its journal's chain, its records, and what the audit log says of it."""

import hashlib
from pathlib import Path

from clinex_edge.errors import RunError
from clinex_edge.runs import audit, journal
from clinex_edge.runs.history import RECORDS, History
from clinex_edge.runs.journal import JOURNAL
from clinex_edge.runs.run import is_busy


def findings(folder: Path) -> list[str]:
    """What does not fit, in words; empty where all does. Raises RunError where there is no run, and for one that is being worked on."""
    if is_busy(folder):
        raise RunError(f"{folder} is being worked on.", "Verify it when that is done.")
    history, links, named = History(), {journal.START}, set()
    try:
        for line in journal.read(folder / JOURNAL):
            history.take(line.event)
            links.add(line.sha256)
            named.add(line.event.get("record_sha256"))
    except RunError as error:
        return [str(error)]
    except OSError as error:
        raise RunError(f"{folder} holds no run that can be read: {error.strerror}.", "See: clinex-edge runs list") from error
    return [*_of_records(folder / RECORDS, history, named), *_of_audit(folder, history, links)]


def _of_records(path: Path, history: History, named: set[str | None]) -> list[str]:
    """`named` holds the sha256 of every line that the journal has ever named."""
    found = []
    missing, foreign = history.named, 0
    try:
        with path.open("rb") as file:
            for line in file:
                digest = hashlib.sha256(line).hexdigest()
                missing.discard(digest)
                is_last_of_interrupted = history.stopped is None and not file.peek(1)  # written, but not yet in the journal
                foreign += digest not in named and not is_last_of_interrupted
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}."]
    if missing:
        found.append(f"{path} lacks {len(missing):,} records that the journal names, or they were changed.")
    if foreign:
        found.append(f"{path} holds {foreign:,} lines that the journal does not name.")
    return found


def _of_audit(folder: Path, history: History, links: set[str]) -> list[str]:
    run = history.started[0]["run"] if history.started else None
    known = 0
    try:
        for event in audit.events():
            if event["run"] == run:
                known += 1
                if event["journal"] not in links:
                    return [f"{folder / JOURNAL} was cut short or written anew: it lacks what the audit log saw in it at {event['at']}."]
    except RunError as error:
        return [str(error)]
    return [] if known else [f"The audit log {audit.log_path()} does not know this run: it was made on another machine or by another user."]
