"""The synthetic corpus: well formed, deterministic, and honestly split."""

from collections import Counter

from benchmarks.corpus.generate import Generator
from benchmarks.corpus.phrasings import FIELDS, LABEL, load
from clinex_edge.tasks import load_task


def test_the_fields_are_those_of_the_task() -> None:
    assert load_task("palliative-call").field_ids == FIELDS


def test_every_field_has_many_independent_phrasings_of_every_kind() -> None:
    counts = Counter((p.field, p.kind) for p in load())
    wanted = {"positive": 60, "denied": 20, "resolved": 10, "other": 10, "hypothetical": 10, "asked_yes": 10, "asked_no": 10}
    assert set(wanted) == set(LABEL)
    assert all(counts[field, kind] >= least for field in FIELDS for kind, least in wanted.items())


def test_no_persian_wording_stands_on_both_sides_of_the_split() -> None:
    train = {p.fa for p in load() if not p.held_out}
    test = {p.fa for p in load() if p.held_out}
    assert not train & test
    assert 0.17 < len(test) / (len(test) + len(train)) < 0.23


def test_the_same_seed_gives_the_same_calls() -> None:
    first, second = Generator("test", seed=3), Generator("test", seed=3)
    for _ in range(20):
        a, b = first.call(), second.call()
        assert (a.text("fa"), a.text("en"), a.evidence) == (b.text("fa"), b.text("en"), b.evidence)


def test_labels_follow_from_the_evidence() -> None:
    generator = Generator("train", seed=1)
    for _ in range(200):
        call = generator.call()
        assert 1 <= len(call.turns) <= 40
        assert {f for f, yes in call.labels.items() if yes} == set(call.evidence)
        assert all(call.turns[n - 1].yes >= {f} for f, turns in call.evidence.items() for n in turns)
        assert "{" not in call.text("fa") + call.text("en")


def test_positives_are_as_rare_as_in_the_study() -> None:
    generator = Generator("test", seed=5)
    calls = [generator.call() for _ in range(400)]
    shares = {f: sum(c.labels[f] for c in calls) / len(calls) for f in FIELDS}
    assert all(0.02 < share < 0.35 for share in shares.values()), shares
