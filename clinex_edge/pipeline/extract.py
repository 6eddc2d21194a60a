"""From turns to answers: windows, prompts, decoder, and one answer a field for the whole document."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from clinex_edge.decoding import Decision, Decisions, Template, compile_tokens, get_decoder, prompt_order, room_for
from clinex_edge.errors import ContextError
from clinex_edge.llama.model import Model, constant_prefix
from clinex_edge.pipeline.windows import Window, windows
from clinex_edge.tasks import Task

_SLACK = 16  # tokens: joining turns can split words differently


@dataclass(frozen=True)
class Extraction:
    """The answers, and the turns of each window that they were read from."""

    decisions: Decisions
    windows: list[Window]

    @classmethod
    def unanswered(cls, task: Task, error: ContextError) -> "Extraction":
        """No answer, because of `error`."""
        return cls({field: Decision(None, None, reason=str(error)) for field in task.field_ids}, [])


@dataclass(frozen=True)
class _Reading:
    """The windows of a document, and the prompt that asks about each."""

    windows: list[Window]
    prompts: list[list[int]]


class Extractor:
    """Asks one task's fields of one model in one language."""

    def __init__(self, model: Model, task: Task, profile: str, language: str, decoder: str):
        """Raises UsageError where the task has no such profile or the decoder is unknown, TaskError where the tokenizer
        cannot tell yes from no, and ContextError where the prompt alone does not fit."""
        self.model, self.task, self.decoder = model, task, get_decoder(decoder)
        self.profile = task.profile(profile, language)
        self.order = prompt_order(decoder)
        self.template = Template.compile(self.profile, task.field_ids)
        self.room = room_for(compile_tokens(self.template, model.tokenize)) * (2 if decoder == "gbnf" else 1)
        self.budget = model.ctx_size - len(self._prompt("")) - self.room - _SLACK
        self.prefix = constant_prefix(self._prompt)
        if self.budget < _SLACK:
            raise ContextError(
                f"The prompt and the answer fill the context of {model.ctx_size} tokens; nothing is left for a document.",
                model.room_advice,
            )

    def _prompt(self, document: str) -> list[int]:
        return self.model.chat_tokens(self.task.messages(self.profile, document, self.order))

    @property
    def prompt_sha256(self) -> str:
        """Fingerprint of the tokens around a document."""
        return hashlib.sha256(repr(self._prompt("")).encode()).hexdigest()

    def __call__(
        self, documents: Sequence[Sequence[str]], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Extraction]:
        """Read documents together, each given as turns of one line; `progress` is told the windows done and their number.

        What cannot be read is unanswered, with the reason. The answers depend on nothing but `documents`.
        """
        readings = [self._read(turns) for turns in documents]
        prompts = [prompt for reading in readings if isinstance(reading, _Reading) for prompt in reading.prompts]
        self.model.hold(self.prefix)
        answers: list[Decisions] = []
        for decisions in self.decoder(self.model, prompts, self.template):
            answers.append(decisions)
            progress(len(answers), len(prompts))
        remaining = iter(answers)
        return [
            self._combined(reading.windows, list(islice(remaining, len(reading.windows))))
            if isinstance(reading, _Reading)
            else Extraction.unanswered(self.task, reading)
            for reading in readings
        ]

    def _read(self, turns: Sequence[str]) -> _Reading | ContextError:
        lengths = [len(self.model.tokenize(turn + "\n")) for turn in turns]
        try:
            spans = windows(lengths, self.budget, self.profile.window_turns, self.profile.overlap_turns)
            prompts = [self._prompt("\n".join(turns[first:last])) for first, last in spans]
            for prompt in prompts:
                self.model.check_room(prompt, self.room)
        except ContextError as error:
            return error
        return _Reading(spans, prompts)

    def _combined(self, spans: list[Window], answers: list[Decisions]) -> Extraction:
        return Extraction({field: _any([decisions[field] for decisions in answers]) for field in self.task.field_ids}, spans)


def _any(decisions: Sequence[Decision]) -> Decision:
    """Yes if any window says yes; else unanswered if any is; else no. The surest yes gives the probability."""
    answered = [d for d in decisions if d.p_yes is not None]
    best = max(answered, key=lambda d: d.p_yes or 0.0, default=None)
    if best is not None and (best.yes or len(answered) == len(decisions)):
        return best
    return next(d for d in decisions if d.yes is None)
