"""How good answers are: figures of each field, and their medians over the fields.

Yes is the positive class. As in the study (arXiv 2602.21374), a missing answer is scored as no, and counted; what is not labelled is
left out, and counted. An empty denominator makes precision, sensitivity, specificity and MCC 0. Macro-F1 is the mean over the classes that
occur among labels or answers, as in scikit-learn: where no label and no answer is yes, it is the F1 of no alone.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clinex_edge.bench.predictions import Array, Predictions

if TYPE_CHECKING:
    import pandas as pd

COUNTED = (
    "macro_f1",
    "mcc",
    "sensitivity",
    "specificity",
    "precision",
    "accuracy",
    "prediction_ratio",
    "missing_rate",
)  # from counts of outcomes
PROBABILISTIC = ("average_precision", "auroc", "brier", "ece")  # from probabilities
METRICS = (*COUNTED, *PROBABILISTIC)
BINS = 10


def outcomes(predictions: Predictions) -> npt.NDArray[np.bool_]:
    """What became of each answer, documents x fields x 5: true yes, false yes, false no, true no, and whether it was missing."""
    yes, missing = predictions.said == 1, np.isnan(predictions.said)
    is_yes, is_no = predictions.gold == 1, predictions.gold == 0
    return np.stack([is_yes & yes, is_no & yes, is_yes & ~yes, is_no & ~yes, (is_yes | is_no) & missing], axis=-1)


def figures(counts: Array) -> dict[str, Array]:
    """The metrics of COUNTED from counts of the five outcomes, which are the last axis; one number for each of the other axes.

    All are nan where nothing is labelled. `prediction_ratio`, answers of yes to labels of yes, is nan where no label is yes.
    """
    true_yes, false_yes, false_no, true_no, missing = np.moveaxis(counts, -1, 0)
    said_yes, said_no = true_yes + false_yes, true_no + false_no
    is_yes, is_no = true_yes + false_no, true_no + false_yes
    labelled = is_yes + is_no
    f1 = _ratio(2 * true_yes, said_yes + is_yes) + _ratio(2 * true_no, said_no + is_no)
    classes = (said_yes + is_yes > 0).astype(float) + (said_no + is_no > 0)
    found = {
        "macro_f1": _ratio(f1, classes),
        "mcc": _ratio(true_yes * true_no - false_yes * false_no, np.sqrt(said_yes * is_yes) * np.sqrt(said_no * is_no)),
        "sensitivity": _ratio(true_yes, is_yes),
        "specificity": _ratio(true_no, is_no),
        "precision": _ratio(true_yes, said_yes),
        "accuracy": _ratio(true_yes + true_no, labelled),
        "prediction_ratio": _ratio(said_yes, is_yes, np.nan),
        "missing_rate": _ratio(missing, labelled),
    }
    return {name: np.where(labelled > 0, values, np.nan) for name, values in found.items()}


def by_field(predictions: Predictions) -> "pd.DataFrame":
    """A row for each field; columns: counts of documents (`labelled`, `unlabelled`, `positives`, `missing`, `with_p_yes`), and METRICS.

    Those of PROBABILISTIC are over the labelled documents with an answer that has a p_yes, `with_p_yes` in number. They are nan where there
    are none, AUROC and average precision also where those are of one class.
    """
    import pandas as pd

    counts = outcomes(predictions).sum(axis=0).astype(float)
    labelled, with_p_yes = counts[:, :4].sum(axis=1), have_p_yes(predictions)
    probabilistic = [
        _probabilistic(predictions.gold[rows, field], predictions.p_yes[rows, field]) for field, rows in enumerate(with_p_yes.T)
    ]
    columns = {
        "labelled": labelled,
        "unlabelled": len(predictions.ids) - labelled,
        "positives": counts[:, 0] + counts[:, 2],
        "missing": counts[:, 4],
        "with_p_yes": with_p_yes.sum(axis=0),
    }
    table = pd.DataFrame(columns, index=list(predictions.fields), dtype=int)
    return table.assign(**figures(counts)).join(pd.DataFrame(probabilistic, index=table.index, columns=list(PROBABILISTIC)))


def medians(table: "pd.DataFrame") -> "pd.DataFrame":
    """From by_field's table, a row for each metric: `median`, `q1` and `q3` over the fields that have the figure, `fields` in number.

    Quartiles are interpolated linearly.
    """
    figure = table[list(METRICS)]
    quartiles = figure.quantile([0.5, 0.25, 0.75]).T.set_axis(["median", "q1", "q3"], axis=1)
    return quartiles.assign(fields=figure.notna().sum())


def have_p_yes(predictions: Predictions) -> npt.NDArray[np.bool_]:
    """Which cells, documents x fields, are labelled and have an answer with a probability."""
    return ~np.isnan(predictions.gold + predictions.said + predictions.p_yes)


def reliability(gold: Array, p_yes: Array) -> "pd.DataFrame":
    """For BINS equal parts of the range of probabilities: `low`, `high`, `documents`, the mean `p_yes`, and `share_yes` of the labels.

    `gold` (0, 1) and `p_yes` hold one number for each answer. A part holds its lower end. The last two columns are nan where it is empty.
    """
    import pandas as pd

    bins = np.minimum((p_yes * BINS).astype(int), BINS - 1)
    documents, probability, yes = (np.bincount(bins, weights, BINS).astype(float) for weights in (np.ones_like(p_yes), p_yes, gold))
    low = np.arange(BINS) / BINS
    means = {"p_yes": _ratio(probability, documents, np.nan), "share_yes": _ratio(yes, documents, np.nan)}
    return pd.DataFrame({"low": low, "high": low + 1 / BINS, "documents": documents.astype(int), **means})


def _probabilistic(gold: Array, p_yes: Array) -> dict[str, float]:
    """Average precision; area under the ROC curve; Brier score: the mean squared distance of p_yes from the label (Brier 1950).

    Expected calibration error (Naeini, Cooper and Hauskrecht 2015; here with bins of equal width): how far share_yes is from p_yes in each
    of the bins of `reliability`, weighted by its documents.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if not len(gold):
        return dict.fromkeys(PROBABILISTIC, np.nan)
    both_classes = 0 < gold.sum() < len(gold)
    bins = reliability(gold, p_yes)
    return {
        "average_precision": average_precision_score(gold, p_yes) if both_classes else np.nan,
        "auroc": roc_auc_score(gold, p_yes) if both_classes else np.nan,
        "brier": float(np.mean((p_yes - gold) ** 2)),
        "ece": float((bins.documents * (bins.share_yes - bins.p_yes).abs()).sum() / len(gold)),
    }


def _ratio(numerator: Array, denominator: Array, empty: float = 0.0) -> Array:
    """Their ratio, and `empty` where the denominator is 0."""
    ratio: Array = np.divide(numerator, denominator, out=np.full(denominator.shape, empty), where=denominator > 0)
    return ratio
