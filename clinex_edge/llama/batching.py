"""Greedy generation of many texts at once: continuous batching (Yu et al. 2022, "Orca") over shared prefixes.

One pass over the weights serves every running sequence. A sequence that is done leaves and a waiting one enters at once;
prompts that enter are computed in the same batches. Memory is bounded by the model's context.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from clinex_edge.errors import ContextError
from clinex_edge.llama.model import MAX_BRANCHES, Counters, Entry, Logits, Model, common_length

PARALLEL = 16  # sequences that decode together


@dataclass(frozen=True)
class Job:
    """A prompt in tokens, and how many tokens the answer may have at most."""

    prompt: Sequence[int]
    room: int


@dataclass
class Generation:
    """What a job produced. `logprobs` are natural logarithms, one for each token and one for the end; `cut` where the room ran out.

    `margin` is the smallest lead of a chosen token over the next likeliest, in logits: near zero means a near-tie.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    margin: float = float("inf")
    cut: bool = False


@dataclass
class _Trunk:
    """What the prompts of a group share behind sequence 0. Its sequence goes when the group's last job has left."""

    number: int
    tokens: list[int]
    waiting: deque[tuple[int, Job]]
    sequence: int
    running: int = 0


@dataclass
class _Sequence:
    """Tokens still to compute for one sequence. A branch has a job; the computation of a trunk has none."""

    trunk: _Trunk
    sequence: int
    position: int
    todo: list[int]
    reserved: int  # cells of the context
    number: int = -1
    job: Job | None = None
    result: Generation = field(default_factory=Generation)


def generate(model: Model, groups: Sequence[Sequence[Job]], parallel: int = PARALLEL) -> Iterator[tuple[int, int, Generation]]:
    """Run all jobs; yields (group, job, result) as each is done.

    The prompts of a group share their start, which is computed once; what all of them share with the tokens that the model
    holds is not computed at all. At most `parallel` answers run at once. The texts equal those of one job at a time
    except where two tokens are a near-tie.
    Raises ContextError where one job does not fit the context alone.
    """
    return _Scheduler(model, groups, parallel).run()


class _Scheduler:
    def __init__(self, model: Model, groups: Sequence[Sequence[Job]], parallel: int):
        self.model, self.parallel = model, min(parallel, MAX_BRANCHES // 2 - 1)
        self.groups = deque((number, group) for number, group in enumerate(groups) if group)
        prompts = [job.prompt[:-1] for _, group in self.groups for job in group]
        model.rewind(common_length([model.held, *prompts]))
        self.shared = len(model.held)
        self.free_cells = model.ctx_size - self.shared
        self.free_sequences = list(range(2 * self.parallel + 2, 0, -1))  # sequence 0 is the model's own
        self.computing: list[_Sequence] = []
        self.trunks: list[_Trunk] = []  # computed, with jobs waiting

    def run(self) -> Iterator[tuple[int, int, Generation]]:
        try:
            while True:
                self._admit()
                if not self.computing:
                    return
                yield from self._step()
        finally:  # also where the caller stops early
            for sequence in range(1, 2 * self.parallel + 3):
                self.model.forget(sequence)

    @property
    def _answers(self) -> int:
        return sum(s.job is not None for s in self.computing)

    def _admit(self) -> None:
        """Let in what there is room for: first branches of trunks that are computed, then the next trunk."""
        for trunk in list(self.trunks):
            while trunk.waiting and self._answers < self.parallel and self._branch(trunk):
                pass
            if not trunk.waiting:
                self.trunks.remove(trunk)
        if self.groups and self._answers < self.parallel and not any(t.waiting for t in self.trunks):
            if any(s.job is None for s in self.computing):  # one trunk at a time
                return
            self._plant()
        if not self.computing and (self.groups or self.trunks):
            raise ContextError("A text to translate does not fit the context.", self.model.room_advice)

    def _plant(self) -> None:
        number, group = self.groups[0]
        prompts = [job.prompt[:-1] for job in group]
        tokens = list(prompts[0][self.shared : common_length(prompts)])
        largest = max(len(job.prompt) + job.room for job in group) - self.shared - len(tokens)
        if len(tokens) + largest > self.free_cells:
            return
        self.groups.popleft()
        trunk = _Trunk(number, tokens, deque(enumerate(group)), self.free_sequences.pop())
        self.model.share(0, trunk.sequence)
        self.free_cells -= len(tokens)
        if tokens:
            self.model.counters += Counters(prompt=len(tokens))
            self.computing.append(_Sequence(trunk, trunk.sequence, self.shared, tokens[:], 0))
        else:
            self.trunks.append(trunk)
            self._admit()

    def _branch(self, trunk: _Trunk) -> bool:
        """Start the trunk's next job, where there is room."""
        number, job = trunk.waiting[0]
        start = self.shared + len(trunk.tokens)
        reserved = len(job.prompt) - start + job.room
        if reserved > self.free_cells or not self.free_sequences:
            return False
        trunk.waiting.popleft()
        trunk.running += 1
        self.model.count_prompt(len(job.prompt) - start)
        self.free_cells -= reserved
        sequence = self.free_sequences.pop()
        self.model.share(trunk.sequence, sequence)
        self.computing.append(_Sequence(trunk, sequence, start, list(job.prompt[start:]), reserved, number, job))
        return True

    def _step(self) -> Iterator[tuple[int, int, Generation]]:
        """Compute one batch: a token of every running answer, and as much of the entering prompts as it holds."""
        entries: list[Entry] = []
        ending: list[tuple[_Sequence, int]] = []
        for running in sorted(self.computing, key=lambda s: len(s.todo)):
            count = min(len(running.todo), self.model.batch_size - len(entries))
            ends = count == len(running.todo)
            for i, token in enumerate(running.todo[:count]):
                entries.append((token, running.position + i, (running.sequence,), ends and i == count - 1 and running.job is not None))
            del running.todo[:count]
            running.position += count
            if ends and count:
                ending.append((running, len(entries) - 1))
        self.model.submit(entries)
        done = []
        for running, index in ending:
            if running.job is None:
                self.computing.remove(running)
                self.trunks.append(running.trunk)
            elif self._choose(running, running.job, self.model.logits(index)):
                self._leave(running)
                done.append((running.trunk.number, running.number, running.result))
        yield from done  # only now: the caller may use the model

    def _choose(self, running: _Sequence, job: Job, logits: Logits) -> bool:
        """Take the likeliest next token; True where the answer is complete with it."""
        result = running.result
        token = int(logits.argmax())
        lead = logits - logits[token]
        result.logprobs.append(-float(np.log(np.exp(lead).sum())))
        lead[token] = -np.inf
        result.margin = min(result.margin, -float(lead.max()))
        if self.model.is_end(token):
            return True
        result.tokens.append(token)
        self.model.counters += Counters(generated=1)
        running.todo = [token]
        result.cut = len(result.tokens) >= job.room
        return result.cut

    def _leave(self, running: _Sequence) -> None:
        self.computing.remove(running)
        self.model.forget(running.sequence)
        self.free_sequences.append(running.sequence)
        self.free_cells += running.reserved
        trunk = running.trunk
        trunk.running -= 1
        if not trunk.running and not trunk.waiting:
            self.model.forget(trunk.sequence)
            self.free_sequences.append(trunk.sequence)
            self.free_cells += len(trunk.tokens)
