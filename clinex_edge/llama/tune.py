"""Finds how llama.cpp computes fastest for one model on this machine.

One setting is varied at a time, the best kept, then the next (coordinate descent). A trial is the work of a small call: a
document is read, answers are decided in steps of a few tokens, turns are translated together, and one is written alone.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from clinex_edge.errors import ModelError
from clinex_edge.llama import machine
from clinex_edge.llama.batching import PARALLEL
from clinex_edge.llama.model import Entry, Model, Tuning

_GAIN = 0.95  # a setting replaces the one before it where it takes less than this share of the time
_SIZES = (384, 192, 96, 48, 24)  # tokens of the document of a trial


@dataclass(frozen=True)
class Trial:
    """`setting` set to `value` took `seconds` (infinite: llama.cpp refuses it); `kept` where it is the best so far."""

    setting: str
    value: Any
    seconds: float
    kept: bool


def tune(model: Model, seconds: float) -> Iterator[Trial]:
    """Try settings for about `seconds`, yielding each trial; the model computes with the best afterwards."""
    deadline = time.monotonic() + seconds
    best = Tuning()
    model.compute_with(best)
    _work(model, _SIZES[-1])  # the first pass reads the weights from disk
    planned = sum(len(_values(name, model)) for name in _SETTINGS) + 1
    smallest = _work(model, _SIZES[-1])
    a_trial = (deadline - time.monotonic()) / (2 * planned)
    size = next((s for s in _SIZES if smallest * s / _SIZES[-1] <= a_trial), _SIZES[-1])
    fastest = _timed(model, best, size)
    yield Trial("defaults", "", fastest, True)
    for name in _SETTINGS:
        for value in _values(name, model):
            changes: dict[str, Any] = {name: value, **({"flash_attention": True} if value == "q8_0" else {})}
            candidate = replace(best, **changes)
            if candidate == best or time.monotonic() > deadline:
                continue
            taken = _timed(model, candidate, size)
            kept = taken < _GAIN * fastest
            if kept:
                best, fastest = candidate, taken
            yield Trial(name, value, taken, kept)
    model.compute_with(best)


_SETTINGS = ("repack", "batch_threads", "threads", "ubatch", "flash_attention", "kv_type")


def _values(setting: str, model: Model) -> list[Any]:
    cores, threads = machine.physical_cores(), machine.logical_cores()
    counts = sorted({1, max(1, cores // 2), max(1, threads - 1), threads} - {cores})
    choices: dict[str, list[Any]] = {
        "repack": [not model.repacked],
        "batch_threads": counts,
        "threads": counts,
        "ubatch": [64, 128, 512],
        "flash_attention": [not model.gpu_layers],
        "kv_type": ["q8_0"],
    }
    return choices[setting]


def _timed(model: Model, tuning: Tuning, size: int) -> float:
    """Seconds of one trial, the better of two."""
    try:
        model.compute_with(tuning)
        return min(_work(model, size), _work(model, size))
    except ModelError:
        return float("inf")


def _work(model: Model, size: int) -> float:
    """Seconds for a document of `size` tokens, and in proportion steps of 5 tokens, of PARALLEL sequences, and of 1 token."""
    size = min(size, model.ctx_size // 4)
    tokens = [i * 7919 % model.n_vocab for i in range(size)]
    steps = max(1, size // 24)
    model.rewind(0)
    started = time.perf_counter()
    model.prefill(tokens)
    for _ in range(steps):
        model.extend(tokens[:5])
    together = range(1, PARALLEL + 1)
    for sequence in together:
        model.share(0, sequence)
    at = len(model.held)
    for step in range(steps):
        entries: list[Entry] = [(tokens[0], at + step, (sequence,), True) for sequence in together]
        model.submit(entries)
        model.logits(0)
    for sequence in together:
        model.forget(sequence)
    for _ in range(steps):
        model.extend(tokens[:1])
    return time.perf_counter() - started
