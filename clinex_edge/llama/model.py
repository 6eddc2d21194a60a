"""One GGUF model in memory with one context: tokens in, logits out.

Only this package touches llama-cpp-python. Sequence 0 holds what prompts have in common at their start, computed once. Other
sequences are short-lived branches of it, one for each prompt or part of an answer.
"""

import ctypes
import hashlib
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from clinex_edge.errors import ContextError, ModelError
from clinex_edge.llama import machine, memory
from clinex_edge.llama.chat import ChatTemplate, Message
from clinex_edge.llama.gguf import GgufHeader, read_header
from clinex_edge.llama.machine import build_info
from clinex_edge.llama.prefixes import PrefixStore

Logits = npt.NDArray[np.float32]  # one value for each token of the vocabulary
Entry = tuple[int, int, tuple[int, ...], bool]  # of a batch: token, position, sequences, whether its logits are wanted

MAX_BRANCHES = 64
BATCH_SIZE = 512
_CPU_BATCH = 256  # tokens computed at once: as fast as 512, with half the buffers
KV_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
_DEFAULT_CONTEXT = 8192
_WORTH_SAVING = 128  # tokens; a shorter prefix is computed about as fast as it is read
_MARK = re.compile(r"<[^<>\s]+>")
_SMALLEST_CONTEXT = 256  # llama.cpp aborts where a context has fewer tokens than sequences


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silence(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """llama.cpp's own log stays off; what goes wrong comes back as a return value."""


@dataclass(frozen=True)
class Run:
    """Tokens in a row from `position` on, the same for all its `sequences`; logits are asked for after those at the indices `wanted`."""

    tokens: Sequence[int]
    position: int
    sequences: tuple[int, ...]
    wanted: Container[int] = ()

    def entries(self) -> Iterator[Entry]:
        for index, token in enumerate(self.tokens):
            yield token, self.position + index, self.sequences, index in self.wanted


@dataclass(frozen=True)
class Counters:
    """Tokens of prompts computed, of prompts reused, and of answers, since a model was loaded."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(self.prompt + other.prompt, self.cached + other.cached, self.generated + other.generated)

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(self.prompt - other.prompt, self.cached - other.cached, self.generated - other.generated)


@dataclass(frozen=True)
class Tuning:
    """How llama.cpp computes. None leaves the choice to the defaults: physical cores, flash attention on GPUs only, batches of
    256 tokens on a CPU and of 512 on a GPU, and weights kept as they are where a processor computes batches faster so.

    `threads` serve single tokens, `batch_threads` larger batches, which are computed `ubatch` tokens at a time.
    `kv_type` is the type of the KV cache: "f16", or "q8_0", which needs flash attention.
    `repack` puts weights into another order when they are loaded.
    """

    threads: int | None = None
    batch_threads: int | None = None
    ubatch: int | None = None
    flash_attention: bool | None = None
    kv_type: str = "f16"
    repack: bool | None = None


@dataclass(frozen=True)
class LoadOptions:
    """`ctx_size` in tokens (None: the model's own, at most 8192); `gpu_layers` -1 means all, None as many as fit.

    `threads` overrides both of the tuning's.
    """

    ctx_size: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    tuning: Tuning = Tuning()

    def context(self, header: GgufHeader) -> int:
        """The context in tokens that a model gets."""
        return min(self.ctx_size or _DEFAULT_CONTEXT, header.context_length)

    def layers(self, header: GgufHeader) -> int:
        """How many of a model's layers go to a GPU; -1 for all."""
        return memory.layers_for_gpu(header, self.context(header), BATCH_SIZE) if self.gpu_layers is None else self.gpu_layers

    def memory(self, path: Path) -> int:
        """Bytes that a model will need. Raises ModelError where it is missing or damaged."""
        header = read_header(path)
        return memory.needed(header, self.context(header), BATCH_SIZE, self.layers(header))


class Model:
    """A loaded model. `close` gives its memory back. `settings` is what can move an answer at a near-tie, and a state's layout."""

    def __init__(self, path: Path, options: LoadOptions = LoadOptions()):
        """Raises ModelError where the file is missing, damaged or no language model, and NotEnoughMemoryError before it is loaded."""
        self.header: GgufHeader = read_header(path)
        self.ctx_size = options.context(self.header)
        self.batch_size = BATCH_SIZE
        self.gpu_layers = options.layers(self.header)
        memory.check(self.header, self.ctx_size, BATCH_SIZE, self.gpu_layers)
        self.counters = Counters()
        self.held: list[int] = []  # the tokens of sequence 0
        self._template: ChatTemplate | None = None
        self._prefixes: PrefixStore | None = None
        self._fingerprint = ""
        self._uncounted = 0  # tokens of a prefix just computed, which the next prompt must not count as reused
        self._context: Any = None
        self._handle: Any = None
        self.repacked = False
        llama_cpp.llama_log_set(_silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._batch = llama_cpp.llama_batch_init(BATCH_SIZE, 0, MAX_BRANCHES + 1)
        try:
            tuning = options.tuning
            self.compute_with(replace(tuning, threads=options.threads, batch_threads=options.threads) if options.threads else tuning)
        except ModelError:
            self.close()
            raise

    def _load(self, repack: bool) -> None:
        """Read the weights, again where they were read before. Raises ModelError where llama.cpp cannot."""
        self._unload()
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = self.repacked = repack
        # Mapped into memory, the file's own order would stay there beside the other one.
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE if repack else llama_cpp.LLAMA_LOAD_MODE_MMAP
        params.n_gpu_layers = self.gpu_layers if self.gpu_layers >= 0 else 1_000_000
        self._handle = llama_cpp.llama_model_load_from_file(os.fsencode(self.header.path), params)
        if not self._handle:
            raise ModelError(
                f"llama.cpp cannot load {self.header.path} (architecture {self.header.architecture}).",
                "The file may be damaged, too big for this machine's memory, or newer than this llama-cpp-python.",
            )
        self._vocab = llama_cpp.llama_model_get_vocab(self._handle)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)

    def compute_with(self, tuning: Tuning) -> None:
        """Compute in this way from now on; every sequence is empty then. Raises ModelError where there is too little memory."""
        self.tuning = tuning
        repack = machine.repacking_pays(self.header.quantization) if tuning.repack is None else tuning.repack
        if self._handle is None or repack != self.repacked:
            self._load(repack)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max(self.ctx_size, _SMALLEST_CONTEXT)
        params.n_batch, params.n_ubatch = BATCH_SIZE, tuning.ubatch or (BATCH_SIZE if self.gpu_layers else _CPU_BATCH)
        params.n_threads = tuning.threads or machine.physical_cores()
        params.n_threads_batch = tuning.batch_threads or machine.physical_cores()
        params.n_seq_max, params.kv_unified, params.swa_full, params.no_perf = MAX_BRANCHES + 1, True, True, True
        params.flash_attn_type = self._flash_attention(tuning.flash_attention)
        params.type_k = params.type_v = KV_TYPES[tuning.kv_type]
        self._free_context()
        self._context = llama_cpp.llama_init_from_model(self._handle, params)
        if not self._context:
            raise ModelError(f"There is not enough memory for a context of {self.ctx_size} tokens.", "Give a smaller --ctx-size.")
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        flash_attention = {True: "on", False: "off", None: "auto" if self.gpu_layers else "off"}[tuning.flash_attention]
        self.ubatch: int = params.n_ubatch
        self.settings = {
            "ctx_size": self.ctx_size, "ubatch": self.ubatch, "flash_attention": flash_attention, "kv_type": tuning.kv_type,
            "repack": repack, "gpu_layers": self.gpu_layers,
        }  # fmt: skip

    def _flash_attention(self, wanted: bool | None) -> int:
        """llama.cpp's setting. On a CPU its sums in half precision change with the batch's shape, so it is off by default."""
        if wanted is None:
            return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO if self.gpu_layers else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if wanted else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)

    @property
    def room_advice(self) -> str:
        """What to do where something does not fit the context."""
        if self.ctx_size < self.header.context_length:
            return f"Give a larger --ctx-size (this model was trained for up to {self.header.context_length})."
        return "This model was trained for no larger context: use another model, or a shorter prompt profile."

    def close(self) -> None:
        self._unload()
        if self._batch is not None:
            llama_cpp.llama_batch_free(self._batch)
            self._batch = None

    def _unload(self) -> None:
        self._free_context()
        if self._handle is not None:
            llama_cpp.llama_model_free(self._handle)
            self._handle = None

    def _free_context(self) -> None:
        self.held.clear()
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None

    # --- text and tokens -------------------------------------------------------------------------------------------

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        """Token ids of `text`; only with `special` may parts of it become control tokens."""
        if special:
            return self._tokenize(text, True)
        # Some families' turn marks are no control tokens but "user-defined" ones, which llama.cpp reads in plain text too.
        cuts = [m.start() + 1 for m in _MARK.finditer(text) if any(map(self.is_control, self._tokenize(m[0], False)))]
        return [token for first, last in pairwise([0, *cuts, len(text)]) for token in self._tokenize(text[first:last], False)]

    def _tokenize(self, text: str, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, room, False, special)
        if count < 0:
            raise ModelError("The tokenizer failed.", "Use another GGUF of this model.")
        return list(buffer[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of one token; empty for control tokens."""
        buffer = ctypes.create_string_buffer(256)
        count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, 256, 0, False)
        return buffer.raw[: max(count, 0)]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def is_control(self, token: int) -> bool:
        """Whether `token` is a control token, or a user-defined one that looks like one."""
        if llama_cpp.llama_vocab_get_attr(self._vocab, token) & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED:
            return bool(_MARK.fullmatch(llama_cpp.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace")))
        return bool(llama_cpp.llama_vocab_is_control(self._vocab, token))

    @property
    def is_recurrent(self) -> bool:
        """Whether the model keeps a running state, which cannot go back by a few tokens."""
        return bool(llama_cpp.llama_model_is_recurrent(self._handle) or llama_cpp.llama_model_is_hybrid(self._handle))

    def is_end(self, token: int) -> bool:
        """Whether `token` ends an answer."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt for `messages` in the model's own chat template. Raises ModelError where it has none."""
        if self._template is None:
            if not self.header.chat_template:
                raise ModelError(f"{self.header.path} has no chat template.", "Use an instruction-tuned (chat) model.")
            self._template = ChatTemplate(self.header.chat_template, self._special("bos"), self._special("eos"))
        ids = self._template.tokens(messages, self.tokenize, self.is_control, self.detokenize)
        bos = llama_cpp.llama_vocab_bos(self._vocab)
        if llama_cpp.llama_vocab_get_add_bos(self._vocab) and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids

    def _special(self, name: str) -> str:
        token = getattr(llama_cpp, f"llama_vocab_{name}")(self._vocab)
        text = llama_cpp.llama_vocab_get_text(self._vocab, token) if token >= 0 else None
        return text.decode("utf-8", "replace") if text else ""

    # --- computing -------------------------------------------------------------------------------------------------

    def keep_prefixes(self, store: PrefixStore, fingerprint: str) -> None:
        """From now on `hold` keeps states in `store`; `fingerprint` is the sha256 of the model file."""
        self._prefixes, self._fingerprint = store, fingerprint

    def hold(self, prefix: Sequence[int]) -> None:
        """Make `prefix`, which must be constant text, all that sequence 0 holds, computed by itself in any case.

        So what is computed behind it does not depend on what was computed before. The state of a long one is kept on disk where
        there is a store.
        """
        self.rewind(len(prefix) if self.held == list(prefix) else 0)
        if self.held == list(prefix):
            return
        store = self._prefixes if len(prefix) >= _WORTH_SAVING else None
        layout = f"{build_info()} {self.settings}"
        key = hashlib.sha256(f"{layout} {self._fingerprint}\n{list(prefix)}".encode()).hexdigest()
        if store and store.load(key, lambda path: self._restore(path, prefix)):
            return
        self.counters += Counters(prompt=len(prefix))
        self._append(prefix)
        self._uncounted = len(prefix)
        if store:
            store.save(key, llama_cpp.llama_state_seq_get_size(self._context, 0), self._save)
            # Read back, it lies in memory as it will in every later process: of a sliding window less is kept.
            store.load(key, lambda path: self._restore(path, prefix))

    def _save(self, path: Path) -> bool:
        """Write what sequence 0 holds to `path`, as llama.cpp does."""
        tokens = (llama_cpp.llama_token * len(self.held))(*self.held)
        return bool(llama_cpp.llama_state_seq_save_file(self._context, os.fsencode(path), 0, tokens, len(self.held)))

    def _restore(self, path: Path, prefix: Sequence[int]) -> bool:
        """Make the state saved at `path` the content of sequence 0; False, and an empty sequence, where it is not that of `prefix`."""
        self.rewind(0)
        tokens, count = (llama_cpp.llama_token * len(prefix))(), ctypes.c_size_t()
        read = llama_cpp.llama_state_seq_load_file(self._context, os.fsencode(path), 0, tokens, len(prefix), ctypes.byref(count))
        end = llama_cpp.llama_memory_seq_pos_max(self._memory, 0) + 1
        if not read or tokens[: count.value] != list(prefix) or end != len(prefix):
            llama_cpp.llama_memory_clear(self._memory, True)
            return False
        self.held = list(prefix)
        return True

    def check_room(self, prompt: Sequence[int], room: int) -> None:
        """Raises ContextError where a prompt and `room` more tokens do not fit."""
        if len(prompt) + room > self.ctx_size:
            raise ContextError(f"The prompt needs {len(prompt) + room} tokens; the context has {self.ctx_size}.", self.room_advice)

    def prefill(self, prompt: Sequence[int]) -> Logits:
        """Make `prompt` the content of sequence 0 and return the logits after it.

        What it shares with the tokens held already is not computed again. Raises ContextError where it does not fit.
        """
        self.check_room(prompt, 0)
        self.rewind(common_length([self.held, prompt[:-1]]))
        self.count_prompt(len(prompt) - len(self.held))
        return self._append(prompt[len(self.held) :])

    def count_prompt(self, computed: int) -> None:
        """Count a prompt that begins with what sequence 0 holds, and of which `computed` more tokens are computed."""
        self.counters += Counters(prompt=computed, cached=len(self.held) - min(self._uncounted, len(self.held)))
        self._uncounted = 0

    def extend(self, tokens: Sequence[int]) -> Logits:
        """Append tokens to sequence 0 and return the logits after the last. Raises ContextError where they do not fit."""
        self.check_room(self.held, len(tokens))
        self.counters += Counters(generated=len(tokens))
        return self._append(tokens)

    def rewind(self, length: int) -> None:
        """Forget what sequence 0 holds behind its first `length` tokens."""
        # The memory's own end: a computation that was interrupted leaves more in it than `held` says.
        if length <= llama_cpp.llama_memory_seq_pos_max(self._memory, 0):
            # A sliding window keeps only the last tokens, so what lies before a shorter beginning may be gone.
            window = llama_cpp.llama_model_n_swa(self._handle)
            gone = window and llama_cpp.llama_memory_seq_pos_min(self._memory, 0) > max(0, length - window)
            if gone or not llama_cpp.llama_memory_seq_rm(self._memory, 0, length, -1):
                length = 0  # a memory that cannot forget its tail starts anew
                llama_cpp.llama_memory_clear(self._memory, False)
        del self.held[length:]

    def _append(self, tokens: Sequence[int]) -> Logits:
        """Append tokens to sequence 0 and return the logits after the last."""
        (logits,) = self.compute([Run(tokens, len(self.held), (0,), {len(tokens) - 1})])
        self.held += tokens
        return logits

    def compute(self, runs: Iterable[Run]) -> Iterator[Logits]:
        """Compute all runs, in as few batches as hold them; yields the logits they ask for, in order.

        A batch is computed when its first logits are asked for, or the next batch's.
        """
        entries = [entry for run in runs for entry in run.entries()]
        for first in range(0, len(entries), BATCH_SIZE):
            batch = entries[first : first + BATCH_SIZE]
            self.submit(batch)
            yield from (self.logits(index) for index, (*_, wanted) in enumerate(batch) if wanted)

    @contextmanager
    def branches(self, count: int) -> Iterator[range]:
        """The numbers of so many sequences that begin with what sequence 0 holds. They are empty again afterwards."""
        numbers = range(1, count + 1)
        try:
            for number in numbers:
                self.share(0, number)
            yield numbers
        finally:
            for number in numbers:
                self.forget(number)

    def share(self, source: int, target: int) -> None:
        """Let sequence `target` begin with all that `source` holds; nothing is copied."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def forget(self, sequence: int, length: int = 0) -> None:
        """Forget what a sequence other than 0 holds behind its first `length` tokens."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def submit(self, entries: Sequence[Entry]) -> None:
        """Run one batch of at most `batch_size` tokens. After a failure every sequence is empty."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequences, wanted) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = len(sequences)
            for k, sequence in enumerate(sequences):
                batch.seq_id[i][k] = sequence
            batch.logits[i] = wanted
        if status := llama_cpp.llama_decode(self._context, batch):
            llama_cpp.llama_memory_clear(self._memory, True)
            self.held.clear()
            if status == 1:
                raise ContextError("The context is full.", self.room_advice)
            raise ModelError(f"llama.cpp failed to compute (status {status}).", "Try again with a smaller --ctx-size.")

    def logits(self, index: int) -> Logits:
        """The logits after entry `index` of the last batch."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.n_vocab,)).copy()

    def grammar_sampler(self, gbnf: str) -> "GrammarSampler":
        """llama.cpp's own grammar sampler before a greedy choice. Raises ModelError for a grammar it rejects."""
        return GrammarSampler(self, gbnf)


def common_length(sequences: Iterable[Sequence[int]]) -> int:
    """How many items all sequences share at their start."""
    count = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count


def constant_prefix(prompt: Callable[[str], list[int]]) -> list[int]:
    """The tokens that begin `prompt` of every text."""
    prompts = [prompt(text) for text in ("0", "\u06f1", "a", "")]
    return prompts[0][: common_length(prompts)]


class GrammarSampler:
    """Picks the likeliest token that the grammar allows next; use as a context manager."""

    def __init__(self, model: Model, gbnf: str):
        self._model = model
        grammar = llama_cpp.llama_sampler_init_grammar(model._vocab, gbnf.encode(), b"root")
        if not grammar:
            raise ModelError("llama.cpp rejects the answer's grammar.", "Check the task with: clinex-edge tasks check")
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        llama_cpp.llama_sampler_chain_add(self._chain, grammar)
        llama_cpp.llama_sampler_chain_add(self._chain, llama_cpp.llama_sampler_init_greedy())

    def sample(self) -> int:
        """The next token, from the logits of the last computed position; the grammar moves on by it."""
        return int(llama_cpp.llama_sampler_sample(self._chain, self._model._context, -1))

    def __enter__(self) -> "GrammarSampler":
        return self

    def __exit__(self, *_: object) -> None:
        llama_cpp.llama_sampler_free(self._chain)
