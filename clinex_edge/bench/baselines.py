"""What can be had without a language model, as records: a benchmark's models should be better than these.

- majority: what most documents say, which is no for a rare field.
- keyword-negation: the words of the task's own labels and meanings, unless denied (`keywords`). Learns nothing.
- tfidf-logistic-regression: learns from the labels which words and parts of words go with a field.

What learns is asked about documents of groups that it has not learned from (cross-validation by group, at most five folds).
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clinex_edge.bench.data import LabelledSet
from clinex_edge.bench.folder import Bench
from clinex_edge.bench.keywords import Keywords
from clinex_edge.documents.language import detect
from clinex_edge.documents.normalise import normalise
from clinex_edge.files.write import write_records
from clinex_edge.pipeline.record import Feature, Record
from clinex_edge.tasks import Task

_FOLDS = 5
_LEARNED_FROM = 5_000  # documents in a fold at most, drawn at random
_WORDS, _PARTS = 20_000, 30_000  # features at most: words and pairs of them, parts of words
_WORD = re.compile(r"[\w\u200c]+")
_SCALED = {"class_weight": "balanced", "solver": "liblinear", "dual": True, "tol": 0.01, "random_state": 0}

Array = npt.NDArray[np.float64]
Told = Callable[[str], None]


def write_baselines(bench: Bench, task: Task, told: Told) -> None:
    """Write those that are not there yet to the benchmark's folder; `told` hears what each begins. Raises OutputError."""
    texts: list[str] = []
    for name, baseline in _BASELINES.items():
        path = bench.baseline_file(name)
        if not path.exists():
            told(f"Baseline: {name}")
            texts = texts or [normalise(example.text).text for example in bench.labelled.examples]
            write_records(path, "jsonl", _records(name, bench.labelled, task, baseline(bench.labelled, texts, task)), bench.labelled.fields)


def majority(labelled: LabelledSet, texts: Sequence[str], task: Task) -> Array:
    """The share of yes among the labels of the other folds: documents x fields, nan where there are none."""
    gold = _gold(labelled)
    p_yes = np.full(gold.shape, np.nan)
    for train, test in _folds(labelled):
        for field, labels in enumerate(gold[train].T):
            known = labels[~np.isnan(labels)]
            if len(known):
                p_yes[test, field] = known.mean()
    return p_yes


def keyword_negation(labelled: LabelledSet, texts: Sequence[str], task: Task) -> Array:
    """1 where a field's words stand in a document and are not denied, else 0: documents x fields."""
    keywords = {language: Keywords(task, language) for language in ("fa", "en")}
    found = [keywords[detect(text)].found(text) for text in texts]
    return np.array([[field in fields for field in labelled.fields] for fields in found], float).reshape(len(texts), len(labelled.fields))


def tfidf_logistic_regression(labelled: LabelledSet, texts: Sequence[str], task: Task) -> Array:
    """Probabilities of yes, documents x fields, nan where there is nothing to learn from.

    Features are words, pairs of words, and parts of words of 3 and 4 letters, weighted by TF-IDF. Both classes count alike in training,
    so that a rare field is found at all; the probabilities are those of such balanced classes. Where a fold is of one class, it gives
    that class.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    gold = _gold(labelled)
    p_yes = np.full(gold.shape, np.nan)
    counts = _counts(texts)
    for train, test in _folds(labelled):
        few = np.random.default_rng(0).permutation(train)[:_LEARNED_FROM]
        weights = TfidfTransformer(sublinear_tf=True).fit(counts[few])
        learned, asked = weights.transform(counts[few]), weights.transform(counts[test])
        for field, labels in enumerate(gold[few].T):
            known = ~np.isnan(labels)
            classes = np.unique(labels[known])
            if len(classes) == 2:
                p_yes[test, field] = LogisticRegression(**_SCALED).fit(learned[known], labels[known]).predict_proba(asked)[:, 1]
            elif len(classes) == 1:
                p_yes[test, field] = classes[0]
    return p_yes


_BASELINES = {
    "majority": majority,
    "keyword-negation": keyword_negation,
    "tfidf-logistic-regression": tfidf_logistic_regression,
}


def _counts(texts: Sequence[str]) -> Any:
    """How often each feature stands in each text, as a sparse matrix. Which features there are, is found without labels."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_union

    words = CountVectorizer(tokenizer=_WORD.findall, token_pattern=None, ngram_range=(1, 2), max_features=_WORDS)
    parts = CountVectorizer(analyzer="char_wb", ngram_range=(3, 4), max_features=_PARTS)
    return make_union(words, parts).fit_transform(texts)


def _folds(labelled: LabelledSet) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The documents to learn from and those to ask about; none where all are of one group."""
    from sklearn.model_selection import GroupKFold

    groups = [example.id if example.group is None else f"group {example.group}" for example in labelled.examples]
    folds = min(_FOLDS, len(set(groups)))
    return GroupKFold(folds).split(groups, groups=groups) if folds > 1 else iter(())


def _gold(labelled: LabelledSet) -> Array:
    return np.array([[example.labels.get(field, np.nan) for field in labelled.fields] for example in labelled.examples], float)


def _records(name: str, labelled: LabelledSet, task: Task, p_yes: Array) -> Iterator[dict[str, object]]:
    for example, probabilities in zip(labelled.examples, p_yes, strict=True):
        features = {field: _feature(float(p)) for field, p in zip(labelled.fields, probabilities, strict=True)}
        yield Record(
            example.id,
            labelled.name,
            task.name,
            "complete" if all(feature.value for feature in features.values()) else "partial",
            hashlib.sha256(example.text.encode("utf-8", "surrogatepass")).hexdigest(),
            detect(example.text),
            features,
            provenance={"baseline": name, "task_sha256": task.sha256},
        ).to_dict()


def _feature(p_yes: float) -> Feature:
    if np.isnan(p_yes):
        return Feature.unanswered("no other group has a label to learn from")
    return Feature("yes" if p_yes > 0.5 else "no", round(p_yes, 4), "answered")
