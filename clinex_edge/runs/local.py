"""Computes on this machine, in a worker process; one document that crashes it is found and left out."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from clinex_edge.documents import Document
from clinex_edge.errors import ClinexError, RunError
from clinex_edge.pipeline.pipeline import BATCHES_AT_ONCE
from clinex_edge.runs.work import Result
from clinex_edge.runs.worker import Worker, WorkerDied

_HOPELESS = 16  # documents that fail one after the other before a run gives up


class Local:
    """An engine with one worker process."""

    def __init__(self, worker: Worker):
        self._worker = worker
        self._has_answered = False
        self._failed = 0  # documents in a row

    def results(self, batches: Iterable[Sequence[Document]]) -> Iterator[Result]:
        """As `work.Engine`: where the worker dies, each batch that is left is tried again by itself, then each document.

        Raises ClinexError where the pipeline raises it before the first answer, or document after document.
        """
        remaining = iter(batches)
        while together := list(islice(remaining, BATCHES_AT_ONCE)):
            yield from self._tried(together)

    def _tried(self, batches: Sequence[Sequence[Document]], known: int = 0, again: bool = False) -> Iterator[Result]:
        """The first `known` documents have their results: they are there because the others belong to their batch."""
        done = 0
        try:
            for done, row in enumerate(self._worker.extract(batches), 1):
                self._has_answered, self._failed = True, 0
                if done > known:
                    yield Result(row)
        except (WorkerDied, ClinexError) as error:
            if isinstance(error, ClinexError) and not self._has_answered:
                raise
            yield from self._rest(batches, max(done, known), again, error)

    def _rest(self, batches: Sequence[Sequence[Document]], done: int, again: bool, error: Exception) -> Iterator[Result]:
        for batch in batches:
            if done < len(batch) and not again:
                yield from self._tried([batch], done, again=True)
            elif len(batch) > 1:
                for document in batch[done:]:
                    yield from self._tried([[document]], again=True)
            elif done == 0:
                yield self._failure(error)
            done = max(0, done - len(batch))

    def _failure(self, error: Exception) -> Result:
        self._failed += 1
        if self._failed == _HOPELESS:
            if isinstance(error, ClinexError):
                raise error
            raise RunError(
                f"llama.cpp crashed on {_HOPELESS} documents in a row ({error}).", "Try another model: clinex-edge models verify."
            )
        return Result(None, str(error) if isinstance(error, ClinexError) else f"llama.cpp crashed on this document ({error}).")
