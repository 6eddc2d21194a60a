"""Generates parallel Persian-English calls and notes with gold labels.

    python -m benchmarks.corpus.generate --split test --count 300 --seed 7 --out held-out.jsonl

The same seed gives the same calls. `train` and `test` share the slot words, never a phrasing.
"""

import json
import random
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import click

from benchmarks.corpus import noise
from benchmarks.corpus.frames import Frames
from benchmarks.corpus.phrasings import FIELDS, LABEL, Phrasing, load
from clinex_edge import _toml

# Share of calls in which a field is positive: the study's where it can be read off, a guess elsewhere (sum 1.3 a call).
PREVALENCE = dict(zip(FIELDS, (0.15, 0.10, 0.06, 0.12, 0.05, 0.12, 0.08, 0.08, 0.10, 0.08, 0.09, 0.18, 0.22), strict=True))
NEGATIVE_KINDS = [k for k, yes in LABEL.items() if not yes]


@dataclass
class Turn:
    """One turn in both languages. `yes` holds the fields it states, `needs_previous` those only clear after the turn before."""

    fa: str
    en: str
    yes: set[str] = field(default_factory=set)
    needs_previous: set[str] = field(default_factory=set)


@dataclass
class Call:
    turns: list[Turn]
    paragraph: bool  # a note of sentences rather than turns on lines

    @property
    def labels(self) -> dict[str, bool]:
        return {f: any(f in t.yes for t in self.turns) for f in FIELDS}

    @property
    def evidence(self) -> dict[str, list[int]]:
        """Per positive field the turns that state it, from 1."""
        return {f: [n for n, t in enumerate(self.turns, 1) if f in t.yes] for f in FIELDS if self.labels[f]}

    def text(self, language: str) -> str:
        return (" " if self.paragraph else "\n").join(getattr(t, language) for t in self.turns)


@dataclass(frozen=True)
class Utterance:
    """What one speaker (N nurse, F relative, P patient, S the author of a note) says in one go, in both languages."""

    role: str
    fa: str
    en: str
    yes: frozenset[str] = frozenset()
    needs_previous: frozenset[str] = frozenset()

    def followed_by(self, other: "Utterance", joint: tuple[str, str]) -> "Utterance":
        """Both in one turn, joined by a Persian and an English conjunction."""
        fa, en = self.fa + joint[0] + other.fa, self.en + joint[1] + other.en
        return Utterance(self.role, fa, en, self.yes | other.yes, self.needs_previous)

    def after(self, opener: "Utterance") -> "Utterance":
        return replace(self, fa=f"{opener.fa} {self.fa}", en=f"{opener.en} {self.en}")


@cache
def _lexicon() -> dict[str, list[list[str]]]:
    return _toml.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))


class Generator:
    """Draws calls from one split of the phrasings ("train" or "test").

    `density` scales how many fields a call states, `distraction` is the chance that it mentions a field without stating it,
    `framed` that a wording is made of a frame and a complaint (for training; never one that is held out).
    """

    def __init__(self, split: str, seed: int, density: float = 1.0, distraction: float = 0.17, framed: float = 0.0):
        self.random = random.Random(seed)
        self.density, self.distraction, self.framed = density, distraction, framed
        phrasings = load()
        self._frames = Frames() if framed else None
        self._held_out = {_letters(" ".join(p.fa)) for p in phrasings if p.held_out} if framed else set()
        self.by_kind: dict[tuple[str | None, str, str], list[Phrasing]] = defaultdict(list)
        for phrasing in phrasings:
            if phrasing.held_out == (split == "test"):
                self.by_kind[phrasing.field, phrasing.kind, phrasing.voice].append(phrasing)

    def call(self, min_turns: int = 4, max_turns: int = 30) -> Call:
        """A fresh call or note; most have at most half of `max_turns`."""
        r = self.random
        self._used: set[int] = set()
        self._filler = _Filler(r)
        style = r.choices(["dialogue", "bare", "note"], [0.72, 0.08, 0.2])[0]
        voice = "S" if style == "note" else r.choice("FFP")
        exchanges = self._stated_and_denied(voice)
        target = r.randint(min_turns, max_turns if r.random() < 0.15 else max(min_turns, max_turns // 2))
        target = r.randint(3, 8) if style == "note" else target - 2
        while sum(map(len, exchanges)) < target or not exchanges:
            kind = "statement" if voice == "S" else r.choices(["statement", "exchange", "question"], [5, 3, 1])[0]
            exchanges += self._exchange(None, kind, voice)
        r.shuffle(exchanges)
        return Call(self._turns(exchanges, voice, labelled=style == "dialogue"), style == "note")

    def _stated_and_denied(self, voice: str) -> list[list[Utterance]]:
        """Exchanges about the fields that this call is to state, and about some that it is not."""
        r, exchanges = self.random, []
        positive = [f for f in FIELDS if r.random() < min(0.8, PREVALENCE[f] * self.density)]
        for f in positive:
            exchanges += self._exchange(f, "asked_yes" if voice != "S" and r.random() < 0.25 else "positive", voice)
            if r.random() < 0.15:
                exchanges += self._exchange(f, "positive", voice)
        for f in FIELDS:
            if f not in positive and r.random() < self.distraction:
                kind = r.choices(NEGATIVE_KINDS, [3, 1, 1, 1, 0 if voice == "S" else 3])[0]
                exchanges += self._exchange(f, kind, voice)
        while r.random() < min(0.5, 0.15 * self.density):
            exchanges += self._exchange(None, "mixed", voice)
        return exchanges

    def _draw(self, field: str | None, kind: str, voices: str) -> Phrasing | None:
        """A phrasing of a kind that this call has not used, with the voices in order of preference."""
        for voice in voices:
            pool = self.by_kind.get((field, kind, voice), [])
            if fresh := [p for p in pool if id(p) not in self._used] or pool:
                choice = self.random.choice(fresh)
                self._used.add(id(choice))
                return choice
        return None

    def _framed(self, field: str | None, kind: str, voice: str) -> Phrasing | None:
        """A wording made of a frame and a complaint, as often as `framed` says."""
        if field is None or self._frames is None or self.random.random() >= self.framed:
            return None
        phrasing = self._frames.draw(self.random, field, kind, voice)
        return None if phrasing is None or _letters(" ".join(phrasing.fa)) in self._held_out else phrasing

    def _exchange(self, field: str | None, kind: str, voice: str) -> list[list[Utterance]]:
        """An exchange of one or two utterances made from one phrasing, or nothing where the split has none."""
        r, fill = self.random, self._filler.fill
        by_nurse = {"question": 1.0, "statement": 0.35, "hypothetical": 0.4}.get(kind, 0.0) if voice != "S" else 0.0
        voices = "N" + voice if r.random() < by_nurse else voice
        phrasing = self._framed(field, kind, voices[0]) or self._draw(field, kind, voices)
        if phrasing is None:
            return []
        teller = "N" if phrasing.voice == "N" else voice
        if len(phrasing.fa) == 1:
            return [[Utterance(teller, *fill(phrasing.fa[0], phrasing.en[0]), phrasing.yes)]]
        question, answer = (fill(fa, en) for fa, en in zip(phrasing.fa, phrasing.en, strict=True))
        if field and r.random() < 0.3 and (generic := self._draw(None, "answer_yes" if LABEL[kind] else "answer_no", voice)):
            answer = fill(generic.fa[0], generic.en[0])
        return [[Utterance("N", *question), Utterance(voice, *answer, phrasing.yes, phrasing.yes)]]

    def _turns(self, exchanges: list[list[Utterance]], voice: str, labelled: bool) -> list[Turn]:
        """Greetings around the exchanges, and what a speaker says in a row partly in one turn."""
        r = self.random
        utterances: list[Utterance] = []
        if voice != "S":
            for role, chance in (("N", 0.6), (voice, 0.4)):
                utterances += self._talk("opener", role) if r.random() < chance else []
        talkative = r.choice([0.15, 0.3, 0.6])
        sentences = [] if voice == "S" else [(". ", ". ")] * 2  # in a note every sentence is a turn
        ended = ("؟", ".") if voice == "S" else ("؟",)
        open_turn = False
        for utterance in (u for exchange in exchanges for u in exchange):
            last = utterances[-1] if utterances else None
            if open_turn and last and last.role == utterance.role and not utterance.needs_previous and not last.fa.endswith(ended):
                joint = (" ", " ") if last.fa[-1] in ".!" else r.choice([("، ", ", "), (" و ", " and "), *sentences])
                utterances[-1] = last.followed_by(utterance, joint)
            else:
                openers = []
                if voice != "S" and not utterance.needs_previous and r.random() < 0.12:
                    openers = self._talk("opener", utterance.role)
                utterances.append(utterance.after(openers[0]) if openers else utterance)
            open_turn = r.random() < talkative and len(utterances[-1].fa) < 220
        if voice != "S" and r.random() < 0.7:
            utterances += self._talk("closer", r.choice(["N", voice]))
        return self._written(utterances, labelled)

    def _talk(self, kind: str, role: str) -> list[Utterance]:
        phrasing = self._draw(None, kind, role)
        return [Utterance(role, *self._filler.fill(phrasing.fa[0], phrasing.en[0]))] if phrasing else []

    def _written(self, utterances: list[Utterance], labelled: bool) -> list[Turn]:
        """Utterances as lines: punctuation, noise on the Persian, and the speakers' labels."""
        r, words = self.random, _lexicon()
        labels = {role: r.choice(words[f"label_{name}"]) for role, name in (("N", "nurse"), ("F", "family"), ("P", "patient"))}
        colon = r.choice([":", ":", ":", " :"])
        turns = []
        for u in utterances:
            fa, en = noise.persian(_sentence(u.fa), r), _sentence(u.en)
            if labelled:
                fa, en = f"{labels[u.role][0]}{colon} {fa}", f"{labels[u.role][1]}: {en}"
            turns.append(Turn(fa, en, set(u.yes), set(u.needs_previous)))
        return turns


class _Filler:
    """Fills the slots of one call; the patient and the pronoun stay the same throughout."""

    def __init__(self, r: random.Random):
        self.random, words = r, _lexicon()
        self.who = r.choice(words["who"])
        female = self.who[2] == "f"
        self.pronoun = {"he": "she", "him": "her", "his": "her", "himself": "herself"} if female else {}

    def fill(self, fa: str, en: str) -> tuple[str, str]:
        for slot in dict.fromkeys(re.findall(r"\{(\w+)\}", en)):
            if slot == "num":
                n = self.random.randint(2, 9)
                pair = [chr(0x06F0 + n), str(n)]
            elif slot == "who":
                pair = self.who[:2]
            elif slot in ("he", "him", "his", "himself"):
                pair = ["", self.pronoun.get(slot, slot)]
            else:
                pair = self.random.choice(_lexicon()[slot])
            fa, en = fa.replace(f"{{{slot}}}", pair[0]), en.replace(f"{{{slot}}}", pair[1])
        return fa, en


def _letters(text: str) -> str:
    """The letters of a text alone, to compare wordings."""
    return "".join(c for c in text if c.isalpha())


def _sentence(text: str) -> str:
    """Capital first letters and a full stop, where they are missing."""
    text = text.strip()
    if text[-1] in "،,":
        text = text[:-1]
    if text[-1] not in ".؟?!…":
        text += "."
    return re.sub(r"(^|[.?!] )([a-z])", lambda m: m[1] + m[2].upper(), text)


@click.command(help=__doc__)
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option("--count", default=300, show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), required=True)
def main(split: str, count: int, seed: int, out: str) -> None:
    generator = Generator(split, seed)
    with open(out, "w", encoding="utf-8") as file:
        for number in range(1, count + 1):
            call = generator.call()
            row = {
                "id": f"{split}-{number:04d}",
                "fa": call.text("fa"),
                "en": call.text("en"),
                "labels": call.labels,
                "evidence": call.evidence,
                "turns": [[t.fa, t.en] for t in call.turns],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
