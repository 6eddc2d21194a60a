"""Everything that a report says, as plain data. Where there is no figure it holds nan."""

from dataclasses import dataclass, field
from typing import Any

from clinex_edge.bench.latency import Latency

METRICS = {
    "macro_f1": "Macro-F1",
    "mcc": "MCC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "accuracy": "Accuracy",
    "average_precision": "Average precision",
    "auroc": "AUROC",
    "brier": "Brier score",
    "ece": "Calibration error",
    "prediction_ratio": "Prediction ratio",
    "missing_rate": "Missing",
}
STUDY = ("macro_f1", "mcc", "sensitivity", "specificity", "precision")  # what the study's table and radar show
NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float = NAN
    high: float = NAN


@dataclass(frozen=True)
class Median(Estimate):
    """A median over the fields, with its interval and the quartiles over the fields."""

    q1: float = NAN
    q3: float = NAN


@dataclass(frozen=True)
class FieldData:
    """A field and its labels: how many documents have one, and how many of those say yes."""

    id: str
    label: str
    labelled: int
    positives: int


@dataclass(frozen=True)
class Data:
    """The labelled set: the file that it was read from, and how many documents, groups of them and reference translations it has."""

    name: str
    sha256: str
    documents: int
    groups: int
    references: int
    fields: list[FieldData]


@dataclass(frozen=True)
class Bin:
    """Answers of like probability: the mean probability of yes, the share that is yes, and how many there are."""

    p_yes: float
    share: float
    answers: int


@dataclass(frozen=True)
class ConfidentError:
    """A wrong answer, `said`, and the probability that the system gave it. `number` is the document's line in data.jsonl, from 1.

    `id`, `text` and `translation` are empty in a report without texts; the latter two are for the HTML report alone.
    """

    number: int
    field: str
    said: str
    probability: float
    id: str = ""
    text: str = ""
    translation: str = ""


@dataclass(frozen=True)
class System:
    """What is reported of one system. `kind` is "model" or "baseline".

    `medians` is by metric, `fields` by field and metric; `statuses` counts the documents by the status of their record, "absent" where
    there is none; `missing` counts missing answers. `roc` is the mean over the fields as (false positive rate, true positive rate).
    `study` holds the study's medians for the same model and condition. Baselines have no `errors`.
    """

    number: int
    name: str
    kind: str
    medians: dict[str, Median]
    fields: dict[str, dict[str, Estimate]]
    model: str | None = None
    condition: str | None = None
    decoder: str | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    roc: list[tuple[float, float]] = field(default_factory=list)
    reliability: list[Bin] = field(default_factory=list)
    latency: Latency | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    study: dict[str, float] = field(default_factory=dict)
    errors: list[ConfidentError] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """Two systems by number, on the same documents: a minus b.

    `differences` of medians over the fields are by metric, `p_values` by field, after Holm's correction, of the test that `test` names.
    `kappa` is the median over the fields. `better` is None where the two are not distinguishable by their macro-F1.
    """

    a: int
    b: int
    differences: dict[str, Estimate]
    p_values: dict[str, float]
    kappa: float
    better: int | None
    test: str


@dataclass(frozen=True)
class StudySystem:
    """A row of the study: medians by metric, MCC by field."""

    title: str
    model: str
    condition: str
    medians: dict[str, float]
    mcc: dict[str, float]


@dataclass(frozen=True)
class Report:
    """`created` is a time in UTC; `machines` tells what each benchmark ran on, `asked` what it was asked.

    `pairs` has each two systems once, the better one by median macro-F1 first; `bilingual` those of one model and decoder, translated minus
    native. `study` is empty where the fields are others than the study's.
    """

    created: str
    version: str
    with_text: bool
    summary: list[str]
    data: Data
    systems: list[System]
    pairs: list[Pair]
    bilingual: list[Pair]
    study: list[StudySystem]
    asked: list[dict[str, Any]]
    machines: list[dict[str, Any]]
