"""Reads the phrasing files; `python -m benchmarks.corpus.phrasings [FILE…]` checks them and counts."""

import hashlib
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "phrasings"
FIELDS = [
    "doctor_visit_request", "psychological_complaints", "sleep_disorders", "appetite_loss", "seizures", "weakness_fatigue",
    "decreased_consciousness", "fever", "respiratory_complaints", "insurance_cost_issues", "urinary_issues", "pain",
    "gastrointestinal_issues",
]  # fmt: skip
LABEL = {
    "positive": True, "denied": False, "resolved": False, "other": False,
    "hypothetical": False, "asked_yes": True, "asked_no": False,
}  # fmt: skip
NEUTRAL = ("statement", "question", "answer_yes", "answer_no", "opener", "closer", "exchange", "mixed")
PAIRED_SLOTS = {"who", "since", "now", "drug", "person", "part", "num"}
ENGLISH_SLOTS = {"he", "him", "his", "himself"}


@dataclass(frozen=True)
class Phrasing:
    """One wording in both languages. `fa` and `en` hold one part, or two (question, answer) for a pair."""

    field: str | None  # None: neutral talk
    kind: str
    voice: str
    fa: tuple[str, ...]
    en: tuple[str, ...]
    yes: frozenset[str]  # every field that this wording states as current

    @property
    def held_out(self) -> bool:
        """Whether this wording belongs to the test split (a fifth, by hash of the Persian text)."""
        return hashlib.sha256(" ".join(self.fa).encode()).digest()[0] % 5 == 0


def parse(line: str, field: str | None) -> Phrasing:
    """One line of a phrasing file. Raises ValueError saying what is wrong."""
    columns = [c.strip() for c in (line.rstrip() + " ").split(" | ")]
    if len(columns) not in (4, 5):
        raise ValueError(f"{len(columns)} columns, not 4 or 5")
    kind, voice, fa, en = columns[:4]
    also = {f.strip() for f in columns[4].split(",") if f.strip()} if len(columns) == 5 else set()
    kinds = LABEL if field else NEUTRAL
    if kind not in kinds:
        raise ValueError(f"unknown kind {kind!r}")
    if voice not in "PFNS" or len(voice) != 1:
        raise ValueError(f"unknown voice {voice!r}")
    if unknown := also - set(FIELDS):
        raise ValueError(f"unknown field {', '.join(unknown)}")
    fa_parts, en_parts = tuple(p.strip() for p in fa.split(">>")), tuple(p.strip() for p in en.split(">>"))
    wanted = 2 if kind.startswith("asked") or kind == "exchange" else 1
    if len(fa_parts) != wanted or len(en_parts) != wanted:
        raise ValueError(f"a {kind} line needs {wanted} part(s) in each language, separated by >>")
    if not re.search("[\u0600-\u06ff]", fa) or re.search("[A-Za-z]", re.sub(r"\{\w+\}", "", fa)):
        raise ValueError("the third column must be Persian script")
    if re.search("[\u0600-\u06ff]", en):
        raise ValueError("the fourth column must be English")
    slots_fa, slots_en = Counter(re.findall(r"\{(\w*)\}", fa)), Counter(re.findall(r"\{(\w*)\}", en))
    if unknown := (set(slots_fa) - PAIRED_SLOTS) | (set(slots_en) - PAIRED_SLOTS - ENGLISH_SLOTS):
        raise ValueError(f"unknown slot {', '.join(unknown)}")
    if any(slots_fa[s] != slots_en[s] for s in PAIRED_SLOTS):
        raise ValueError("the slots of the two languages differ")
    if kind == "mixed" and not columns[4:]:
        raise ValueError("a mixed line needs the fifth column, empty or not")
    yes = frozenset(({field} if field and LABEL[kind] else set()) | also)
    return Phrasing(field, kind, voice, fa_parts, en_parts, yes)


def read(path: Path) -> tuple[list[Phrasing], list[str]]:
    """The phrasings of one file, and its errors as `file:line: message`."""
    field = path.stem
    good, bad, seen = [], [], set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            phrasing = parse(line, None if field == "neutral" else field)
            if (phrasing.kind, phrasing.fa) in seen:
                raise ValueError("stands here twice")
            seen.add((phrasing.kind, phrasing.fa))
            good.append(phrasing)
        except ValueError as error:
            bad.append(f"{path.name}:{number}: {error}")
    return good, bad


def load() -> list[Phrasing]:
    """Every phrasing of every file. Raises ValueError with all errors."""
    results = [read(path) for path in sorted(FOLDER.glob("*.txt"))]
    if errors := [e for _, bad in results for e in bad]:
        raise ValueError("\n".join(errors))
    return [p for good, _ in results for p in good]


if __name__ == "__main__":
    for path in [Path(p) for p in sys.argv[1:]] or sorted(FOLDER.glob("*.txt")):
        good, bad = read(path)
        print(f"{path.name}: {len(good)} phrasings, {len(bad)} errors", dict(Counter(p.kind for p in good)))
        print(*bad, sep="\n")
