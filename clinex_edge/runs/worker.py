"""A process that holds the models and reads documents, so that a document that crashes llama.cpp takes nothing else along.

Settings, documents and records go through its standard input and output as JSON Lines, never through a file.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clinex_edge import errors
from clinex_edge.documents import Document
from clinex_edge.errors import ClinexError, ModelError
from clinex_edge.llama.child import environment
from clinex_edge.offline import guarded
from clinex_edge.runs.settings import Settings
from clinex_edge.runs.usage import used

Row = dict[str, Any]
Stage = Callable[[str, int, int], None]  # name, steps done, steps in all


class WorkerDied(Exception):
    """The process ended without an answer; the message says how."""


class Worker:
    """A pipeline in a process of its own, started when it is first needed; use it as a context manager."""

    def __init__(self, settings: Settings, fingerprints: dict[str, str], stage: Stage):
        """`stage` is told what the pipeline is at. `used` says what the process has answered and used so far (`usage.used`)."""
        self._setup = {"settings": settings.to_dict(), "fingerprints": fingerprints}
        self._stage = stage
        self._process: subprocess.Popen[bytes] | None = None
        self.used: Row = {}

    def extract(self, batches: Sequence[Sequence[Document]]) -> Iterator[Row]:
        """The records of these documents in their JSON form, in order. Raises what the pipeline raises, and WorkerDied."""
        try:
            process = self._process or self._start()
            _send(process.stdin, [[_packed(document) for document in batch] for batch in batches])
            for _ in range(sum(map(len, batches))):
                while "stage" in (message := json.loads(_received(process.stdout))):
                    self._stage(*message["stage"])
                if "record" not in message:
                    raise _error(message)
                answered, seconds = self.used.get("documents", 0) + 1, round(time.monotonic() - self._began, 3)
                self.used = {"process": process.pid, "documents": answered, "seconds": seconds, **message["used"]}
                yield message["record"]
        except (EOFError, BrokenPipeError) as error:
            raise WorkerDied(self._how_it_ended()) from error
        except ClinexError:
            self.close()
            raise

    def speeds(self) -> Row:
        """What `Pipeline.speeds` measures of the models that are loaded now; empty where none is, or none can be measured."""
        if self._process is None:
            return {}
        try:
            _send(self._process.stdin, "speeds")
            found: Row = json.loads(_received(self._process.stdout)).get("speeds", {})
        except (EOFError, BrokenPipeError):
            return {}
        return found

    def close(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        quiet = None if os.environ.get("CLINEX_DEBUG") == "1" else subprocess.DEVNULL
        process = subprocess.Popen(
            [sys.executable, "-m", "clinex_edge.runs.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, env=environment(),
            start_new_session=True, creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Ctrl-C reaches the parent alone
        )  # fmt: skip
        self._process, self._began, self.used = process, time.monotonic(), {}
        _send(process.stdin, self._setup)
        return process

    def _how_it_ended(self) -> str:
        assert self._process is not None
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            status = 0
        self.close()
        return f"signal {-status}" if status < 0 else f"status {status}"


def serve(requests: Any, answers: Any) -> None:
    """What the process does: read the settings, then answer lists of batches until the other side is gone."""
    from clinex_edge.llama.model import LoadOptions
    from clinex_edge.pipeline.pipeline import Pipeline
    from clinex_edge.runs.history import read_translations

    setup = json.loads(_received(requests))
    settings = Settings.from_dict(setup["settings"])
    try:
        if settings.fingerprints() != setup["fingerprints"]:
            raise ModelError("A model or a task is not the one that this run began with.", "Put the old one back, or start a new run.")
        options = LoadOptions(settings.ctx_size, settings.loading.threads, settings.loading.gpu_layers)
        with Pipeline(
            settings.model, settings.translator, task=settings.task, decoder=settings.decoder, translate=settings.translate,
            options=options, progress=lambda *stage: _send(answers, {"stage": stage}),
            given=read_translations(Path(settings.translations)) if settings.translations else {},
        ) as pipeline:  # fmt: skip
            while True:
                request = json.loads(_received(requests))
                if request == "speeds":
                    _send(answers, {"speeds": pipeline.speeds()})
                    continue
                batches = [[Document.from_text(**packed) for packed in batch] for batch in request]
                for record in pipeline.extract_batches(batches):
                    _send(answers, {"record": record.to_dict(), "used": used()})
    except ClinexError as error:
        _send(answers, {"error": type(error).__name__, "message": str(error), "hint": error.hint})


def _packed(document: Document) -> dict[str, str]:
    return {"text": document.text, "id": document.id, "source": document.source, "language": document.language}


def _send(stream: Any, message: Any) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _received(stream: Any) -> bytes:
    line: bytes = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return line


def _error(message: dict[str, str]) -> ClinexError:
    kind = getattr(errors, message["error"], ClinexError)
    error: ClinexError = kind(message["message"], message["hint"])
    return error


def _without_core_dumps() -> None:
    """A core dump would hold the text of a document."""
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    _without_core_dumps()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints there is no answer
    try:
        with guarded():
            serve(sys.stdin.buffer, answers)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        os._exit(0)
