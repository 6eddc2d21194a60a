"""Generates parallel Persian-English calls and notes with gold labels.

    python -m benchmarks.corpus.generate --split test --count 300 --seed 7 --out held-out.jsonl

The same seed gives the same calls. `train` and `test` share the slot words, never a phrasing.
"""

import json
import random
import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import click

from benchmarks.corpus import noise
from benchmarks.corpus.phrasings import FIELDS, LABEL, Phrasing, load

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


@cache
def _lexicon() -> dict[str, list[list[str]]]:
    return tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))


class Generator:
    """Draws calls from one split of the phrasings ("train" or "test").

    `density` scales how many fields a call states; `disturbance` how noisy the Persian is (0 to 1).
    """

    def __init__(self, split: str, seed: int, density: float = 1.0, disturbance: float = 1.0):
        self.random = random.Random(seed)
        self.density, self.disturbance = density, disturbance
        self.by_kind: dict[tuple[str | None, str, str], list[Phrasing]] = defaultdict(list)
        for phrasing in load():
            if phrasing.held_out == (split == "test"):
                self.by_kind[phrasing.field, phrasing.kind, phrasing.voice].append(phrasing)

    def _draw(self, field: str | None, kind: str, voices: str) -> Phrasing | None:
        """A phrasing of a kind that this call has not used, with the voices in order of preference."""
        for voice in voices:
            pool = self.by_kind.get((field, kind, voice), [])
            if fresh := [p for p in pool if id(p) not in self._used] or pool:
                choice = self.random.choice(fresh)
                self._used.add(id(choice))
                return choice
        return None

    def call(self, min_turns: int = 4, max_turns: int = 30) -> Call:
        r = self.random
        self._used: set[int] = set()
        style = r.choices(["dialogue", "bare", "note"], [0.72, 0.08, 0.2])[0]
        voice = "S" if style == "note" else r.choice("FFP")
        filler = _Filler(r)
        positive = [f for f in FIELDS if r.random() < min(0.8, PREVALENCE[f] * self.density)]
        negative = [f for f in FIELDS if f not in positive and r.random() < 0.17]
        pieces: list[list[tuple[str, str, str, set[str], set[str]]]] = []  # exchanges of (role, fa, en, yes, needs_previous)
        for f in positive:
            kind = "asked_yes" if voice != "S" and r.random() < 0.25 else "positive"
            pieces += self._piece(f, kind, voice, filler)
            if r.random() < 0.15:
                pieces += self._piece(f, "positive", voice, filler)
        for f in negative:
            weights = [3, 1, 1, 1, 0 if voice == "S" else 3]
            pieces += self._piece(f, r.choices(NEGATIVE_KINDS, weights)[0], voice, filler)
        while r.random() < min(0.5, 0.15 * self.density):
            pieces += self._piece(None, "mixed", voice, filler)
        target = r.randint(min_turns, max_turns if r.random() < 0.15 else max(min_turns, max_turns // 2))
        if style == "note":
            target = r.randint(3, 8)
        while sum(map(len, pieces)) < target - (2 if voice != "S" else 0) or not pieces:
            kind = "statement" if voice == "S" else r.choices(["statement", "exchange", "question"], [5, 3, 1])[0]
            pieces += self._piece(None, kind, voice, filler)
        r.shuffle(pieces)
        return Call(self._assemble(pieces, voice, style, filler), style == "note")

    def _piece(self, field, kind, voice, filler):
        """An exchange of one or two utterances made from one phrasing, or nothing where the split has none."""
        r = self.random
        by_nurse = {"question": 1.0, "statement": 0.35, "hypothetical": 0.4}.get(kind, 0.0) if voice != "S" else 0.0
        phrasing = self._draw(field, kind, "N" + voice if r.random() < by_nurse else voice)
        if phrasing is None:
            return []
        teller = "N" if phrasing.voice == "N" else voice
        if len(phrasing.fa) == 1:
            fa, en = filler.fill(phrasing.fa[0], phrasing.en[0])
            return [[(teller, fa, en, set(phrasing.yes), set())]]
        question, answer = (filler.fill(a, b) for a, b in zip(phrasing.fa, phrasing.en, strict=True))
        if field and r.random() < 0.3:
            generic = self._draw(None, "answer_yes" if LABEL[kind] else "answer_no", voice)
            if generic:
                answer = filler.fill(generic.fa[0], generic.en[0])
        return [[("N", *question, set(), set()), (voice, *answer, set(phrasing.yes), set(phrasing.yes))]]

    def _assemble(self, pieces, voice, style, filler) -> list[Turn]:
        r, turns = self.random, []
        labels = {role: r.choice(_lexicon()[name]) for role, name in
                  (("N", "label_nurse"), ("F", "label_family"), ("P", "label_patient"))}  # fmt: skip
        colon = r.choice([":", ":", ":", " :"])

        def add(role: str, fa: str, en: str, yes: set[str], needs: set[str]) -> None:
            fa, en = noise.persian(_sentence(fa, "؟"), r, self.disturbance), _sentence(en, "?")
            if style == "dialogue":
                fa, en = f"{labels[role][0]}{colon} {fa}", f"{labels[role][1]}: {en}"
            turns.append(Turn(fa, en, yes, needs))

        def extra(kind: str, role: str) -> None:
            if phrasing := self._draw(None, kind, role):
                add(role, *filler.fill(phrasing.fa[0], phrasing.en[0]), set(), set())

        if voice != "S":
            extra("opener", "N") if r.random() < 0.6 else None
            extra("opener", voice) if r.random() < 0.4 else None
        held: tuple | None = None  # an utterance that waits to share a turn with the next one of the same speaker
        for piece in pieces:
            for role, fa, en, yes, needs in piece:
                if held and held[0] == role and not needs:
                    joint = r.choice([("، ", ", "), (" و ", " and "), ("، ", " and "), (". ", ". ")])
                    if re.search(r"[.؟?!]$", held[1]):
                        joint = (" ", " ")
                    fa, en, yes = held[1] + joint[0] + fa, held[2] + joint[1] + en, held[3] | yes
                    needs, held = held[4] | needs, None
                elif held:
                    add(*held)
                    held = None
                if voice != "S" and not needs and r.random() < 0.12 and (o := self._draw(None, "opener", role)):
                    opener = filler.fill(o.fa[0], o.en[0])
                    fa, en = f"{opener[0]} {fa}", f"{opener[1]} {en}"
                if len(piece) == 1 and r.random() < 0.3:
                    held = (role, fa, en, yes, needs)
                else:
                    add(role, fa, en, yes, needs)
        if held:
            add(*held)
        if voice != "S":
            extra("closer", r.choice(["N", voice])) if r.random() < 0.7 else None
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


def _sentence(text: str, question_mark: str) -> str:
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
