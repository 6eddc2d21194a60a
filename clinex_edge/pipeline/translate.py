"""From a document's turns to one English turn each, with every doubt named."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clinex_edge.documents import Document, Turn
from clinex_edge.documents.language import share_of_persian
from clinex_edge.errors import ContextError
from clinex_edge.llama.model import Logits, Model
from clinex_edge.tasks import TranslationPrompt

_BREAK = re.compile(r"(?<=[.!?؟،])\s+")  # "38.5" stays whole


@dataclass(frozen=True)
class TranslatedTurn:
    """`doubt` says why the text should not be trusted (None: no reason found).

    `mean_logprob` is the mean natural-log probability of the text's tokens.
    """

    turn: int
    text: str
    mean_logprob: float
    doubt: str | None = None


class Translator:
    """Translates turns with one model, greedily."""

    def __init__(self, model: Model, prompt: TranslationPrompt):
        self.model, self.prompt = model, prompt

    def __call__(self, document: Document, progress: Callable[[int], None] = lambda _: None) -> list[TranslatedTurn]:
        """One English turn per turn; `progress` is told how many are done.

        A turn that comes back empty, untranslated, looping, cut or improbable is tried again without the document,
        then sentence by sentence; the best attempt is kept, with its doubt.
        Raises ContextError where a single turn does not fit.
        """
        context = self._context(document)
        result = []
        for done, turn in enumerate(document.turns, 1):
            result.append(self._turn(turn, context))
            progress(done)
        return result

    def _context(self, document: Document) -> str | None:
        """The document's text, where it fits beside the longest turn and its translation."""
        if not self.prompt.turn_in_document:
            return None
        text = "\n".join(turn.for_model for turn in document.turns)
        longest = max(document.turns, key=lambda turn: len(turn.for_model)).for_model
        prompt = self.model.chat_tokens(self.prompt.messages(longest, text))
        return text if len(prompt) + _room(self.model, longest) <= self.model.ctx_size else None

    def _turn(self, turn: Turn, context: str | None) -> TranslatedTurn:
        attempts: list[TranslatedTurn] = []
        for parts, with_context in self._ways(turn.for_model, context):
            texts, scores, doubts = zip(*(self._generate(part, with_context) for part in parts), strict=True)
            doubt = next((d for d in doubts if d), None)
            attempts.append(TranslatedTurn(turn.number, " ".join(texts).strip(), float(np.mean(scores)), doubt))
            if doubt is None:
                break
        best = max(attempts, key=lambda a: (a.doubt is None, bool(a.text), a.mean_logprob))
        if not best.text:  # the extractor still reads what was said
            return TranslatedTurn(turn.number, turn.for_model, best.mean_logprob, best.doubt)
        return best

    def _ways(self, text: str, context: str | None) -> list[tuple[list[str], str | None]]:
        """The attempts at a turn, in order: its parts and the context that goes with them."""
        ways: list[tuple[list[str], str | None]] = [([text], context)] if context is not None else []
        ways.append(([text], None))
        sentences = [s for s in _BREAK.split(text) if any(c.isalnum() for c in s)]
        if len(sentences) > 1:
            ways.append((sentences, None))
        return ways

    def _generate(self, text: str, context: str | None) -> tuple[str, float, str | None]:
        """The translation of one text, its mean log-probability, and what is wrong with it."""
        prompt = self.model.chat_tokens(self.prompt.messages(text, context))
        room = _room(self.model, text)
        if len(prompt) + room > self.model.ctx_size:
            raise ContextError(
                f"A turn of {len(text)} characters does not fit the translator's context of {self.model.ctx_size} tokens.",
                f"Break the turn into lines. {self.model.room_advice}",
            )
        logits = self.model.prefill(prompt, room)
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < room:
            token = int(logits.argmax())
            logprobs.append(_logprob(logits, token))
            if self.model.is_end(token):
                break
            tokens.append(token)
            logits = self.model.extend([token])
        english = " ".join(self.model.detokenize(tokens).split())
        score = float(np.mean(logprobs))
        return english, score, self._doubt(english, score, cut=len(tokens) >= room)

    def _doubt(self, english: str, score: float, cut: bool) -> str | None:
        if not english:
            return "empty"
        if loops(english):
            return "looping"
        if cut:
            return "cut"
        if share_of_persian(english) > 0.2:
            return "untranslated"
        return f"improbable ({score:.2f})" if score < self.prompt.min_mean_logprob else None


def _room(model: Model, text: str) -> int:
    """Tokens that a translation may have: three times the source's and some, far more than English needs."""
    return 3 * len(model.tokenize(text)) + 32


def _logprob(logits: Logits, token: int) -> float:
    top = float(logits.max())
    return float(logits[token]) - top - float(np.log(np.exp(logits - top).sum()))


def loops(text: str) -> bool:
    """Whether the same run of one to eight words stands four times or more in a row, over at least twelve words."""
    words = text.lower().split()
    for size in range(1, 9):
        run = 0
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            if run + size >= max(12, 4 * size):
                return True
    return False
