"""Sentences made of a frame and a complaint: "{x} ندارد" and "تب". They teach that what is said of a thing is not the thing.

Used for training only. `python -m benchmarks.corpus.frames` checks both files and counts.
"""

import random
import re
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.corpus.phrasings import ENGLISH_SLOTS, FIELDS, LABEL, Phrasing

FOLDER = Path(__file__).parent


def _rows(name: str) -> list[tuple[int, list[str]]]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [(n, [c.strip() for c in line.split(" | ")]) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]


class Frames:
    """Every frame and every complaint. Raises ValueError naming the lines that are wrong."""

    def __init__(self) -> None:
        self.frames: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)  # (Persian, English, y)
        self.complaints: dict[str, list[tuple[str, str]]] = defaultdict(list)
        errors = []
        for number, row in _rows("complaints.txt"):
            if len(row) != 3 or row[0] not in FIELDS:
                errors.append(f"complaints.txt:{number}: not 'field | Persian | English'")
            else:
                self.complaints[row[0]].append((row[1], row[2]))
        for number, row in _rows("frames.txt"):
            if problem := _problem(row):
                errors.append(f"frames.txt:{number}: {problem}")
            else:
                self.frames[row[0], row[1]].append((row[2], row[3], row[4] if len(row) == 5 else ""))
        if errors:
            raise ValueError("\n".join(errors))

    def draw(self, r: random.Random, field: str, kind: str, voice: str) -> Phrasing | None:
        """A sentence of that kind about a complaint of `field`, or nothing where no frame has the voice."""
        if not (pool := self.frames.get((kind, voice))):
            return None
        fa, en, second = r.choice(pool)
        yes = {field} if LABEL[kind] else set()
        words = {"{x}": r.choice(self.complaints[field])}
        if second:
            other = r.choice([f for f in FIELDS if f != field])
            words["{y}"] = r.choice(self.complaints[other])
            yes |= {other} if second == "yes" else set()
        for hole, (persian, english) in words.items():
            fa, en = fa.replace(hole, persian), en.replace(hole, english)
        return Phrasing(field, kind, voice, tuple(fa.split(" >> ")), tuple(en.split(" >> ")), frozenset(yes))


def _problem(row: list[str]) -> str | None:
    if len(row) not in (4, 5) or row[0] not in LABEL or row[1] not in "PFNS":
        return "not 'kind | voice | Persian | English', and yes or no where there is a {y}"
    if (len(row) == 5) != ("{y}" in row[2]) or (len(row) == 5 and row[4] not in ("yes", "no")):
        return "a frame with {y} needs a fifth column, yes or no, and only such a frame"
    pieces = 2 if row[0].startswith("asked") else 1
    if any(len(text.split(" >> ")) != pieces for text in row[2:4]):
        return f"needs {pieces} part(s) in each language, separated by >>"
    if any("{x}" not in text for text in row[2:4]) or ("{y}" in row[2]) != ("{y}" in row[3]):
        return "the holes of the two languages differ"
    slots = [sorted(s for s in re.findall(r"\{(\w+)\}", text) if s not in {*ENGLISH_SLOTS, "x"}) for text in row[2:4]]
    return None if slots[0] == slots[1] else "the slots of the two languages differ"


if __name__ == "__main__":
    everything = Frames()
    print({f: len(c) for f, c in everything.complaints.items()})
    print(Counter({f"{kind} {voice}": len(pool) for (kind, voice), pool in everything.frames.items()}))
