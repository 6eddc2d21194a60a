"""The first document in a new process, Python's start and the loading of the model included."""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.speed.timing import Sample, measure, peak_memory
from benchmarks.speed.ways import Naive, right_answers
from benchmarks.speed.workload import STEPS, Workload
from clinex_edge import Pipeline
from clinex_edge.decoding import decoders
from clinex_edge.llama.model import LoadOptions


def answer(way: str, path: Path, options: LoadOptions, lines: list[str]) -> tuple[Sample, int]:
    """One document in a process of its own, by a decoder of ours or by "schema"; also the most bytes of memory it held.

    Raises CalledProcessError where the process fails.
    """
    plain = json.dumps([options.ctx_size, options.threads, options.gpu_layers])
    command = [sys.executable, "-m", "benchmarks.speed.cold", way, str(path), plain]
    started = time.perf_counter()
    done = subprocess.run(command, input=json.dumps(lines), stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    seconds = time.perf_counter() - started
    inside = json.loads(done.stdout)
    return Sample(seconds, inside["generation"], inside["steps"], inside["native"]), inside["peak"]


def _child(way: str, path: Path, options: LoadOptions, lines: list[str]) -> Sample:
    if way == "schema":
        return Naive(path, options, Workload()).answer("schema", lines)
    decoders.MAX_FREE_TOKENS = STEPS + 1
    with right_answers(), Pipeline(str(path), decoder=way, options=options) as pipeline:
        return measure(lambda: pipeline.extract("\n".join(lines)))


if __name__ == "__main__":
    sample = _child(sys.argv[1], Path(sys.argv[2]), LoadOptions(*json.loads(sys.argv[3])), json.load(sys.stdin))
    print(json.dumps({**asdict(sample), "peak": peak_memory()}))
