"""Baselines: what they learn from, what they may not see, and what they say where there is nothing to learn."""

import json
import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clinex_edge.bench.baselines import keyword_negation, majority, tfidf_logistic_regression, write_baselines
from clinex_edge.bench.data import Example, LabelledSet
from clinex_edge.bench.folder import Plan, begin_bench
from clinex_edge.bench.keywords import Keywords
from clinex_edge.bench.run import systems_of
from clinex_edge.files.records import read_records
from clinex_edge.tasks import load_task

TASK = load_task("palliative-call")
PAINFUL = ("کمرم درد می‌کند و تیر می‌کشد", "از درد پا ناله می‌کند", "سرش درد می‌کند", "شکمش درد شدید دارد")
CALM = ("امروز هوا خوب است", "داروها را سر وقت می‌خورد", "حالش بهتر شده", "فردا زنگ می‌زنم")


def labelled(texts, pain, groups=None, fields=("pain",)):
    examples = (
        Example(f"call-{n:03}", text, {} if says is None else {"pain": says}, None if groups is None else groups[n])
        for n, (text, says) in enumerate(zip(texts, pain, strict=True))
    )
    return LabelledSet("calls.csv", "5" * 64, fields, tuple(examples))


def answers(baseline, data):
    return baseline(data, [example.text for example in data.examples], TASK)


def calls(count, seed=1):
    """As many painful calls as calm ones, and whether they are."""
    randomly = random.Random(seed)
    pain = [number % 2 == 0 for number in range(count)]
    return [f"{randomly.choice(PAINFUL if p else CALM)}. شماره {randomly.randrange(10**6)}." for p in pain], pain


# --- majority ------------------------------------------------------------------------------------------------------


def test_majority_is_the_share_among_the_other_groups():
    data = labelled(["الف"] * 6, [True, True, True, False, False, False], ["a", "a", "a", "b", "c", "d"])
    assert answers(majority, data)[:, 0].tolist() == [0, 0, 0, 3 / 5, 3 / 5, 3 / 5]


def test_majority_leaves_out_what_is_not_labelled():
    data = labelled(["الف"] * 4, [True, None, None, False])
    assert answers(majority, data)[:, 0].tolist() == [0, 0.5, 0.5, 1]


# --- TF-IDF and logistic regression --------------------------------------------------------------------------------


def test_words_that_go_with_a_field_are_learned():
    texts, pain = calls(60)
    p_yes = answers(tfidf_logistic_regression, labelled(texts, pain))[:, 0]
    assert roc_auc_score(pain, p_yes) > 0.99
    assert ((p_yes > 0.5) == pain).mean() > 0.95


def test_nothing_is_learned_from_the_group_that_is_asked_about():
    """Each patient has a word and a label of their own: who has seen the word knows the label, who has not knows nothing."""
    groups = [f"patient-{n // 5}" for n in range(200)]
    randomly = random.Random(3)
    words = {group: "".join(randomly.choices("ابپتثجچحخدذر", k=12)) for group in dict.fromkeys(groups)}
    says = {group: number % 2 == 0 for number, group in enumerate(words)}
    texts, pain = [words[group] for group in groups], [says[group] for group in groups]
    with_groups = answers(tfidf_logistic_regression, labelled(texts, pain, groups))[:, 0]
    without = answers(tfidf_logistic_regression, labelled(texts, pain))[:, 0]
    assert roc_auc_score(pain, without) > 0.99
    assert roc_auc_score(pain, with_groups) < 0.7


def test_a_rare_field_is_found():
    texts, _ = calls(40)
    more, _ = calls(760, seed=2)
    data = labelled(texts[::2] + texts[1::2] + more[1::2], [True] * 20 + [False] * (20 + 380))
    p_yes = answers(tfidf_logistic_regression, data)[:, 0]
    assert (p_yes[:20] > 0.5).mean() > 0.9
    assert (p_yes[20:] > 0.5).mean() < 0.05


def test_a_fold_of_one_class_gives_that_class():
    texts, _ = calls(20)
    assert answers(tfidf_logistic_regression, labelled(texts, [False] * 20)).tolist() == [[0.0]] * 20
    assert answers(tfidf_logistic_regression, labelled(texts, [True] * 20)).tolist() == [[1.0]] * 20
    one = answers(tfidf_logistic_regression, labelled(texts, [True] + [False] * 19))[:, 0]
    assert one[0] == 0  # nobody else says yes


def test_what_has_no_label_is_asked_about_and_not_learned_from():
    texts, pain = calls(60)
    known = [None if n % 3 == 0 else p for n, p in enumerate(pain)]
    p_yes = answers(tfidf_logistic_regression, labelled(texts, known))[:, 0]
    assert ((p_yes > 0.5) == pain).mean() > 0.95


@pytest.mark.parametrize("baseline", [majority, tfidf_logistic_regression])
@pytest.mark.parametrize("data", [labelled(["درد دارد"], [True]), labelled(calls(6)[0], calls(6)[1], ["one patient"] * 6)])
def test_one_group_has_nobody_to_learn_from(baseline, data):
    assert np.isnan(answers(baseline, data)).all()


@pytest.mark.parametrize("baseline", [majority, tfidf_logistic_regression])
def test_a_field_that_only_one_group_has_labels_for(baseline):
    texts, pain = calls(10)
    data = labelled(texts, [*pain[:5], *[None] * 5], ["a"] * 5 + ["b"] * 5)
    p_yes = answers(baseline, data)[:, 0]
    assert np.isnan(p_yes[:5]).all()
    assert not np.isnan(p_yes[5:]).any()


def test_answers_do_not_change_from_time_to_time():
    texts, pain = calls(50)
    once, again = (answers(tfidf_logistic_regression, labelled(texts, pain)) for _ in range(2))
    assert once.tobytes() == again.tobytes()


def test_texts_without_a_word_in_common():
    data = labelled(["الف", "ب", "پ", "ت"], [True, False, True, False])
    assert not np.isnan(answers(tfidf_logistic_regression, data)).any()


# --- keywords ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "fields"),
    [
        ("fa", "سرم درد می‌کند.", {"pain"}),
        ("fa", "دردش زیاد شده و تب هم دارد", {"pain", "fever"}),
        ("fa", "درد ندارد.", set()),
        ("fa", "تب نداره، سرفه می‌کنه.", {"respiratory_complaints"}),
        ("fa", "تب داره؟ سرفه چی؟", set()),
        ("fa", "بدون تهوع، یبوست دارد", {"gastrointestinal_issues"}),
        ("fa", "دیروز تشنج کرد", {"seizures"}),
        ("fa", "تبریز زندگی می‌کند", set()),
        ("fa", "", set()),
        ("en", "He has pain in his back.", {"pain"}),
        ("en", "Painful, and nauseous since Monday", {"pain", "gastrointestinal_issues"}),
        ("en", "She denies pain; she has a fever.", {"fever"}),
        ("en", "He doesn't have a fever, but he is coughing.", {"respiratory_complaints"}),
        ("en", "Does he have a fever?", set()),
        ("en", "Two seizures this morning, no vomiting", {"seizures"}),
        ("en", "The patient says hello to the doctor.", set()),
    ],
)
def test_words_of_the_task_count_where_they_are_not_denied(language, text, fields):
    assert Keywords(TASK, language).found(text) == fields


def test_a_language_that_a_task_has_no_words_for():
    english = type(TASK)("t", "t", tuple(type(f)(f.id, {"en": f.label["en"]}, {"en": f.meaning["en"]}) for f in TASK.fields), {})
    assert Keywords(english, "fa").found("درد دارد") == set()


def test_keywords_learn_nothing_and_read_both_languages():
    data = labelled(["درد دارد", "He has pain.", "حالش خوب است"], [False, False, True])
    assert answers(keyword_negation, data).tolist() == [[1], [1], [0]]


# --- records -------------------------------------------------------------------------------------------------------


def test_baselines_are_records_of_a_benchmark(tmp_path):
    texts, pain = calls(12)
    data = labelled(texts, pain)
    bench = begin_bench(tmp_path / "bench", Plan(), systems_of(Plan(), data, lambda text: None), data, "2026-01-01")
    told = []
    write_baselines(bench, TASK, told.append)
    assert list(bench.baselines) == ["keyword-negation", "majority", "tfidf-logistic-regression"]
    for name, path in bench.baselines.items():
        records = list(read_records(path))
        assert [record["id"] for record in records] == [example.id for example in data.examples]
        assert {record["provenance"]["baseline"] for record in records} == {name}
        assert {record["status"] for record in records} == {"complete"}
        assert path.stat().st_mode & 0o777 == 0o600
        assert not any(text in path.read_text(encoding="utf-8") for text in texts)
    assert [predictions.name for predictions in bench.predictions()] == list(bench.baselines)
    before = {path: path.stat().st_mtime_ns for path in bench.baselines.values()}
    (tmp_path / "bench" / "baselines" / "majority.jsonl").unlink()
    told.clear()
    write_baselines(bench, TASK, told.append)
    assert told == ["Baseline: majority"]
    kept = [path for path in before if path.stem != "majority"]
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)


def test_what_cannot_be_answered_is_unanswered(tmp_path):
    data = labelled(["درد دارد"], [True])
    bench = begin_bench(tmp_path / "bench", Plan(), systems_of(Plan(), data, lambda text: None), data, "2026-01-01")
    write_baselines(bench, TASK, lambda text: None)
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in bench.baselines.items()}
    assert [found[name]["status"] for name in ("majority", "tfidf-logistic-regression", "keyword-negation")] == [
        "partial",
        "partial",
        "complete",
    ]
    assert found["majority"]["features"]["pain"]["value"] is None
    assert "other group" in found["majority"]["features"]["pain"]["reason"]
    said = {predictions.name: predictions.said[0, 0] for predictions in bench.predictions()}
    assert np.isnan(said["majority"])
    assert said["keyword-negation"] == 1
