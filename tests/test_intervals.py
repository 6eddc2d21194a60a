"""Intervals: how often they hold the truth where the truth is known, and what they are where the data say too little."""

import numpy as np
import pytest

from clinex_edge.bench import intervals as module
from clinex_edge.bench.intervals import interval, intervals, median_intervals, median_over_fields, resample
from clinex_edge.bench.metrics import COUNTED, by_field, figures, medians
from clinex_edge.bench.predictions import Predictions

NAN = float("nan")
VARYING = [metric for metric in COUNTED if metric != "missing_rate"]


class Population:
    """Documents without end: for each field how many are yes, and how often yes and no are recognised."""

    def __init__(self, prevalence, sensitivity, specificity):
        self.prevalence, self.sensitivity, self.specificity = map(np.array, (prevalence, sensitivity, specificity))
        p, yes, no = self.prevalence, self.sensitivity, self.specificity
        self.truth = figures(np.stack([p * yes, (1 - p) * (1 - no), p * (1 - yes), (1 - p) * no, 0 * p], axis=-1))

    def sample(self, random, documents, group_size=1, alike=0.0):
        """Documents of a group are the same as its first one with probability `alike`."""
        shape = documents, len(self.prevalence)
        gold = random.random(shape) < self.prevalence
        said = np.where(gold, random.random(shape) < self.sensitivity, random.random(shape) >= self.specificity)
        groups = np.arange(documents) // group_size
        source = np.where(random.random(documents) < alike, groups * group_size, np.arange(documents))
        fields = tuple(f"f{number}" for number in range(shape[1]))
        gold, said = gold[source].astype(float), said[source].astype(float)
        return Predictions("system", tuple(map(str, range(documents))), fields, gold, said, np.full(shape, NAN), groups)


FIELDS = Population([0.2, 0.3, 0.4], [0.5, 0.75, 0.95], [0.75, 0.88, 0.98])  # far apart in all but prediction ratio


def coverage(documents, samples=400, ungroup=False, **groups):
    """In what share of samples the intervals hold the truth: for each metric over the fields, and for its median."""
    random = np.random.default_rng(11)
    fields, middle = (dict.fromkeys(VARYING, 0.0) for _ in range(2))
    for seed in range(samples):
        sample = FIELDS.sample(random, documents, **groups)
        if ungroup:
            sample.groups[:] = np.arange(documents)
        drawn = resample(sample, resamples=300, seed=seed).figures
        for metric in VARYING:
            truth = FIELDS.truth[metric]
            fields[metric] += np.mean(
                [low <= true <= high for true, (low, high) in zip(truth, map(interval, drawn[metric].T), strict=True)]
            )
            low, high = interval(median_over_fields(drawn[metric]))
            middle[metric] += low <= np.median(truth) <= high
    return {metric: fields[metric] / samples for metric in VARYING}, {metric: middle[metric] / samples for metric in VARYING}


def test_nineteen_of_twenty_intervals_hold_the_truth():
    fields, middle = coverage(documents=400)
    assert all(0.92 <= share <= 0.98 for share in fields.values()), fields
    assert middle.pop("prediction_ratio") >= 0.92  # wider than need be where fields are alike
    assert all(0.92 <= share <= 0.98 for share in middle.values()), middle


def test_groups_of_documents_that_are_alike_are_drawn_as_a_whole():
    fields, _ = coverage(documents=1200, samples=250, group_size=4, alike=0.8)
    assert all(0.92 <= share <= 0.98 for share in fields.values()), fields
    too_narrow, _ = coverage(documents=1200, samples=60, group_size=4, alike=0.8, ungroup=True)
    assert all(share < 0.88 for share in too_narrow.values()), too_narrow


def test_of_a_share_the_interval_is_that_of_the_binomial_distribution():
    drawn = resample(Population([0.5], [0.8], [0.9]).sample(np.random.default_rng(1), 400), resamples=4000).figures["accuracy"][:, 0]
    accuracy = drawn.mean()
    low, high = interval(drawn)
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 400)
    assert (low, high) == (pytest.approx(accuracy - half, abs=0.004), pytest.approx(accuracy + half, abs=0.004))


def test_a_resample_is_a_labelled_set_of_the_same_groups():
    """Each of the figures is that of documents drawn by hand."""
    sample = FIELDS.sample(np.random.default_rng(2), 30, group_size=3)
    sample.said[::7] = NAN
    sample.gold[::5, 1] = NAN
    sample = Predictions(**{**vars(sample), "groups": sample.groups * 17 - 40})
    drawn = resample(sample, resamples=20, seed=5)
    random = np.random.default_rng(5)
    for number, picked in enumerate(random.integers(10, size=(20, 10))):
        rows = np.concatenate([np.arange(3 * group, 3 * group + 3) for group in picked])
        again = Predictions("", tuple(map(str, rows)), sample.fields, sample.gold[rows], sample.said[rows], sample.p_yes[rows], rows)
        table = by_field(again)
        for metric in COUNTED:
            assert drawn.figures[metric][number] == pytest.approx(table[metric].to_numpy(), nan_ok=True)
            assert median_over_fields(drawn.figures[metric])[number] == pytest.approx(medians(table)["median"][metric], nan_ok=True)


def test_the_seed_decides():
    sample = FIELDS.sample(np.random.default_rng(3), 50)
    once, again, other = (resample(sample, 100, seed).figures["mcc"] for seed in (1, 1, 2))
    assert np.array_equal(once, again) and not np.array_equal(once, other)


def test_many_resamples_are_drawn_in_parts(monkeypatch):
    sample = FIELDS.sample(np.random.default_rng(3), 50)
    monkeypatch.setattr(module, "_CELLS", 120)
    drawn = resample(sample, 101).figures["mcc"]
    assert drawn.shape == (101, 3)
    assert len(np.unique(drawn, axis=0)) > 95


def test_the_tables_name_fields_metrics_and_ends():
    resampled = resample(FIELDS.sample(np.random.default_rng(4), 200), 200)
    table, middle = intervals(resampled), median_intervals(resampled)
    assert list(table.index) == list(resampled.predictions.fields)
    assert list(table.columns) == [(metric, end) for metric in COUNTED for end in ("low", "high")]
    assert tuple(table["mcc"].loc["f2"]) == interval(resampled.figures["mcc"][:, 2])
    assert (list(middle.index), list(middle.columns)) == (list(COUNTED), ["low", "high"])
    point = by_field(resampled.predictions)
    for metric in VARYING:
        assert (table[metric].low <= point[metric]).all() and (point[metric] <= table[metric].high).all()
        assert middle.low[metric] <= medians(point)["median"][metric] <= middle.high[metric]


@pytest.mark.parametrize(
    ("gold", "said", "groups"),
    [([1], [1], [0]), ([1, 0, 1], [1, 1, 0], [7, 7, 7]), ([1, 0, 1], [1, 0, 1], [0, 1, 2]), ([NAN, NAN], [1, 0], [0, 1])],
    ids=["one document", "one group", "all right", "nothing labelled"],
)
def test_what_does_not_vary_has_no_interval(gold, said, groups):
    column = [np.array(values, dtype=float)[:, None] for values in (gold, said)]
    sample = Predictions("", tuple("abc"[: len(gold)]), ("f",), *column, column[0] * NAN, np.array(groups))
    resampled = resample(sample, 50)
    assert intervals(resampled)["accuracy"].isna().all(axis=None)
    assert median_intervals(resampled).loc[["accuracy", "missing_rate"]].isna().all(axis=None)


def test_a_class_that_no_document_has_gives_no_interval_for_its_figure():
    sample = Population([0, 0.5], [0.8, 0.8], [0.9, 0.9]).sample(np.random.default_rng(5), 100)
    table = intervals(resample(sample, 200))
    assert table.loc["f0", [("sensitivity", "low"), ("prediction_ratio", "high"), ("mcc", "low")]].isna().all()
    assert table.loc["f0", "specificity"].notna().all() and table.loc["f1", VARYING].notna().all()


def test_resamples_without_the_figure_are_left_out():
    assert interval(np.array([NAN, 1.0, NAN, 2.0, 3.0])) == pytest.approx((1.05, 2.95))
    assert interval(np.array([1.0, 2.0, 3.0]), confidence=0.5) == (1.5, 2.5)


def test_the_median_leaves_out_fields_without_the_figure():
    rows = np.array([[3, 1, 2, 10], [NAN, 1, 2, 10], [NAN, NAN, 4, NAN], [NAN] * 4])
    assert median_over_fields(rows).tolist() == pytest.approx([2.5, 2, 4, NAN], nan_ok=True)
