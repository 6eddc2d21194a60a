"""What a run's folder tells: its journal, its records, and the translations in them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clinex_edge.errors import RunError
from clinex_edge.pipeline.pipeline import GivenTranslation
from clinex_edge.pipeline.record import Record
from clinex_edge.pipeline.translate import TranslatedTurn
from clinex_edge.runs import journal
from clinex_edge.runs.journal import JOURNAL, Event
from clinex_edge.runs.shards import parts

RECORDS = "records.jsonl"
Row = dict[str, Any]  # a record in its JSON form


class State(NamedTuple):
    """What has become of a document: "complete", "partial" or "failed" (`error` says why), and which line is its record."""

    status: str
    document_sha256: str | None
    record_sha256: str | None  # None where the record could not be written
    attempts: int
    error: str | None


class History:
    """What a run's journal tells."""

    def __init__(self) -> None:
        self.started: list[Event] = []
        self.stopped: Event | None = None  # the last event, where it says that the run stopped in good order
        self.used: list[Event] = []  # what was noted of workers, with the number of the session, from 1
        self.states: dict[str, State] = {}

    @classmethod
    def of(cls, folder: Path) -> "History":
        """Raises RunError where there is no run or its journal was changed."""
        history = cls()
        try:
            for line in journal.read(folder / JOURNAL):
                history.take(line.event)
        except OSError as error:
            raise RunError(f"{folder} holds no run that can be read: {error.strerror}.", "See: clinex-edge runs list") from error
        if not history.started:
            raise RunError(f"{folder} holds a run that never began.", "Start it again with the same command.")
        return history

    def take(self, event: Event) -> None:
        """The next event of the journal."""
        self.stopped = event if event["event"] == "stopped" else None
        if event["event"] == "started":
            self.started.append(event)
        elif event["event"] == "document":
            self.states[event["id"]] = State(**{name: event[name] for name in State._fields})
        elif event["event"] == "withdrawn":
            del self.states[event["id"]]
        elif event["event"] == "used":
            self.used.append({**event, "session": len(self.started)})

    def forget(self, identifiers: Iterable[str]) -> None:
        """Treat documents as if they had never been read."""
        for identifier in identifiers:
            del self.states[identifier]

    @property
    def settings(self) -> dict[str, Any]:
        """As last used."""
        return dict(self.started[-1]["settings"])

    @property
    def counts(self) -> Counter[str]:
        """Documents by status."""
        return Counter(state.status for state in self.states.values())

    @property
    def named(self) -> set[str]:
        """The sha256 of each line that is a document's record."""
        return {state.record_sha256 for state in self.states.values() if state.record_sha256}


def read_records(folder: Path) -> Iterator[Row]:
    """The records of a run, also of one that is being worked on, or of all shards of one; failed documents are among them.

    Raises RunError where there is no run, its journal was changed, or it lacks records that the journal names.
    """
    for part in parts(folder):
        history = History.of(part)
        found = 0
        try:
            for line, is_named in lines_of(part / RECORDS, history.named):
                if is_named:
                    found += 1
                    yield json.loads(line)
        except OSError as error:
            raise RunError(f"{part / RECORDS} cannot be read: {error.strerror}.", "Check its permissions.") from error
        if missing := len(history.named) - found:
            raise RunError(
                f"{part / RECORDS} lacks {missing} records that the journal names.", "Run the same command again to make them anew."
            )
        task = history.settings.get("task", "")
        for identifier, state in history.states.items():
            if state.record_sha256 is None:
                yield Record.failed(identifier, "", task, state.error or "").to_dict()


def read_translations(folder: Path) -> dict[str, GivenTranslation]:
    """The translations of a run by the sha256 of their document; none where the run never began. Raises RunError as `read_records`."""
    if not (folder / JOURNAL).exists():
        return {}
    return {
        row["document_sha256"]: GivenTranslation(
            [TranslatedTurn(turn["turn"], turn["text"], turn["mean_logprob"], turn.get("doubtful")) for turn in row["translation"]],
            row["provenance"]["translator"],
        )
        for row in read_records(folder)
        if row.get("translation")
    }


def lines_of(path: Path, named: set[str]) -> Iterator[tuple[bytes, bool]]:
    """Each line of the records, and whether it is the first that the journal names by this sha256."""
    missing = set(named)
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                digest = hashlib.sha256(line).hexdigest()
                yield line, digest in missing
                missing.discard(digest)
