"""Computes on the workers of a Dask cluster; the only thing that is reached is the scheduler that the user named."""

import asyncio
import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from clinex_edge.documents import Document
from clinex_edge.errors import RunError, UsageError
from clinex_edge.files.sources import Reading
from clinex_edge.offline import reaching
from clinex_edge.runs.settings import Settings
from clinex_edge.runs.work import Result

_PORT = 8786  # Dask's own default
_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 30
_UNFINISHED = 2  # batches for each thread of a worker: one that is read, and the next one
_AHEAD = 8  # batches for each thread that are sent before an earlier one is done
_SAME = "Python, Dask and clinex-edge must be the same here, at the scheduler and at every worker: pip install 'clinex-edge[dask]'"


class Cluster:
    """An engine with as many processes as a Dask cluster has workers. Use it as a context manager."""

    def __init__(
        self, address: str, settings: Settings, fingerprints: dict[str, str], told: Callable[[str], None] = lambda text: None
    ):  # fmt: skip
        """`address` is the scheduler's, such as tcp://host:8786 or tls://host; `told` hears what people should know.

        Raises UsageError for an address of another form, and where Dask is not installed.
        """
        self._host, self._port, self._address = _parsed(address)
        self._dask = _dask()
        self._settings = replace(settings, paths=(), reading=Reading(), shard=None)  # workers need not know where a text comes from
        self._fingerprints, self._told = fingerprints, told
        self._waits_for_workers = False

    def __enter__(self) -> "Cluster":
        """Raises RunError where the scheduler does not answer or has no workers."""
        with ExitStack() as opened:
            try:
                opened.enter_context(reaching(self._host, self._port))
            except OSError as error:
                raise RunError(f"The host of {self._address} is not known.", "Check the address that the scheduler printed.") from error
            self._client = self._connect()
            opened.callback(self._client.close)
            self._require_workers()
            if self._address.startswith("tcp:"):
                self._told("Texts are sent to the Dask scheduler and its workers unencrypted; with tls:// they are encrypted.")
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def results(self, batches: Iterable[Sequence[Document]]) -> Iterator[Result]:
        """As `work.Engine`. A worker that is lost is replaced by another one; a batch whose workers are lost again and again fails.

        Raises RunError where the scheduler is lost, and ClinexError with the host's name where a worker cannot work.
        """
        remaining = iter(batches)
        sent: deque[tuple[Any, int]] = deque()  # a future, and the number of its documents
        while True:
            sent.extend(map(self._send, islice(remaining, self._room(sent))))
            if not sent:
                return
            unfinished = [future for future, _ in sent if not future.done()]
            if sent[0][0] in unfinished:
                self._wait(unfinished)
            else:
                yield from self._received(*sent.popleft())

    def _send(self, documents: Sequence[Document]) -> tuple[Any, int]:
        from clinex_edge.runs.remote import Order, compute

        order = Order(self._settings, self._fingerprints, tuple(documents))
        with self._connected():
            return self._client.submit(compute, order, pure=False), len(documents)

    def _room(self, sent: Sequence[tuple[Any, int]]) -> int:
        """How many more batches the workers that are there now can take."""
        with self._connected():
            threads = sum(self._client.nthreads().values()) or 1
        unfinished = sum(not future.done() for future, _ in sent)
        return max(0, min(_UNFINISHED * threads - unfinished, _AHEAD * threads - len(sent)))

    def _wait(self, futures: list[Any]) -> None:
        """Wait until one of them is done, or for a while."""
        with self._connected(), self._client.as_current(), suppress(self._dask.TimeoutError):
            self._dask.wait(futures, timeout=_WORKERS_SECONDS, return_when="FIRST_COMPLETED")
        with self._connected():
            has_workers = bool(self._client.nthreads())
        if not has_workers and not self._waits_for_workers:
            self._told(f"All workers have left the Dask scheduler {self._address}; waiting for new ones.")
        self._waits_for_workers = not has_workers

    def _received(self, future: Any, documents: int) -> Sequence[Result]:
        with self._connected():
            error = future.exception()
            answer = None if error else future.result()
        future.release()
        if isinstance(error, self._dask.KilledWorker):
            return [Result(None, "Every Dask worker that read this document's batch was lost.")] * documents
        if answer is None:
            raise RunError(f"The workers of the Dask scheduler {self._address} cannot work ({type(error).__name__}).", _SAME)
        if answer.error is not None:
            raise type(answer.error)(f"Dask worker on {answer.host}: {answer.error}", answer.error.hint)
        results: Sequence[Result] = answer.results
        return results

    def _connect(self) -> Any:
        security: dict[str, Any] = {}
        with suppress(OSError):  # a file of certificates that cannot be read
            security = self._dask.Security().get_connection_args("client")
        if self._address.startswith("tls:") and not security.get("ssl_context"):
            raise RunError(
                f"Dask has no certificates for {self._address} that can be read.",
                "Name them in Dask's configuration, distributed.comm.tls: ca-file, and key and cert of client.",
            )
        try:
            asyncio.run(asyncio.wait_for(self._greet(security), _CONNECT_SECONDS))  # a client would wait for ever where no Dask answers
            return self._dask.Client(self._address, timeout=_CONNECT_SECONDS, direct_to_workers=False, set_as_default=False)
        except Exception as error:
            raise RunError(
                f"No Dask scheduler answers at {self._address}.", "Is it running, and is this the address that it printed? dask scheduler"
            ) from error

    async def _greet(self, security: dict[str, Any]) -> None:
        comm = await self._dask.comm.connect(self._address, timeout=_CONNECT_SECONDS, **security)
        await comm.close()

    def _require_workers(self) -> None:
        with self._connected():
            try:
                self._client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
            except self._dask.TimeoutError as error:
                raise RunError(
                    f"The Dask scheduler {self._address} has no workers.",
                    f"On each machine: dask worker {self._address} --nworkers 1 --nthreads 1",
                ) from error

    @contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            if self._client.status != "running":  # Dask may connect again, but it has given up all batches
                raise ConnectionError
            yield
        except (OSError, self._dask.CancelledError) as error:
            raise RunError(
                f"The connection to the Dask scheduler {self._address} is lost.",
                "See to it; then the same command goes on with what is left.",
            ) from error


def _dask() -> Any:
    """The package, quiet: what it logs could quote a document."""
    try:
        import distributed
    except ImportError as error:
        raise UsageError("Dask is not installed.", "pip install 'clinex-edge[dask]'") from error
    if os.environ.get("CLINEX_DEBUG") != "1":
        warnings.filterwarnings("ignore", module=r"distributed(\.|$)")
        for name in ("distributed", "distributed.client", "tornado.application"):
            logging.getLogger(name).handlers = [logging.NullHandler()]
    return distributed


def _parsed(address: str) -> tuple[str, int, str]:
    """The host, the port and the whole address of a scheduler."""
    whole = address if "://" in address else f"tcp://{address}"
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname, parts.port or _PORT
    except ValueError:
        host, port = None, 0
    if host is None or parts.scheme not in ("tcp", "tls"):
        raise UsageError(f"--dask takes the address of a scheduler, not '{address}'.", "For example: --dask tcp://192.168.1.20:8786")
    return host, port, f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
