"""What runs on a Dask worker: it reads one batch at a time, in a process of its own whose models stay loaded between batches.

Dask logs what it cannot compute and may move what it has computed to its spill folder. So nothing here shows text of a document when it
is printed, no exception leaves `compute`, and an answer refuses to be written anywhere but to a connection.
"""

import pickle
import platform
from dataclasses import dataclass, field
from threading import Lock, Timer
from typing import Any

from distributed.protocol import dask_deserialize, dask_serialize

from clinex_edge import __version__
from clinex_edge.documents import Document
from clinex_edge.errors import ClinexError, RunError
from clinex_edge.runs.local import Local
from clinex_edge.runs.settings import Settings
from clinex_edge.runs.work import Result
from clinex_edge.runs.worker import Worker

_IDLE_SECONDS = 60  # until the models are let go; the worker cannot know that a run is over


@dataclass(frozen=True)
class Order:
    """One batch, and everything that its answers depend on."""

    settings: Settings = field(repr=False)
    fingerprints: dict[str, str] = field(repr=False)
    documents: tuple[Document, ...] = field(repr=False)
    version: str = __version__


@dataclass(frozen=True)
class Answer:
    """What came of a batch: one result for each document, or the error that concerns them all. `host` names the machine."""

    host: str
    results: tuple[Result, ...] = field(default=(), repr=False)
    error: ClinexError | None = None


def compute(order: Order) -> Answer:
    """Read a batch."""
    host = platform.node()
    try:
        if order.version != __version__:
            raise RunError(
                f"It has clinex-edge {__version__}, and the run is one of {order.version}.", "Install the same version on all machines."
            )
        return Answer(host, _engine.results(order))
    except ClinexError as error:
        return Answer(host, error=error)
    except Exception as error:  # its message could quote a document
        return Answer(host, error=RunError(f"Internal error ({type(error).__name__})."))


class _Engine:
    """The process with the models. A Dask worker has one, however many threads and runs use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._loaded: tuple[Settings, dict[str, str]] | None = None
        self._worker: Worker | None = None
        self._letting_go = Timer(0, self._let_go)

    def results(self, order: Order) -> tuple[Result, ...]:
        """Raises ClinexError as `Local` does."""
        with self._lock:
            self._letting_go.cancel()
            wanted = (order.settings, order.fingerprints)
            if self._worker is None or self._loaded != wanted:
                self._close()
                self._worker = Worker(*wanted, _unheard)
                self._local, self._loaded = Local(self._worker), wanted
            try:
                return tuple(self._local.results([order.documents]))
            finally:
                self._letting_go = Timer(_IDLE_SECONDS, self._let_go)
                self._letting_go.daemon = True
                self._letting_go.start()

    def _let_go(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _unheard(stage: str, done: int, total: int) -> None: ...


def _to_frames(answer: Answer, context: Any = None) -> tuple[dict[str, Any], list[bytes]]:
    """Dask gives a context where it sends, and none where it writes to a disk; what cannot be written there stays in memory."""
    if context is None:
        raise TypeError("Answers about documents are not written to disks.")
    return {}, [pickle.dumps(vars(answer))]


def _from_frames(header: dict[str, Any], frames: list[bytes]) -> Answer:
    return Answer(**pickle.loads(b"".join(frames)))  # noqa: S301  (so does Dask with all that workers send)


dask_serialize.register(Answer, _to_frames)
dask_deserialize.register(Answer, _from_frames)
_engine = _Engine()
