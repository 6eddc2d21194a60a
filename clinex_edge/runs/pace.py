"""How far a run is, and how long the rest will take."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from clinex_edge.pipeline.pipeline import BATCH, BATCHES_AT_ONCE


class Pace:
    """Counts documents and the seconds of each stage. `total` is the number of documents of the run, settled ones among them."""

    def __init__(self, total: int, changed: Callable[["Pace"], None] = lambda pace: None, clock: Callable[[], float] = time.monotonic):
        """`changed` is called after each step and each document; `clock` tells seconds."""
        self.total, self._changed, self._clock = total, changed, clock
        self.settled: Counter[str] = Counter()
        self.stage: tuple[str, int, int] = ("", 0, 0)
        self._seconds: defaultdict[str, float] = defaultdict(float)  # by stage
        self._loads = 0
        self._passed: Counter[str] = Counter()  # documents by stage
        self._ahead = 0  # documents that are translated, but not yet read
        self._takes_turns = False
        self._began = self._since = clock()

    def enter(self, name: str, done: int, total: int) -> None:
        """A step of a stage is done, or "loading" begins; "translating" and "extracting" count the steps of a batch or document."""
        now, before = self._clock(), self.stage[0]
        self._seconds["loading" if before == "loading" else name] += now - self._since
        self._since = now
        self._loads += name == "loading"
        if name != "loading" and done == total:
            self._passed[name] += BATCH
            self._ahead = max(0, self._ahead + (BATCH if name == "translating" else -BATCH))
            self._takes_turns |= self._ahead > BATCH
        self.stage = (name, done, total)
        self._changed(self)

    def settle(self, status: str) -> None:
        """A document is done: "complete", "partial", "failed", or "settled" before."""
        self.settled[status] += 1
        self._changed(self)

    @property
    def computed(self) -> int:
        """Documents that took work in this session."""
        return self.settled["complete"] + self.settled["partial"] + self.settled["failed"]

    @property
    def remaining(self) -> int:
        return max(0, self.total - self.settled.total())

    @property
    def per_hour(self) -> float | None:
        """Documents in an hour so far; None before the first."""
        seconds = self._clock() - self._began
        return self.computed / seconds * 3600 if self.computed and seconds else None

    @property
    def eta(self) -> float | None:
        """Seconds that the rest will take; None before the first document is done.

        Where the models take turns, each is loaded again for every so many documents.
        """
        if not self.computed:
            return None
        if not self.stage[0]:  # other machines tell none
            return (self._clock() - self._began) / self.computed * self.remaining
        untranslated = max(0, self.remaining - self._ahead)
        switches = 2 * math.ceil(untranslated / (BATCH * BATCHES_AT_ONCE)) if self._takes_turns else 0
        return (
            switches * self._seconds["loading"] / max(1, self._loads)
            + untranslated * self._seconds["translating"] / max(self._passed["translating"], self.computed)
            + self.remaining * self._seconds["extracting"] / max(self._passed["extracting"], self.computed)
        )

    def to_dict(self) -> dict[str, Any]:
        """For other programs: documents, documents an hour, seconds, and the steps of the current stage."""
        stage, done, total = self.stage
        counts = {name: self.settled[name] for name in ("complete", "partial", "failed", "settled")}
        rates = {"per_hour": _rounded(self.per_hour), "eta_s": _rounded(self.eta)}
        return {**counts, "documents": self.total, **rates, "stage": stage, "stage_done": done, "stage_steps": total}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
