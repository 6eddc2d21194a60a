"""Paired tests and verdicts: against scipy and counting by hand, and how often equal systems are told apart by mistake."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from clinex_edge.bench.compare import A_BETTER, B_BETTER, NOT_DISTINGUISHABLE, agreement, compare
from clinex_edge.bench.intervals import resample
from clinex_edge.bench.metrics import COUNTED, by_field, medians
from clinex_edge.bench.predictions import Predictions
from clinex_edge.bench.significance import holm, sign_flip_test
from clinex_edge.errors import UsageError

NAN = float("nan")
FIELDS = tuple(f"f{number}" for number in range(13))


def labels(random, documents, fields=13):
    return (random.random((documents, fields)) < np.linspace(0.15, 0.4, fields)).astype(float)


def system(random, gold, errors, name="A", groups=None, alike=0.0):
    """Says what the labels say, but for a share `errors`; with `groups`, errors are shared in a group with probability `alike`."""
    documents, fields = gold.shape
    groups = np.arange(documents) if groups is None else groups
    wrong = random.random(gold.shape) < errors
    shared = (random.random((groups.max() + 1, fields)) < errors)[groups]
    wrong = np.where(random.random((documents, 1)) < alike, shared, wrong)
    said = np.where(wrong, 1 - gold, gold)
    return Predictions(name, tuple(map(str, range(documents))), FIELDS[:fields], gold, said, np.full(gold.shape, NAN), groups)


@pytest.mark.parametrize(
    ("only_a", "only_b"), [*itertools.product((0, 1, 2, 5, 9), repeat=2), (30, 60), (500, 431), (4000, 4300), (9000, 1)]
)
def test_with_single_documents_the_test_is_the_exact_one_of_mcnemar(only_a, only_b):
    differences = np.repeat([1, -1, 0], [only_a, only_b, 10])
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
    assert sign_flip_test(differences) == pytest.approx(p, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_with_groups_every_way_of_turning_them_is_counted(seed):
    differences = np.random.default_rng(seed).integers(-4, 6, size=9)
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=9)]
    assert sign_flip_test(differences) == pytest.approx(np.mean(np.array(sums) >= abs(differences.sum())))


def test_a_group_counts_once_however_large():
    assert sign_flip_test(np.array([400])) == 1
    assert sign_flip_test(np.array([400, 400, 400])) == pytest.approx(0.25)


def test_holm_corrects_as_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.2, 0.9, 0.5])) == pytest.approx([0.6, 1, 1])
    assert holm(np.array([0.04])) == pytest.approx([0.04])


def test_fields_are_compared_on_what_is_labelled_and_a_missing_answer_is_no():
    columns = {
        "gold": [1, 1, 1, 0, 0, 0, NAN, NAN],
        "a": [1, 1, NAN, 0, NAN, 1, 1, 0],
        "b": [0, NAN, 1, 0, 1, 1, 0, 0],
    }
    gold, said_a, said_b = (np.array(column, dtype=float)[:, None] for column in columns.values())
    a, b = (
        Predictions(name, tuple("abcdefgh"), ("f",), gold, said, gold * NAN, np.arange(8)) for name, said in (("A", said_a), ("B", said_b))
    )
    row = compare(resample(a, 20), resample(b, 20)).fields.loc["f"].to_dict()
    assert row == pytest.approx({"documents": 6, "only_a": 3, "only_b": 1, "p": binomtest(1, 4).pvalue, "p_holm": binomtest(1, 4).pvalue})


def test_a_difference_is_that_of_the_medians():
    random = np.random.default_rng(1)
    gold = labels(random, 120)
    a, b = system(random, gold, 0.1), system(random, gold, 0.2, "B")
    found = compare(resample(a), resample(b)).differences
    difference = medians(by_field(a))["median"] - medians(by_field(b))["median"]
    assert {metric: found[metric].value for metric in COUNTED} == pytest.approx(difference[list(COUNTED)].to_dict())
    assert found["mcc"].low < found["mcc"].value < found["mcc"].high


def test_a_better_system_is_called_so_from_either_side():
    random = np.random.default_rng(2)
    gold = labels(random, 400)
    a, b = (resample(system(random, gold, errors, name)) for errors, name in ((0.05, "Aya"), (0.15, "Gemma")))
    forth, back = compare(a, b), compare(b, a)
    assert (forth.verdict, back.verdict) == (A_BETTER, B_BETTER)
    assert (forth.fields.p_holm < 0.05).sum() > 6
    value = forth.differences["macro_f1"]
    first, last = forth.words().split(". "), back.words().split(". ")
    assert first == last
    assert first[0].startswith(f"Aya is better than Gemma: its median macro-F1 over the fields is {value.value:.3f} higher")
    assert f"(95 % interval {value.low:.3f} to {value.high:.3f})" in first[0]
    assert "Aya is right more often in" in first[1] and "Gemma in none (exact McNemar test" in first[1]
    assert first[2] == "Both read the same 400 documents."


def test_one_system_against_itself_is_not_distinguishable():
    random = np.random.default_rng(3)
    a = resample(system(random, labels(random, 60), 0.1))
    found = compare(a, a)
    assert (found.verdict, found.differences["macro_f1"].value) == (NOT_DISTINGUISHABLE, 0)
    assert (found.fields.p == 1).all()
    assert "are not distinguishable" in found.words() and "does not vary" in found.words() and "No field differs" in found.words()


def test_one_document_distinguishes_nothing():
    gold = np.ones((1, 13))
    a, b = (Predictions(name, ("x",), FIELDS, gold, gold * said, gold * NAN, np.zeros(1, int)) for name, said in (("A", 1), ("B", 0)))
    found = compare(resample(a, 50), resample(b, 50))
    assert (found.verdict, found.differences["macro_f1"].value) == (NOT_DISTINGUISHABLE, 1)
    assert (found.fields.p == 1).all()


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_equal_systems_are_seldom_told_apart(alike):
    """A false verdict in 5 % of pairs, and a false field in 5 %, at most but for chance (200 pairs: 9 % is 2.6 standard errors off)."""
    random = np.random.default_rng(4)
    groups = np.arange(120) // (4 if alike else 1)
    verdicts = fields = naive = 0
    for seed in range(200):
        gold = labels(random, 120, 5)
        a, b = (system(random, gold, 0.12, name, groups, alike) for name in "AB")
        found = compare(*(resample(each, 200, seed) for each in (a, b)))
        verdicts += found.verdict != NOT_DISTINGUISHABLE
        fields += (found.fields.p_holm < 0.05).any()
        pairs = found.fields[["only_a", "only_b"]].to_numpy()
        naive += holm(np.array([binomtest(one, one + other).pvalue for one, other in pairs])).min() < 0.05
    assert verdicts / 200 < 0.09 and fields / 200 < 0.09
    assert not alike or naive / 200 > 0.15  # a test that took documents of a group for independent


def test_groups_are_named_in_words():
    random = np.random.default_rng(5)
    gold, groups = labels(random, 60), np.arange(60) // 3
    found = compare(*(resample(system(random, gold, 0.1, name, groups), 100) for name in "AB"))
    assert (found.documents, found.groups, found.test) == (60, 20, "exact sign-flip test of whole groups")
    assert found.words().endswith("Both read the same 60 documents of 20 groups.")


@pytest.mark.parametrize("changed", ["ids", "fields", "gold", "groups", "fewer"])
def test_systems_on_other_documents_are_not_compared(changed):
    random = np.random.default_rng(6)
    a = system(random, labels(random, 20), 0.1)
    values = {
        "ids": {"ids": a.ids[::-1]},
        "fields": {"fields": a.fields[::-1]},
        "gold": {"gold": 1 - a.gold},
        "groups": {"groups": a.groups // 2},
        "fewer": {name: getattr(a, name)[:10] for name in ("ids", "gold", "said", "p_yes", "groups")},
    }
    b = Predictions(**{**vars(a), **values[changed], "name": "B"})
    with pytest.raises(UsageError, match="'A' and 'B' are not on the same"):
        compare(resample(a, 10), resample(b, 10))
    with pytest.raises(UsageError, match="'A' and 'B' are not on the same"):
        agreement(a, b)


@pytest.mark.parametrize("other", [{"seed": 1}, {"resamples": 11}])
def test_systems_on_other_resamples_are_not_compared(other):
    random = np.random.default_rng(7)
    a = system(random, labels(random, 20), 0.1)
    with pytest.raises(UsageError, match="resampled in different ways"):
        compare(resample(a, 10), resample(a, **{"resamples": 10, **other}))


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_the_kappa_of_scikit_learn_over_what_both_answer(seed):
    random = np.random.default_rng(seed)
    gold = labels(random, 80)
    a, b = (system(random, gold, 0.2, name) for name in "AB")
    for each in (a, b):
        each.said[random.random(gold.shape) < 0.1] = NAN
    table = agreement(a, b)
    for column, field in enumerate(FIELDS):
        both = ~np.isnan(a.said[:, column]) & ~np.isnan(b.said[:, column])
        assert table.documents[field] == both.sum() < 80
        assert table.kappa[field] == pytest.approx(cohen_kappa_score(a.said[both, column], b.said[both, column]))


def test_agreement_of_systems_that_never_disagree_or_never_answer_is_undefined():
    said = np.array([[1, 1, 0, NAN], [0, 1, 0, 1], [1, 1, 0, NAN]])
    a, b = (Predictions(name, tuple("xyz"), FIELDS[:4], said, said, said * NAN, np.arange(3)) for name in "AB")
    b = Predictions(**{**vars(b), "said": np.where(np.arange(4) == 3, [[1], [NAN], [1]], said)})
    table = agreement(a, b)
    assert table.documents.to_list() == [3, 3, 3, 0]
    assert table.kappa.to_list() == pytest.approx([1, NAN, NAN, NAN], nan_ok=True)
