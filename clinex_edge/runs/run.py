"""A run's folder: `records.jsonl`, one line for each document, and `journal.jsonl`, what has become of each.

A record is on the disk before the journal names it, by its sha256; lines that the journal does not name count for nothing. So nothing
is lost and nothing is there twice, whenever the power goes.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Container
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from clinex_edge.atomic import append_durably, open_private, replaced_privately
from clinex_edge.errors import OutputError, RunError
from clinex_edge.runs import audit
from clinex_edge.runs.history import RECORDS, History, Row, State, lines_of
from clinex_edge.runs.journal import JOURNAL, Event, Journal

LOCK = ".lock"
_PATIENCE = 16  # events that the disk may refuse one after the other before a run gives up


class Run:
    """A run that this process alone may work on. Use it as a context manager."""

    def __init__(self, folder: Path, settings: Row, fingerprints: dict[str, str], documents: int):
        """Start a run over so many documents in `folder`, or go on with the one there.

        `settings` must be the same again, all but "loading". Raises RunError where they or the fingerprints are not, where another
        process works on the folder, or where its journal was changed; OutputError where it cannot be written.
        """
        self.folder, self.history = folder, History()
        self._pending: list[Event] = []  # events that the disk has refused so far
        self._where: dict[str, tuple[int, int]] = {}  # by sha256 of a document: where its record begins, and its length in bytes
        self._end = 0  # of the records
        with ExitStack() as opened:
            try:
                opened.callback(_locked(folder).release)
                self._journal = Journal(folder / JOURNAL, self.history.take)
                opened.callback(self._journal.close)
                _agree(folder, self.history, settings, fingerprints)
                self._tidy()
                self._file = open_private(folder / RECORDS)
                opened.callback(self._file.close)
            except OSError as error:
                raise self._unwritable(error) from error
            started = self.history.started
            self.id = started[0]["run"] if started else str(uuid.uuid4())
            event = {"event": "started", "run": self.id, **audit.actor(), "process": os.getpid(), "fingerprints": fingerprints}
            audit.note({**event, "folder": str(folder.resolve()), "journal": self._journal.head})
            self._write({**event, "settings": settings, "documents": documents})
            self._opened = opened.pop_all()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_settled(self, identifier: str, sha256: str | None) -> bool:
        """Whether a document with this content has its record. One that failed has not.

        None stands for content that cannot be read now: what it gave while it could be is kept.
        """
        state = self.history.states.get(identifier)
        return state is not None and state.status != "failed" and sha256 in (None, state.document_sha256)

    def keep(self, row: Row) -> str:
        """Keep a record in its JSON form, in place of an older one of the same document, and return its status.

        Where the disk refuses the record, the document has failed. Raises OutputError where the disk refuses everything.
        """
        identifier, sha256, error = row["id"], row["document_sha256"], row.get("error")
        before = self.history.states.get(identifier)
        has_failed_before = before is not None and before.status == "failed"
        attempts = before.attempts + 1 if before and has_failed_before else 1
        if row["status"] == "failed" and before and has_failed_before and before.record_sha256 and before.error == error:
            return self._note(identifier, before._replace(attempts=attempts))  # its record is there
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            append_durably(self._file, self._end, line)
        except OSError as refusal:
            return self._note(identifier, State("failed", sha256, None, attempts, f"Its record could not be written: {refusal.strerror}."))
        if error is None:
            self._where[sha256] = (self._end, len(line))
        self._end += len(line)
        return self._note(identifier, State(row["status"], sha256, hashlib.sha256(line).hexdigest(), attempts, error))

    def twin(self, sha256: str) -> Row | None:
        """The record of a document with that content; None where there is none."""
        if sha256 not in self._where:
            return None
        at, length = self._where[sha256]
        self._file.seek(at)
        row: Row = json.loads(self._file.read(length))
        return row

    def withdraw_failures(self, present: Container[str]) -> None:
        """Forget the failures of documents that are no longer among the sources. Raises OutputError as `keep` does."""
        for identifier in [name for name, state in self.history.states.items() if state.status == "failed" and name not in present]:
            self._write({"event": "withdrawn", "id": identifier})

    def note_use(self, used: Row) -> None:
        """Keep what a worker has used so far. Raises OutputError as `keep` does."""
        self._write({"event": "used", **used})

    def close(self) -> None:
        """Raises OutputError; what was kept before stays."""
        with self._opened:
            counts = dict(self.history.counts)
            stopped = {"event": "stopped", "run": self.id, **audit.actor(), "counts": counts}
            with suppress(OSError):  # readers know which lines count
                self._tidy()
            self._write(stopped)
            if self._pending:
                raise self._unwritable(self._refusal)
            audit.note({**stopped, "folder": str(self.folder.resolve()), "journal": self._journal.head})

    def _note(self, identifier: str, state: State) -> str:
        self._write({"event": "document", "id": identifier, **state._asdict()})
        return state.status

    def _write(self, event: Event) -> None:
        """Add an event to the journal, behind those that the disk has refused so far. Raises OutputError where that goes on."""
        self.history.take(event)
        self._pending.append(event)
        try:
            while self._pending:
                self._journal.append(self._pending[0])
                del self._pending[0]
        except OSError as error:
            self._refusal = error
            if len(self._pending) > _PATIENCE:
                raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.folder} cannot be written: {error.strerror}.", "Free some space or mend its permissions; then the same command goes on."
        )

    def _tidy(self) -> None:
        """Drop from the records what the journal does not name: torn lines, and records that another one has replaced.

        A document whose record is not there any more is forgotten, so that it is read again.
        """
        path, named = self.folder / RECORDS, self.history.named
        for draft in self.folder.glob(f".{RECORDS}.*.part"):  # of a process that was killed right here
            draft.unlink()
        self._where.clear()
        whole, found, at = True, set(), 0
        for line, is_named in lines_of(path, named):
            whole = whole and is_named
            if is_named:
                row = json.loads(line)
                found.add(row["id"])
                if row["status"] != "failed":
                    self._where[row["document_sha256"]] = (at, len(line))
                at += len(line)
        self.history.forget([name for name, state in self.history.states.items() if state.record_sha256 and name not in found])
        if not whole:
            with replaced_privately(path) as draft, draft.open("wb") as out:
                out.writelines(line for line, is_named in lines_of(path, named) if is_named)
        self._end = at


def is_busy(folder: Path) -> bool:
    """Whether a process works on the run there. The system lets its lock go when the process ends, however it ends."""
    lock = FileLock(folder / LOCK, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _locked(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK, mode=0o600)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"Another process is working on {folder}.", "Wait until it is done; clinex-edge runs show tells how far it is."
        ) from None
    return lock


def _agree(folder: Path, history: History, settings: Row, fingerprints: dict[str, str]) -> None:
    if not history.started:
        return
    before = history.started[0]
    pairs = [(before["settings"], settings), (before["fingerprints"], fingerprints)]
    different = sorted({key for old, new in pairs for key in {*old, *new} - {"loading"} if old.get(key) != new.get(key)})
    if different:
        raise RunError(
            f"{folder} holds a run with other settings ({', '.join(different)}).",
            f"To go on with it as it was: clinex-edge runs retry {folder}. Else name another folder.",
        )
