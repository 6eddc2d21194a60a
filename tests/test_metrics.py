"""Metrics, against scikit-learn, and against the definitions written out in plain Python."""

import json
import math
import statistics
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from clinex_edge.bench.data import Example, LabelledSet
from clinex_edge.bench.metrics import BINS, COUNTED, METRICS, PROBABILISTIC, by_field, have_p_yes, medians, reliability
from clinex_edge.bench.predictions import Predictions

NAN = math.nan


def predictions(gold, said, p_yes=None, groups=None, name="system"):
    """From rows of documents; None stands for no label, no answer, no probability."""
    gold, said = (np.array(rows, dtype=float).reshape(len(gold), -1) for rows in (gold, said))
    p_yes = np.full(gold.shape, NAN) if p_yes is None else np.array(p_yes, dtype=float).reshape(gold.shape)
    groups = np.arange(len(gold)) if groups is None else np.array(groups)
    ids, fields = (tuple(f"{kind}{number}" for number in range(size)) for kind, size in zip(("d", "f"), gold.shape, strict=True))
    return Predictions(name, ids, fields, gold, said, p_yes, groups)


def at_random(seed, documents=40, fields=13):
    """Any prevalence and any quality, labels and answers missing at random, probabilities that are not those of the answers."""
    random = np.random.default_rng(seed)
    gold, said, p_yes = (random.random((documents, fields)) for _ in range(3))
    gold, said = (gold < random.random(fields)).astype(float), (said < random.random(fields)).astype(float)
    for array, share in ((gold, 0.2), (said, 0.15), (p_yes, 0.1)):
        array[random.random((documents, fields)) < share] = NAN
    return predictions(gold, said, np.round(p_yes, 2) if seed % 2 else p_yes)


def expected(gold, said):
    """The counted figures of one field by scikit-learn, missing answers filled in as no; None where nothing is labelled."""
    labelled = ~np.isnan(gold)
    true, answers = gold[labelled] == 1, said[labelled] == 1
    if not labelled.any():
        return dict.fromkeys(COUNTED, NAN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "macro_f1": sklearn.f1_score(true, answers, average="macro", zero_division=0),
            "mcc": sklearn.matthews_corrcoef(true, answers),
            "sensitivity": sklearn.recall_score(true, answers, zero_division=0),
            "specificity": sklearn.recall_score(true, answers, pos_label=False, zero_division=0),
            "precision": sklearn.precision_score(true, answers, zero_division=0),
            "accuracy": sklearn.accuracy_score(true, answers),
            "prediction_ratio": answers.sum() / true.sum() if true.any() else NAN,
            "missing_rate": np.isnan(said[labelled]).mean(),
        }


@pytest.mark.parametrize("seed", range(12))
def test_figures_are_those_of_scikit_learn(seed):
    given = at_random(seed, documents=(40, 7, 2, 1)[seed % 4])
    table = by_field(given)
    for number, row in enumerate(table[list(COUNTED)].to_dict("records")):
        assert row == pytest.approx(expected(given.gold[:, number], given.said[:, number]), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(8))
def test_figures_from_probabilities_are_those_of_scikit_learn(seed):
    given = at_random(seed, documents=80)
    table = by_field(given)
    for number, name in enumerate(given.fields):
        known = [
            not np.isnan(cells).any() for cells in zip(given.gold[:, number], given.said[:, number], given.p_yes[:, number], strict=True)
        ]
        gold, p_yes = given.gold[known, number], given.p_yes[known, number]
        assert table.with_p_yes[name] == len(gold) == have_p_yes(given)[:, number].sum()
        assert table.brier[name] == pytest.approx(sklearn.brier_score_loss(gold, p_yes))
        if 0 < gold.sum() < len(gold):
            assert table.auroc[name] == pytest.approx(sklearn.roc_auc_score(gold, p_yes))
            assert table.average_precision[name] == pytest.approx(sklearn.average_precision_score(gold, p_yes))
        else:
            assert math.isnan(table.auroc[name]) and math.isnan(table.average_precision[name])


YES_AND_NO = [1, 1, 0, 0]
DEGENERATE = {  # labels, answers, and what is known of the figures
    "all right": (YES_AND_NO, [1, 1, 0, 0], dict(macro_f1=1, mcc=1, sensitivity=1, specificity=1, precision=1, accuracy=1)),
    "all wrong": (YES_AND_NO, [0, 0, 1, 1], dict(macro_f1=0, mcc=-1, sensitivity=0, specificity=0, precision=0, accuracy=0)),
    "always no": (YES_AND_NO, [0, 0, 0, 0], dict(macro_f1=1 / 3, mcc=0, sensitivity=0, specificity=1, precision=0, prediction_ratio=0)),
    "always yes": (YES_AND_NO, [1, 1, 1, 1], dict(macro_f1=1 / 3, mcc=0, sensitivity=1, specificity=0, precision=0.5, prediction_ratio=2)),
    "never answered": (YES_AND_NO, [None] * 4, dict(macro_f1=1 / 3, mcc=0, sensitivity=0, specificity=1, missing_rate=1)),
    "no label is yes": ([0] * 4, [0, 0, 0, 1], dict(mcc=0, sensitivity=0, specificity=0.75, precision=0, prediction_ratio=NAN)),
    "neither label nor answer is yes": ([0] * 4, [0] * 4, dict(macro_f1=1, mcc=0, sensitivity=0, specificity=1, precision=0, accuracy=1)),
    "every label is yes": ([1] * 4, [1, 1, 1, 0], dict(mcc=0, sensitivity=0.75, specificity=0, precision=1, prediction_ratio=0.75)),
    "one document": ([1], [1], dict(macro_f1=1, mcc=0, sensitivity=1, specificity=0, precision=1, accuracy=1)),
    "nothing labelled": ([None] * 4, [1, 0, 1, None], dict.fromkeys(COUNTED, NAN)),
}  # fmt: skip


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_fields_have_the_figures_of_the_protocol(case):
    gold, said, known = DEGENERATE[case]
    row = by_field(predictions(gold, said)).iloc[0]
    assert row[list(known)].to_dict() == pytest.approx(known, nan_ok=True)
    assert row[list(COUNTED)].to_dict() == pytest.approx(expected(*(np.array(side, dtype=float) for side in (gold, said))), nan_ok=True)


def test_documents_are_counted():
    given = predictions([1, 1, 0, 0, None, None], [1, None, 0, None, None, 1], [0.9, None, 0.2, 0.4, 0.5, 0.6])
    counts = by_field(given)[["labelled", "unlabelled", "positives", "missing", "with_p_yes"]]
    assert counts.loc["f0"].to_dict() == {"labelled": 4, "unlabelled": 2, "positives": 2, "missing": 2, "with_p_yes": 2}
    assert list(map(str, counts.dtypes.unique())) == ["int64"]


def test_without_probabilities_there_are_no_figures_from_them():
    table = by_field(predictions([[1, 1], [0, 0]], [[1, 0], [0, 1]], [[None, 0.7], [None, None]]))
    assert table.loc["f0", list(PROBABILISTIC)].isna().all()
    assert table.loc["f1", ["average_precision", "auroc"]].isna().all()
    assert table.loc["f1", ["brier", "ece"]].to_list() == pytest.approx([0.09, 0.3])
    assert medians(table).loc[["auroc", "brier"], "fields"].to_list() == [0, 1]


def test_huge_counts_do_not_overflow():
    gold, said = np.repeat([1.0, 0.0, 1.0, 0.0], 50_000), np.repeat([1.0, 0.0, 0.0, 1.0], 50_000)
    assert by_field(predictions(gold, said)).mcc["f0"] == 0
    assert by_field(predictions(gold, gold)).mcc["f0"] == 1


def test_medians_and_quartiles_leave_out_fields_without_the_figure():
    table = by_field(at_random(3, documents=200, fields=6))
    table.loc["f5", "mcc"] = NAN
    for metric, row in medians(table).iterrows():
        values = sorted(table[metric].dropna())
        quartiles = statistics.quantiles(values, n=4, method="inclusive")
        assert row.to_list() == pytest.approx([statistics.median(values), quartiles[0], quartiles[2], 5 if metric == "mcc" else 6])
    assert list(medians(table).index) == list(METRICS)


def test_reliability_puts_each_probability_into_one_bin():
    p_yes = np.array([0, 0.05, 0.1, 0.3, 0.35, 0.999, 1])
    table = reliability(np.array([0, 1, 0, 1, 0, 1, 1.0]), p_yes)
    assert table.documents.to_list() == [2, 1, 0, 2, 0, 0, 0, 0, 0, 2]
    assert table.p_yes.dropna().to_list() == pytest.approx([0.025, 0.1, 0.325, 0.9995])
    assert table.share_yes.dropna().to_list() == pytest.approx([0.5, 0, 0.5, 1])
    assert (table.low[3], table.high[9]) == (pytest.approx(0.3), 1)


def test_reliability_is_that_of_scikit_learn():
    random = np.random.default_rng(7)
    p_yes = random.random(500)
    gold = (random.random(500) < p_yes**2).astype(float)
    table = reliability(gold, p_yes)
    share, mean = calibration_curve(gold, p_yes, n_bins=BINS)
    assert (table.share_yes.to_list(), table.p_yes.to_list()) == (pytest.approx(share), pytest.approx(mean))
    error = np.average(np.abs(share - mean), weights=table.documents)
    assert by_field(predictions(gold, p_yes > 0.5, p_yes)).ece["f0"] == pytest.approx(error)
    assert error > 0.1


LABELS = """
a pain=1 fever=1 sleep=0
b pain=1 fever=0 sleep=0
c pain=1 fever=0 sleep=1
d pain=0 fever=1
e pain=0 fever=0 sleep=1
f pain=0        sleep=0
g pain=1 fever=0 sleep=0
h pain=0 fever=1 sleep=0
"""
ANSWERS = """
a pain=yes:0.9 fever=yes:0.7 sleep=no:0.1
b pain=no:0.3  fever=no:0.2  sleep=no:0.05
c pain=yes:0.8 fever=yes:0.6 sleep=no:0.45
e pain=no:0.15 fever=no:0.25 sleep=yes:0.55
f pain=yes:0.65 fever=no:0.1 sleep=no:0.2
g pain=yes:0.95              sleep=yes:0.7
h pain=no:0.05 fever=no:0.4  sleep=no:0.3
"""


def in_plain_python(pairs):
    """The figures of one field from (label, said, p_yes), with nothing but the definitions."""
    total, right = len(pairs), sum(label == (said == "yes") for label, said, _ in pairs)
    yes = [label for label, said, _ in pairs if said == "yes"]
    positives = sum(label for label, _, _ in pairs)
    hits, false_yes = sum(yes), len(yes) - sum(yes)
    misses, rejected = positives - hits, total - len(yes) - (positives - hits)
    known = [(label, p) for label, said, p in pairs if said]
    ranked = [(p, q) for label, p in known if label for other, q in known if not other]
    by_p = [label for label, _ in sorted(known, key=lambda pair: -pair[1])]
    hits_at = [sum(by_p[: rank + 1]) / (rank + 1) for rank, label in enumerate(by_p) if label]
    return {
        "accuracy": right / total,
        "precision": hits / len(yes),
        "sensitivity": hits / positives,
        "specificity": rejected / (total - positives),
        "macro_f1": (2 * hits / (2 * hits + false_yes + misses) + 2 * rejected / (2 * rejected + false_yes + misses)) / 2,
        "mcc": (hits * rejected - false_yes * misses)
        / math.sqrt((hits + false_yes) * (hits + misses) * (rejected + false_yes) * (rejected + misses)),
        "prediction_ratio": len(yes) / positives,
        "missing_rate": sum(said is None for _, said, _ in pairs) / total,
        "auroc": sum((p > q) + (p == q) / 2 for p, q in ranked) / len(ranked),
        "average_precision": sum(hits_at) / len(hits_at),
        "brier": sum((p - label) ** 2 for label, p in known) / len(known),
    }


def test_a_file_of_predictions_gives_the_figures_and_medians_of_plain_python_to_four_decimals(tmp_path):
    labels = {line.split()[0]: dict(cell.split("=") for cell in line.split()[1:]) for line in LABELS.strip().splitlines()}
    fields = ("pain", "fever", "sleep")
    path = tmp_path / "predictions.jsonl"
    with path.open("w") as file:
        for line in ANSWERS.strip().splitlines():
            name, *cells = line.split()
            features = {field: {"value": None, "p_yes": None, "status": "unanswered", "reason": "…"} for field in fields}
            for field, value, p_yes in (cell.replace("=", ":").split(":") for cell in cells):
                features[field] = {"value": value, "p_yes": float(p_yes), "status": "answered"}
            file.write(json.dumps({"id": name, "status": "complete", "features": features}) + "\n")

    examples = tuple(Example(name, "…", {field: bool(int(label)) for field, label in row.items()}) for name, row in labels.items())
    records = [json.loads(line) for line in path.read_text().splitlines()]
    table = by_field(Predictions.of("system", LabelledSet("calls.csv", "0" * 64, fields, examples), records))

    said = {
        record["id"]: {field: (feature["value"], feature["p_yes"]) for field, feature in record["features"].items()} for record in records
    }
    plain = {
        field: in_plain_python(
            [(int(row[field]), *said.get(name, {}).get(field, (None, None))) for name, row in labels.items() if field in row]
        )
        for field in fields
    }
    for field in fields:
        assert table.loc[field, list(plain[field])].round(4).to_dict() == {name: round(value, 4) for name, value in plain[field].items()}
    for metric in plain["pain"]:
        values = [plain[field][metric] for field in fields]
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        row = medians(table).loc[metric]
        assert row.round(4).to_list() == [round(middle, 4), round(low, 4), round(high, 4), 3]
