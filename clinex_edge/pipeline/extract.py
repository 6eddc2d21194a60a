"""From turns to answers: windows, prompts, decoder, and one answer a field for the whole document."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


class Extractor:
    """Asks one task's fields of one model in one language."""

    def __init__(self, model: Model, task: Task, profile: str, language: str, decoder: str):
        """Raises UsageError where the task has no such profile or the decoder is unknown, TaskError where the tokenizer
        cannot tell yes from no, and ContextError where the prompt alone does not fit."""
        self.model, self.task, self.decoder = model, task, get_decoder(decoder)
        self.profile = task.profile(profile, language)
        self.order = prompt_order(decoder)
        self.template = Template.compile(self.profile, task.field_ids)
        room = room_for(compile_tokens(self.template, model.tokenize)) * (2 if decoder == "gbnf" else 1)
        self.budget = model.ctx_size - len(self._prompt("")) - room - _SLACK
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

    def __call__(self, turns: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None) -> Extraction:
        """Read `turns`, each one line of text; `progress` is told the windows done and their number.

        What cannot be read is unanswered, with the reason.
        """
        lengths = [len(self.model.tokenize(turn + "\n")) for turn in turns]
        try:
            spans = windows(lengths, self.budget, self.profile.window_turns, self.profile.overlap_turns)
            results = []
            for first, last in spans:
                self.model.hold(self.prefix)
                results.append(self.decoder(self.model, self._prompt("\n".join(turns[first:last])), self.template))
                progress(len(results), len(spans))
        except ContextError as error:
            return Extraction({f: Decision(None, None, reason=str(error)) for f in self.task.field_ids}, [])
        return Extraction({f: _any([r[f] for r in results]) for f in self.task.field_ids}, spans)


def _any(decisions: Sequence[Decision]) -> Decision:
    """Yes if any window says yes; else unanswered if any is; else no. The surest yes gives the probability."""
    answered = [d for d in decisions if d.p_yes is not None]
    best = max(answered, key=lambda d: d.p_yes or 0.0, default=None)
    if best is not None and (best.yes or len(answered) == len(decisions)):
        return best
    return next(d for d in decisions if d.yes is None)
