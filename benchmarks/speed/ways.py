"""The ways to answer that are compared, each with its model loaded and the constant prefix of its prompt computed."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp

from benchmarks.speed.timing import Sample, measure
from benchmarks.speed.workload import STEPS, YES, Workload
from clinex_edge.decoding import DECODERS, Decision, compile_tokens, decoders
from clinex_edge.decoding.decoders import written
from clinex_edge.llama.batching import PARALLEL, Job, generate
from clinex_edge.llama.model import Entry, LoadOptions, Model
from clinex_edge.llama.prefixes import prefix_store
from clinex_edge.pipeline.extract import Extractor
from clinex_edge.pipeline.translate import Translator
from clinex_edge.tasks import load_translation

TURN_TOKENS = 24  # of a translated turn


def load(path: Path, options: LoadOptions) -> Model:
    """Our model as a pipeline loads it, with its prefixes kept on disk."""
    model = Model(path, options)
    model.keep_prefixes(prefix_store(), path.name)
    return model


class Ours:
    """Our decoders, and the floor under two of them."""

    def __init__(self, model: Model, workload: Workload):
        self.model, self.workload = model, workload
        self.extractors = {d: Extractor(model, workload.task, "full", "en", d) for d in DECODERS}

    def answer(self, decoder: str, *calls: list[str]) -> Sample:
        """Some calls together."""
        extractor = self._ready(decoder)
        decoders.MAX_FREE_TOKENS = STEPS + 1
        with right_answers():
            return measure(lambda: extractor(calls))

    def floor(self, decoder: str, lines: list[str]) -> Sample:
        """What llama.cpp alone needs for the tokens that `joint` or `independent` cannot do without, in one batch."""
        extractor = self._ready(decoder)
        prompt = self.prompt(decoder, lines)
        tail, at = prompt[len(extractor.prefix) :], len(extractor.prefix)
        suffixes = self._suffixes(extractor)
        batch = _branches(tail, at, suffixes) if decoder == "independent" else _chain([*tail, *self._answer(extractor)], at)
        with self.model.branches(len(suffixes)):
            sample = _decode_raw(self.model._context, batch)
        llama_cpp.llama_memory_seq_rm(self.model._memory, 0, at, -1)
        return sample

    def prompt(self, decoder: str, lines: list[str]) -> list[int]:
        extractor = self.extractors[decoder]
        return self.model.chat_tokens(extractor.task.messages(extractor.profile, "\n".join(lines), extractor.order))

    def _ready(self, decoder: str) -> Extractor:
        """The decoder's prefix is in the model's memory, and no document."""
        extractor = self.extractors[decoder]
        self.model.hold(extractor.prefix)
        return extractor

    def _suffixes(self, extractor: Extractor) -> list[tuple[int, ...]]:
        return [compile_tokens(single, self.model.tokenize)[0].forced for single in extractor.template.alone()]

    def _answer(self, extractor: Extractor) -> list[int]:
        """The right answer up to its last decision."""
        slots = compile_tokens(extractor.template, self.model.tokenize)
        return written(slots, [slot.field in YES for slot in slots])[0]


def _branches(tail: Sequence[int], at: int, suffixes: Sequence[Sequence[int]]) -> list[Entry]:
    """One batch: the document's tail for all sequences, then each suffix in a sequence of its own."""
    everyone = tuple(range(1, len(suffixes) + 1))
    entries: list[Entry] = [(token, at + i, everyone, False) for i, token in enumerate(tail)]
    for branch, suffix in enumerate(suffixes, 1):
        entries += [(token, at + len(tail) + i, (branch,), i == len(suffix) - 1) for i, token in enumerate(suffix)]
    return entries


def _chain(tokens: Sequence[int], at: int) -> list[Entry]:
    """One batch in sequence 0, of which the last logits are wanted."""
    return [(token, at + i, (0,), i == len(tokens) - 1) for i, token in enumerate(tokens)]


def _decode_raw(context: Any, entries: list[Entry]) -> Sample:
    """Seconds of llama.cpp's own call for a batch, which is made ready beforehand."""
    batch = llama_cpp.llama_batch_init(len(entries), 0, max(len(sequences) for _, _, sequences, _ in entries))
    batch.n_tokens = len(entries)
    for i, (token, position, sequences, wanted) in enumerate(entries):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, len(sequences), wanted
        for k, sequence in enumerate(sequences):
            batch.seq_id[i][k] = sequence
    started = time.perf_counter()
    status = llama_cpp.llama_decode(context, batch)
    llama_cpp.llama_synchronize(context)
    seconds = time.perf_counter() - started
    llama_cpp.llama_batch_free(batch)
    assert status == 0
    return Sample(seconds, native=seconds)


@contextlib.contextmanager
def right_answers() -> Iterator[None]:
    """Let `joint` find the right answer, whatever the model says: random weights decide at random, and a yes costs time."""
    decided = decoders.decided
    decoders.decided = lambda slot, logits: Decision(slot.field in YES, float(slot.field in YES))
    try:
        yield
    finally:
        decoders.decided = decided


class Naive:
    """llama-cpp-python as its documentation shows it. It reuses by itself what two prompts share."""

    def __init__(self, path: Path, options: LoadOptions, workload: Workload):
        self.workload = workload
        threads = {"n_threads": options.threads, "n_threads_batch": options.threads}
        self.llama = llama_cpp.Llama(str(path), n_ctx=options.ctx_size, n_gpu_layers=options.gpu_layers, verbose=False, **threads)
        self.constraints: dict[str, dict[str, Any]] = {
            "schema": {"response_format": {"type": "json_object", "schema": workload.schema}},
            "grammar": {"grammar": llama_cpp.LlamaGrammar.from_string(workload.template.gbnf(), verbose=False)},
        }

    def answer(self, constraint: str, lines: list[str], prefix: int = 0) -> Sample:
        """One document, of which the first `prefix` tokens of the prompt may be reused."""
        self.llama.n_tokens = min(self.llama.n_tokens, prefix)
        messages, options = self.workload.messages(lines), self.constraints[constraint]
        return measure(
            lambda: self.llama.create_chat_completion(messages, temperature=0.0, max_tokens=STEPS + 1, **options),
            llama_cpp.llama_cpp,
        )


class Server:
    """llama-server on the loopback interface; use as a context manager."""

    def __init__(self, program: Path, path: Path, options: LoadOptions):
        """Raises RuntimeError where it does not start."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        loading = ["--ctx-size", options.ctx_size, "--threads", options.threads, "--n-gpu-layers", options.gpu_layers, "--offline"]
        command = [program, "--model", path, *loading, "--parallel", 1, "--host", "127.0.0.1", "--port", port]
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        while self._process.poll() is None:
            try:
                with self._open(f"{self._url}/health"):
                    return
            except OSError:  # not yet: it loads the model
                time.sleep(0.2)
        raise RuntimeError(f"{program} ended with status {self._process.returncode}.")

    def answer(self, prompt: list[int], schema: dict[str, Any] | None) -> Sample:
        constraint = {"ignore_eos": True} if schema is None else {"json_schema": schema}
        request = {"prompt": prompt, "n_predict": STEPS, "temperature": 0, "cache_prompt": True, **constraint}
        data = json.dumps(request).encode()
        headers = {"Content-Type": "application/json"}
        started = time.perf_counter()
        with self._open(urllib.request.Request(f"{self._url}/completion", data, headers)) as reply:  # noqa: S310  (loopback)
            timings = json.load(reply)["timings"]
        return Sample(time.perf_counter() - started, timings["predicted_ms"] / 1000, timings["predicted_n"])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()


class Translation:
    """The turns of calls, translated together or one after the other."""

    def __init__(self, model: Model):
        self.translator = Translator(model, load_translation("full"))
        self.model, self.prefix = model, self.translator.prefix

    def jobs(self, turns: list[str], rooms: Iterable[int] = repeat(TURN_TOKENS)) -> list[Job]:
        """The turns of one call; random weights never end one, so each is cut after as many tokens as `rooms` says."""
        document = "\n".join(turns)
        prompts = (self.translator.prompt.messages(turn, document) for turn in turns)
        return [Job(self.model.chat_tokens(messages), room) for messages, room in zip(prompts, rooms, strict=False)]

    def run(self, calls: list[list[Job]], parallel: int = PARALLEL) -> Sample:
        """`steps` are the tokens generated."""
        self.model.hold(self.prefix)
        before = self.model.counters.generated
        started = time.perf_counter()
        for _ in generate(self.model, calls, parallel):
            pass
        return Sample(time.perf_counter() - started, steps=self.model.counters.generated - before)
