"""How far figures would vary with other documents: percentile intervals of the bootstrap (Efron and Tibshirani 1993, chapter 13).

Whole groups are drawn with replacement, as many as there are, so that documents of one patient stay together. The same seed draws the same
groups for every system of a labelled set, so their figures can be subtracted resample by resample. Figures from probabilities have none.

In simulations (13 fields, 5 to 40 % yes) 95 % intervals of a field's macro-F1, MCC and sensitivity held the true value in 93 to 97 % of
samples of 200 documents and more, and in 82 to 96 % of samples of 60; those of medians over the fields in 87 to 100 %, the fewest for MCC,
whose median comes out too high (by 0.02 from 200 documents).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clinex_edge.bench.metrics import figures, outcomes
from clinex_edge.bench.predictions import Array, Predictions

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
CONFIDENCE = 0.95
_CELLS = 2_000_000  # draws held in memory at once


@dataclass(frozen=True)
class Resampled:
    """The figures of a system in each resample: for each metric of metrics.COUNTED an array of resamples x fields."""

    predictions: Predictions
    seed: int
    figures: dict[str, Array]


def resample(predictions: Predictions, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Draw the groups of a labelled set again, `resamples` times."""
    groups, counts = _by_group(predictions)
    drawn = np.concatenate([times @ counts for times in _draws(groups, resamples, seed)])
    return Resampled(predictions, seed, figures(drawn.reshape(resamples, len(predictions.fields), -1).astype(float)))


def intervals(resampled: Resampled) -> "pd.DataFrame":
    """A row for each field; columns: each metric, and under it `low` and `high`, the ends of its interval."""
    import pandas as pd

    columns = {
        (metric, end): values
        for metric, drawn in resampled.figures.items()
        for end, values in zip(("low", "high"), zip(*map(interval, drawn.T), strict=True), strict=True)
    }
    return pd.DataFrame(columns, index=list(resampled.predictions.fields))


def median_intervals(resampled: Resampled) -> "pd.DataFrame":
    """A row for each metric of metrics.COUNTED: `low` and `high`, the ends of the interval of its median over the fields."""
    import pandas as pd

    ends = {metric: interval(median_over_fields(drawn)) for metric, drawn in resampled.figures.items()}
    return pd.DataFrame.from_dict(ends, orient="index", columns=["low", "high"])


def interval(drawn: Array, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The ends of the interval of a figure, from the figure in each resample. Resamples without the figure (nan) are left out.

    Both are nan where the figure is the same in all: so few documents or cases do not show how it varies.
    """
    known = drawn[~np.isnan(drawn)]
    if not len(known) or known.min() == known.max():
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def median_over_fields(drawn: Array) -> Array:
    """The median of each row over the fields that have the figure; nan where none has."""
    ordered = np.sort(drawn, axis=1)  # nan comes last
    known, rows = np.count_nonzero(~np.isnan(drawn), axis=1), np.arange(len(drawn))
    medians: Array = (ordered[rows, (known - 1) // 2] + ordered[rows, known // 2]) / 2
    return medians


def _by_group(predictions: Predictions) -> tuple[int, npt.NDArray[np.float32]]:
    """The number of groups, and how often each outcome of each field is in each. Sums of whole numbers below 2^24 are exact in 32 bits."""
    groups, group = np.unique(predictions.groups, return_inverse=True)
    flat = outcomes(predictions).reshape(len(group), -1)
    counts = np.stack([np.bincount(group, column, len(groups)) for column in flat.T], axis=1)
    return len(groups), counts.astype(np.float32)


def _draws(groups: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """How often each group is drawn, resamples x groups, in parts."""
    random = np.random.default_rng(seed)
    at_once = max(1, _CELLS // groups)
    for first in range(0, resamples, at_once):
        rows = min(at_once, resamples - first)
        drawn = random.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float32)
