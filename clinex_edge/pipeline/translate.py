"""From a document's turns to one English turn each, with every doubt named."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clinex_edge.documents import Document, Turn
from clinex_edge.documents.language import share_of_persian
from clinex_edge.errors import ContextError
from clinex_edge.llama.batching import Generation, Job, generate
from clinex_edge.llama.model import Model, constant_prefix
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


Translation = list[TranslatedTurn] | ContextError
_Place = tuple[int, int]  # document (from 0) and turn (from 1)


@dataclass(frozen=True)
class _Attempt:
    """One way to ask for a turn: its text in parts, and the document's text where it goes with them."""

    parts: list[str]
    context: str | None


@dataclass(frozen=True)
class _Part:
    """One piece of a turn to translate."""

    place: _Place
    number: int
    job: Job


class Translator:
    """Translates the turns of documents with one model, greedily, many at once."""

    def __init__(self, model: Model, prompt: TranslationPrompt):
        self.model, self.prompt = model, prompt
        self.prefix = constant_prefix(lambda text: model.chat_tokens(prompt.messages(text, text if prompt.turn_in_document else None)))

    def __call__(self, documents: Sequence[Document], progress: Callable[[int], None] = lambda _: None) -> list[Translation]:
        """One English turn per turn of each document; `progress` is told how many turns are done.

        A turn that comes back empty, untranslated, looping, cut or improbable is tried again without the document,
        then sentence by sentence; the best attempt is kept, with its doubt. Where a turn of a document does not fit
        the context, its place holds the ContextError. The texts depend on nothing but `documents`.
        """
        turns = {(d, turn.number): turn for d, document in enumerate(documents) for turn in document.turns}
        contexts = [self._context(document) for document in documents]
        ways = {at: self._ways(turn.for_model, contexts[at[0]]) for at, turn in turns.items()}
        tried: dict[_Place, list[TranslatedTurn]] = {at: [] for at in turns}
        failed: dict[int, ContextError] = {}
        done = 0
        for attempt in range(max(map(len, ways.values()), default=0)):
            pending = [at for at in turns if attempt < len(ways[at]) and all(t.doubt for t in tried[at])]
            groups: dict[int, list[_Part]] = defaultdict(list)
            for at in pending:
                way = ways[at][attempt]
                try:
                    groups[at[0]] += [_Part(at, i, self._job(text, way.context)) for i, text in enumerate(way.parts)]
                except ContextError as error:
                    failed[at[0]] = error
            fitting = [parts for d, parts in groups.items() if d not in failed]
            for at, turn in self._attempt(fitting) if fitting else []:
                tried[at].append(turn)
                if not turn.doubt or len(tried[at]) == len(ways[at]):
                    done += 1
                    progress(done)
        return [
            failed.get(d) or [self._best(turn, tried[d, turn.number]) for turn in document.turns] for d, document in enumerate(documents)
        ]

    def _attempt(self, groups: list[list[_Part]]) -> Iterator[tuple[_Place, TranslatedTurn]]:
        """One attempt at each of several turns, each as soon as all its parts are done."""
        self.model.hold(self.prefix)
        expected = Counter(part.place for parts in groups for part in parts)
        results: dict[_Place, dict[int, tuple[str, float, str | None]]] = defaultdict(dict)
        for group, job, generation in generate(self.model, [[part.job for part in parts] for parts in groups]):
            part = groups[group][job]
            results[part.place][part.number] = self._judged(generation)
            if len(results[part.place]) == expected[part.place]:
                texts, scores, doubts = zip(*(result for _, result in sorted(results[part.place].items())), strict=True)
                doubt = next((d for d in doubts if d), None)
                yield part.place, TranslatedTurn(part.place[1], " ".join(texts).strip(), float(np.mean(scores)), doubt)

    def _best(self, turn: Turn, attempts: list[TranslatedTurn]) -> TranslatedTurn:
        best = max(attempts, key=lambda a: (a.doubt is None, bool(a.text), a.mean_logprob))
        if not best.text:  # the extractor still reads what was said
            return TranslatedTurn(turn.number, turn.for_model, best.mean_logprob, best.doubt)
        return best

    def _context(self, document: Document) -> str | None:
        """The document's text, where it fits beside the longest turn and its translation."""
        if not self.prompt.turn_in_document:
            return None
        text = "\n".join(turn.for_model for turn in document.turns)
        longest = max(document.turns, key=lambda turn: len(turn.for_model)).for_model
        prompt = self.model.chat_tokens(self.prompt.messages(longest, text))
        return text if len(prompt) + _room(self.model, longest) <= self.model.ctx_size else None

    def _ways(self, text: str, context: str | None) -> list[_Attempt]:
        """The attempts at a turn, in order."""
        ways = [_Attempt([text], context)] if context is not None else []
        ways.append(_Attempt([text], None))
        sentences = [s for s in _BREAK.split(text) if any(c.isalnum() for c in s)]
        if len(sentences) > 1:
            ways.append(_Attempt(sentences, None))
        return ways

    def _job(self, text: str, context: str | None) -> Job:
        """What to ask for one text. Raises ContextError where it does not fit."""
        prompt = self.model.chat_tokens(self.prompt.messages(text, context))
        room = _room(self.model, text)
        if len(prompt) + room > self.model.ctx_size:
            raise ContextError(
                f"A turn of {len(text)} characters does not fit the translator's context of {self.model.ctx_size} tokens.",
                f"Break the turn into lines. {self.model.room_advice}",
            )
        return Job(prompt, room)

    def _judged(self, generation: Generation) -> tuple[str, float, str | None]:
        """The translation of one text, its mean log-probability, and what is wrong with it."""
        english = " ".join(self.model.detokenize(generation.tokens).split())
        score = float(np.mean(generation.logprobs))
        return english, score, self._doubt(english, score, generation.cut)

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
