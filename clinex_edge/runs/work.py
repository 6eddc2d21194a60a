"""Reads every document of a run: in order, identical ones once; whatever fails is noted and left behind.

Documents are computed in batches, and what is in a batch depends on the documents alone, not on where a run was interrupted: the shape
of a batch can decide a near-tie, and a run that was interrupted must give the same records as one that was not.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from clinex_edge.documents import Document
from clinex_edge.errors import InputError
from clinex_edge.files.sources import Source
from clinex_edge.pipeline.pipeline import BATCH
from clinex_edge.pipeline.record import Record
from clinex_edge.runs.history import Row
from clinex_edge.runs.run import Run

_LOOKED_AT = 64  # sources in a batch at most, unreadable and repeated ones counted


class Result(NamedTuple):
    """What came of one document: its record in JSON form, or why there is none."""

    row: Row | None
    error: str | None = None


class Engine(Protocol):
    """Something that computes."""

    def results(self, batches: Iterable[Sequence[Document]]) -> Iterator[Result]:
        """One result for each document, in order. Batches are taken as they are needed. Raises ClinexError for what concerns them all."""
        ...


@dataclass(frozen=True)
class _Entry:
    """One source: `sha256` is None where it cannot be read (`error` says why); `is_new` where no source before it had that content.

    `is_computed` where its batch is; it `ends` the batch where it is the last of these.
    """

    id: str
    name: str
    sha256: str | None = None
    error: str | None = None
    is_new: bool = False
    is_computed: bool = False
    ends: bool = False


def work_through(run: Run, sources: Iterable[Source], task: str, engine: Engine, stop: Callable[[], bool]) -> Iterator[str]:
    """Keep a record of every source that has none yet, and yield what came of each: "complete", "partial", "failed" or "settled".

    Ends before its time, behind a batch, once `stop` says so. Raises ClinexError for what concerns all documents.
    """
    waiting: deque[_Entry] = deque()
    present: set[str] = set()

    def settle(entry: _Entry, result: Result | None) -> str:
        if run.is_settled(entry.id, entry.sha256):
            return "settled"
        if entry.sha256 is None:
            return run.keep(Record.failed(entry.id, entry.name, task, entry.error or "").to_dict())
        row = result.row if result else run.twin(entry.sha256)
        if row is None:
            error = (result.error if result else None) or "An identical document before it failed."
            return run.keep({**Record.failed(entry.id, entry.name, task, error).to_dict(), "document_sha256": entry.sha256})
        if result is None:
            row = {**row, "id": entry.id, "source": entry.name, "timings": dict.fromkeys(row["timings"], 0)}
        return run.keep(row)

    def to_compute() -> Iterator[list[Document]]:
        for entries, documents in _batches(sources, stop):
            needed = any(e.is_new and not run.is_settled(e.id, e.sha256) for e in entries)
            present.update(entry.id for entry in entries)
            last = max((i for i, e in enumerate(entries) if e.is_new), default=None)
            waiting.extend(replace(e, is_computed=needed and e.is_new, ends=i == last) for i, e in enumerate(entries))
            if needed:
                yield documents

    for result in engine.results(to_compute()):
        while not (entry := waiting.popleft()).is_computed:
            yield settle(entry, None)
        yield settle(entry, result)
        if entry.ends and stop():
            return
    while waiting and not stop():
        yield settle(waiting.popleft(), None)
    if not stop():
        run.withdraw_failures(present)


def _batches(sources: Iterable[Source], stop: Callable[[], bool]) -> Iterator[tuple[list[_Entry], list[Document]]]:
    """The sources in batches, each with its documents of new content."""
    seen: set[str] = set()
    entries: list[_Entry] = []
    documents: list[Document] = []
    for source in sources:
        if stop():
            return
        try:
            document = source.read()
        except InputError as error:
            entries.append(_Entry(source.id, source.name, error=str(error)))
        else:
            is_new = document.sha256 not in seen
            seen.add(document.sha256)
            entries.append(_Entry(source.id, source.name, document.sha256, is_new=is_new))
            if is_new:
                documents.append(document)
        if len(documents) == BATCH or len(entries) == _LOOKED_AT:
            yield entries, documents
            entries, documents = [], []
    yield entries, documents
