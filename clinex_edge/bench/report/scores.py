"""From the answers of systems to the figures that a report shows of each, and of two."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from clinex_edge.bench import metrics
from clinex_edge.bench.compare import A_BETTER, NOT_DISTINGUISHABLE, agreement, compare
from clinex_edge.bench.intervals import Resampled, intervals, median_intervals, resample
from clinex_edge.bench.latency import Latency
from clinex_edge.bench.predictions import Predictions
from clinex_edge.bench.report.content import NAN, Bin, ConfidentError, Estimate, Median, Pair, StudySystem, System

_GRID = np.linspace(0, 1, 101)  # false positive rates at which ROC curves are averaged


@dataclass
class Answers:
    """What a benchmark folder holds of one system; the fields of content.System say more."""

    predictions: Predictions
    kind: str
    model: str | None = None
    condition: str | None = None
    decoder: str | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    latency: Latency | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    errors: list[ConfidentError] = field(default_factory=list)

    @cached_property
    def resampled(self) -> Resampled:
        """Its figures in each resample of the documents."""
        return resample(self.predictions)


def system(number: int, answers: Answers, study: Sequence[StudySystem]) -> System:
    """All that is reported of one system."""
    predictions = answers.predictions
    table = metrics.by_field(predictions)
    middle, ends, middle_ends = metrics.medians(table), intervals(answers.resampled), median_intervals(answers.resampled)
    medians: dict[str, Median] = {}
    fields: dict[str, dict[str, Estimate]] = {name: {} for name in predictions.fields}
    for metric in metrics.METRICS:
        has_interval = metric in metrics.COUNTED
        low, high = middle_ends.loc[metric] if has_interval else (NAN, NAN)
        medians[metric] = Median(*map(float, (middle["median"][metric], low, high, middle["q1"][metric], middle["q3"][metric])))
        for name in predictions.fields:
            low, high = ends.loc[name, metric] if has_interval else (NAN, NAN)
            fields[name][metric] = Estimate(*map(float, (table.loc[name, metric], low, high)))
    published = next((s.medians for s in study if (s.model, s.condition) == (answers.model, answers.condition)), {})
    return System(
        number, predictions.name, answers.kind, medians, fields, answers.model, answers.condition, answers.decoder, answers.statuses,
        int(table["missing"].sum()), mean_roc(predictions), _reliability(predictions), answers.latency, answers.provenance, published,
        answers.errors,
    )  # fmt: skip


def mean_roc(predictions: Predictions) -> list[tuple[float, float]]:
    """The mean of the fields' ROC curves at equal false positive rates (Fawcett 2006, "vertical averaging"), from (0, 0) to (1, 1).

    Empty where no field has a probability for documents of both labels.
    """
    from sklearn.metrics import roc_curve

    curves = []
    for gold, p_yes, is_known in zip(predictions.gold.T, predictions.p_yes.T, metrics.have_p_yes(predictions).T, strict=True):
        if 0 < gold[is_known].sum() < is_known.sum():
            false_yes, true_yes, _ = roc_curve(gold[is_known], p_yes[is_known])
            curves.append(np.interp(_GRID, false_yes, true_yes))
    if not curves:
        return []
    return [(0.0, 0.0), *((round(float(x), 4), round(float(y), 4)) for x, y in zip(_GRID, np.mean(curves, axis=0), strict=True))]


def _reliability(predictions: Predictions) -> list[Bin]:
    known = metrics.have_p_yes(predictions)
    table = metrics.reliability(predictions.gold[known], predictions.p_yes[known])
    return [Bin(float(row.p_yes), float(row.share_yes), int(row.documents)) for row in table.itertuples() if row.documents]


def pair(a: tuple[System, Answers], b: tuple[System, Answers]) -> Pair:
    """The first less the second. Raises UsageError where they are not on the same labelled documents."""
    (system_a, answers_a), (system_b, answers_b) = a, b
    compared = compare(answers_a.resampled, answers_b.resampled)
    better = None if compared.verdict == NOT_DISTINGUISHABLE else system_a.number if compared.verdict == A_BETTER else system_b.number
    return Pair(
        system_a.number,
        system_b.number,
        {metric: Estimate(found.value, found.low, found.high) for metric, found in compared.differences.items()},
        {str(name): float(p) for name, p in compared.fields["p_holm"].items()},
        float(agreement(answers_a.predictions, answers_b.predictions)["kappa"].median()),
        better,
        compared.test,
    )
