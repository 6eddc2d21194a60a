"""What can be said of two systems on the same documents."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clinex_edge.bench.intervals import CONFIDENCE, Resampled, interval, median_over_fields
from clinex_edge.bench.metrics import COUNTED, figures, outcomes
from clinex_edge.bench.predictions import Predictions
from clinex_edge.bench.significance import holm, sign_flip_test
from clinex_edge.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

A_BETTER, B_BETTER, NOT_DISTINGUISHABLE = "A better", "B better", "not distinguishable"


@dataclass(frozen=True)
class Difference:
    """A's median of a metric over the fields less B's, and its interval from the paired bootstrap (nan: intervals.interval)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two systems, by name. `differences` holds one for each metric of metrics.COUNTED.

    `fields` has a row for each field: how many `documents` are labelled, how many `only_a` and `only_b` has right, the `p`-value of that
    (significance.sign_flip_test by group), and `p_holm`, the same after Holm's correction over the fields.

    A verdict is about one pair: of many pairs of equal systems, about 5 % at most differ by chance.
    """

    a: str
    b: str
    documents: int
    groups: int
    differences: dict[str, Difference]
    fields: "pd.DataFrame"

    @property
    def verdict(self) -> str:
        """A_BETTER or B_BETTER where the whole interval of macro-F1 says so, else NOT_DISTINGUISHABLE."""
        difference = self.differences["macro_f1"]
        return A_BETTER if difference.low > 0 else B_BETTER if difference.high < 0 else NOT_DISTINGUISHABLE

    @property
    def test(self) -> str:
        """The name of the test of each field."""
        return "exact McNemar test" if self.groups == self.documents else "exact sign-flip test of whole groups"

    def words(self) -> str:
        """The verdict in sentences."""
        difference = self.differences["macro_f1"]
        value, low, high = difference.value, difference.low, difference.high
        what = f"median macro-F1 over the fields is {abs(value):.3f}"
        if self.verdict == A_BETTER:
            said = f"{self.a} is better than {self.b}: its {what} higher (95 % interval {low:.3f} to {high:.3f})."
        elif self.verdict == B_BETTER:
            said = f"{self.b} is better than {self.a}: its {what} higher (95 % interval {-high:.3f} to {-low:.3f})."
        else:
            why = "which does not vary between resamples" if np.isnan(low) else f"with a 95 % interval from {low:.3f} to {high:.3f}"
            said = f"{self.a} and {self.b} are not distinguishable: their median macro-F1 over the fields differs by {value:.3f}, {why}."
        on = f"{self.documents} documents" + (f" of {self.groups} groups" if self.groups < self.documents else "")
        return f"{said} {self._fields_in_words()} Both read the same {on}."

    def _fields_in_words(self) -> str:
        differ = self.fields[self.fields.p_holm < 1 - CONFIDENCE]
        if differ.empty:
            return f"No field differs ({self.test}, Holm's correction)."
        for_a = int((differ.only_a > differ.only_b).sum())
        (first, most), (second, fewer) = sorted([(self.a, for_a), (self.b, len(differ) - for_a)], key=lambda pair: -pair[1])
        counts = f"{first} is right more often in {most} of {len(self.fields)} fields, {second} in {fewer or 'none'}"
        return f"{counts} ({self.test}, Holm's correction)."


def compare(a: Resampled, b: Resampled) -> Comparison:
    """A against B. Raises UsageError where they are not on the same labelled documents or not on the same resamples."""
    import pandas as pd

    _check_same_documents(a.predictions, b.predictions)
    if (a.seed, len(a.figures["mcc"])) != (b.seed, len(b.figures["mcc"])):
        raise UsageError("Two systems were resampled in different ways.", "Use one seed and one number of resamples for both.")
    labelled, gold = ~np.isnan(a.predictions.gold), a.predictions.gold == 1
    right_a, right_b = ((system.predictions.said == 1) == gold for system in (a, b))
    groups, group = np.unique(a.predictions.groups, return_inverse=True)
    net = np.where(labelled, right_a.astype(int) - right_b, 0)
    p = np.array([sign_flip_test(np.bincount(group, column, len(groups))) for column in net.T])
    columns = {
        "documents": labelled.sum(axis=0),
        "only_a": (net > 0).sum(axis=0),
        "only_b": (net < 0).sum(axis=0),
        "p": p,
        "p_holm": holm(p),
    }
    return Comparison(
        a=a.predictions.name,
        b=b.predictions.name,
        documents=len(group),
        groups=len(groups),
        differences=_differences(a, b),
        fields=pd.DataFrame(columns, index=list(a.predictions.fields)),
    )


def agreement(a: Predictions, b: Predictions) -> "pd.DataFrame":
    """How far two systems say the same, right or wrong: a row for each field, `documents` that both answer, and Cohen's `kappa` (1960).

    A missing answer is no opinion, so here it is left out; labels do not matter. kappa is nan where both say one and the same of all
    documents. Raises UsageError where the documents differ.
    """
    import pandas as pd

    _check_same_documents(a, b)
    both = ~np.isnan(a.said + b.said)
    documents = both.sum(axis=0)
    counts = [(cells & both).sum(axis=0) for cells in (a.said == 1, b.said == 1, a.said == b.said)]
    yes_a, yes_b, same = np.divide(counts, documents, out=np.full((3, len(documents)), np.nan), where=documents > 0)
    by_chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
    kappa = np.divide(same - by_chance, 1 - by_chance, out=np.full_like(same, np.nan), where=by_chance < 1)
    return pd.DataFrame({"documents": documents, "kappa": kappa}, index=list(a.fields))


def _differences(a: Resampled, b: Resampled) -> dict[str, Difference]:
    of_a, of_b = (figures(outcomes(system.predictions).sum(axis=0).astype(float)) for system in (a, b))
    differences = {}
    for metric in COUNTED:
        value = median_over_fields(of_a[metric][None]) - median_over_fields(of_b[metric][None])
        drawn = median_over_fields(a.figures[metric]) - median_over_fields(b.figures[metric])
        differences[metric] = Difference(float(value[0]), *interval(drawn))
    return differences


def _check_same_documents(a: Predictions, b: Predictions) -> None:
    same_gold = a.gold.shape == b.gold.shape and np.array_equal(a.gold, b.gold, equal_nan=True)
    if (a.ids, a.fields) != (b.ids, b.fields) or not same_gold or not np.array_equal(a.groups, b.groups):
        raise UsageError(
            f"'{a.name}' and '{b.name}' are not on the same documents, fields, labels and groups.",
            "Compare systems of one benchmark, or of two on the same data with the same --limit.",
        )
