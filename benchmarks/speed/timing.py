"""Seconds of one document, and how they divide."""

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp


@dataclass(frozen=True)
class Sample:
    """One run in seconds: `generation` is the part after the prompt, spent on `steps` tokens one by one; `native` the part
    inside llama.cpp."""

    seconds: float
    generation: float = 0.0
    steps: int = 0
    native: float = 0.0

    def charged(self, tokens: int) -> float:
        """Seconds as if `tokens` had been generated at the pace measured; 0 for a way that generates none one by one."""
        return self.seconds + (tokens / self.steps - 1) * self.generation if tokens else self.seconds


def measure(run: Callable[[], object], namespace: Any = llama_cpp) -> Sample:
    """Time `run`, which reaches llama.cpp through `namespace`. What a GPU still computes is waited for."""
    decode, read = namespace.llama_decode, namespace.llama_get_logits_ith
    native, steps = 0.0, 0
    prompt_read = started = time.perf_counter()

    def timed_decode(context: Any, batch: Any) -> int:
        nonlocal native, steps, prompt_read
        begun = time.perf_counter()
        status = int(decode(context, batch))
        llama_cpp.llama_synchronize(context)
        ended = time.perf_counter()
        native += ended - begun
        steps += 1
        if batch.n_tokens > 1:
            prompt_read, steps = ended, 0
        return status

    def timed_read(context: Any, index: int) -> Any:
        nonlocal native
        begun = time.perf_counter()
        logits = read(context, index)
        native += time.perf_counter() - begun
        return logits

    namespace.llama_decode, namespace.llama_get_logits_ith = timed_decode, timed_read
    try:
        run()
        ended = time.perf_counter()
    finally:
        namespace.llama_decode, namespace.llama_get_logits_ith = decode, read
    return Sample(ended - started, ended - prompt_read, steps, native)


def peak_memory() -> int:
    """The most bytes that this process has held in memory at once."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands `ru_maxrss` down from the parent process
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
