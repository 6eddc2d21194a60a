"""The report of a benchmark: complete, readable anywhere, and without a word of a document where none is wanted."""

import base64
import csv
import io
import json
import re
import stat
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_bench import SECRET, SECRET_TRANSLATION, labelled_set, made_bench, records, without_waiting
from sklearn.metrics import auc, roc_auc_score

from clinex_edge.bench.folder import begin_bench
from clinex_edge.bench.predictions import Predictions
from clinex_edge.bench.report import numbers, write_report
from clinex_edge.bench.report.assemble import assemble
from clinex_edge.bench.report.content import METRICS, NAN, STUDY, Data, Estimate, FieldData, Median, Pair, System
from clinex_edge.bench.report.drawing import looks
from clinex_edge.bench.report.figures import charts, pareto
from clinex_edge.bench.report.page import as_html
from clinex_edge.bench.report.published import study
from clinex_edge.bench.report.scores import mean_roc
from clinex_edge.bench.report.summary import summary
from clinex_edge.bench.report.text import as_markdown
from clinex_edge.errors import RunError, UsageError
from clinex_edge.tasks import load_task

BASELINES = ("keywords", "majority")
NAME = "rahimi"  # in the id of every invented document


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A benchmark of four systems and two baselines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLINEX_HOME", str(tmp_path_factory.mktemp("home")))
        without_waiting(patch)
        folder = tmp_path_factory.mktemp("benches") / "few"
        return made_bench(folder, labelled_set(60), decoders=("joint", "free"), baselines=BASELINES, lost=(3,))


@pytest.fixture(scope="module")
def with_text(few, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("with"), [few.folder], with_text=True).parent


@pytest.fixture(scope="module")
def without_text(few, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("without"), [few.folder], with_text=False).parent


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    without_waiting(monkeypatch)


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sections, self.hidden = [], [], []
        self._details = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._details += tag == "details"

    def handle_endtag(self, tag):
        self._details -= tag == "details"

    def handle_data(self, data):
        if self._details:
            self.hidden.append(data)
        else:
            self.sections.append(data)

    @property
    def shown(self):
        return " ".join(" ".join(self.sections).split())


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_all_files_are_there_whole_and_private(with_text):
    names = {str(path.relative_to(with_text)) for path in files_of(with_text)}
    pictures = {
        "radar",
        "sensitivity-specificity",
        "mcc",
        "prediction-ratio",
        "missing",
        "roc",
        "reliability",
        "speed-quality",
        "bilingual",
    }
    assert names == {f"report.{kind}" for kind in ("html", "md", "csv", "json")} | {
        f"figures/{name}.{kind}" for name in pictures for kind in ("svg", "png")
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in files_of(with_text)} == {0o600}
    assert stat.S_IMODE((with_text / "figures").stat().st_mode) == 0o700


def test_the_page_needs_nothing_else(with_text):
    page = Page((with_text / "report.html").read_text(encoding="utf-8"))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs), tag
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:image/svg+xml;base64,")), (tag, name)
    assert "@import" not in page.shown and "url(" not in (with_text / "report.html").read_text(encoding="utf-8")
    anchors = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert anchors and anchors == {attrs["id"] for _, attrs in page.tags if "id" in attrs}


def test_the_style_is_the_one_that_the_policy_allows(with_text):
    import hashlib

    text = (with_text / "report.html").read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in text


def test_pictures_are_drawings_that_need_no_font_and_no_network(with_text):
    page = Page((with_text / "report.html").read_text(encoding="utf-8"))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 9 and all(len(attrs["alt"]) > 20 for attrs in images)
    for attrs in images:
        root = ElementTree.fromstring(base64.b64decode(attrs["src"].partition(",")[2]))
        assert root.tag.endswith("svg")
        assert not any(element.tag.endswith(("}text", "}image", "}script")) for element in root.iter())
        links = [value for element in root.iter() for name, value in element.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links)


def test_texts_are_in_the_page_alone_and_hidden_until_clicked(with_text):
    page = Page((with_text / "report.html").read_text(encoding="utf-8"))
    hidden = "".join(page.hidden)
    assert SECRET in hidden and SECRET_TRANSLATION in hidden and NAME in hidden
    assert SECRET not in page.shown and SECRET_TRANSLATION not in page.shown and NAME not in page.shown
    assert all("open" not in attrs for tag, attrs in page.tags if tag == "details")
    quotes = [attrs for tag, attrs in page.tags if tag == "blockquote"]
    assert {"lang": "fa", "dir": "rtl"} in quotes and {"lang": "en", "dir": "ltr"} in quotes
    for path in files_of(with_text):
        if path.suffix != ".html":
            content = path.read_bytes()
            assert SECRET.encode() not in content and SECRET_TRANSLATION.encode() not in content, path
    assert json.dumps(SECRET)[1:-1].encode() not in (with_text / "report.json").read_bytes()


def test_without_text_no_file_holds_texts_or_names(without_text):
    for path in files_of(without_text):
        content = path.read_bytes()
        for word in (SECRET, SECRET_TRANSLATION, NAME, json.dumps(SECRET)[1:-1]):
            assert word.encode() not in content, (path, word)
    page = Page((without_text / "report.html").read_text(encoding="utf-8"))
    assert "details" not in {tag for tag, _ in page.tags}
    assert "document 1" in page.shown and "no names of documents" in page.shown


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>&\"'`|\n# x"
    labelled = labelled_set(12)
    examples = tuple(replace(example, id=f"{evil}{n}", text=f"{evil} {SECRET}") for n, example in enumerate(labelled.examples))
    bench = made_bench(tmp_path / "b", replace(labelled, name=evil, examples=examples), models=("<b>x|y</b>",))
    report = assemble([bench.folder], with_text=True)
    page = Page(as_html(report, []))
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.shown and "<b>x|y</b>" in page.shown
    markdown = as_markdown(report, [])
    assert not re.search(r"(?<!\\)<(?!br>)", markdown)
    tables = [line for line in markdown.splitlines() if line.startswith("| 1 ")]
    assert tables and {len(re.split(r"(?<!\\)\|", line)) for line in tables} <= {10, 11}


def test_json_has_everything_and_is_strict(with_text, few):
    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((with_text / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert [system["name"] for system in content["systems"]] == [
        *(f"clinex-demo · {condition} · {decoder}" for condition in ("translated", "native") for decoder in ("joint", "free")), *BASELINES,
    ]  # fmt: skip
    assert len(content["pairs"]) == 15 and len(content["bilingual"]) == 2
    assert content["data"]["documents"] == 60 and content["data"]["groups"] == 30
    assert content["systems"][0]["statuses"] == {"complete": 59, "failed": 1}
    assert content["systems"][1]["medians"]["auroc"]["value"] is None  # free text has no probabilities
    assert content["systems"][0]["latency"]["peak_bytes"] == 3_000_000_000
    assert content["machines"][0]["cores"] >= 1 and content["asked"][0]["decoders"] == ["joint", "free"]
    assert content["systems"][0]["provenance"]["extractor"]["quantization"] == "Q4_K_M"


def test_csv_has_a_row_for_each_system_field_and_metric(with_text):
    text = (with_text / "report.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 6 * 14 * len(METRICS)
    content = json.loads((with_text / "report.json").read_text(encoding="utf-8"))
    for row in rows:
        system = content["systems"][int(row["system"]) - 1]
        score = (system["fields"][row["field"]] if row["field"] else system["medians"])[row["metric"]]
        for name in ("value", "low", "high"):
            assert row[name] == "" if score[name] is None else float(row[name]) == pytest.approx(score[name], abs=1e-6)
        assert not row["name"].startswith(("=", "+", "-", "@"))


def test_figures_are_those_of_the_answers(few):
    """Recomputed in plain Python from the records."""
    report = assemble([few.folder], with_text=False)
    system = report.systems[1]
    said = {record["id"]: record.get("features", {}) for record in few.records(few.systems[1])}
    sensitivities = []
    for field in few.labelled.fields:
        true_yes = false_no = missing = 0
        for example in few.labelled.examples:
            if field in example.labels:
                value = said[example.id].get(field, {}).get("value")
                missing += value is None
                true_yes += example.labels[field] and value == "yes"
                false_no += example.labels[field] and value != "yes"
        sensitivities.append(true_yes / (true_yes + false_no))
        assert system.fields[field]["sensitivity"].value == pytest.approx(sensitivities[-1])
        assert system.fields[field]["missing_rate"].value == pytest.approx(missing / sum(field in e.labels for e in few.labelled.examples))
    median = system.medians["sensitivity"]
    assert (median.value, median.q1, median.q3) == pytest.approx(tuple(np.percentile(sensitivities, (50, 25, 75))))
    assert median.low <= median.value <= median.high


def test_the_most_confident_errors_come_first(few):
    report = assemble([few.folder], with_text=True)
    labels = {example.id: example.labels for example in few.labelled.examples}
    wrong = []
    for record in few.records(few.systems[0]):
        for field, feature in record.get("features", {}).items():
            if field in labels[record["id"]] and (feature["value"] == "yes") != labels[record["id"]][field]:
                wrong.append((feature["p_yes"] if feature["value"] == "yes" else 1 - feature["p_yes"], record["id"], field))
    found = report.systems[0].errors
    assert [error.probability for error in found] == pytest.approx(sorted((p for p, *_ in wrong), reverse=True)[:10])
    assert {(error.probability, error.id, error.field) for error in found} <= set(wrong)
    assert all(few.labelled.examples[error.number - 1].id == error.id for error in found)
    assert all(system.errors == [] for system in report.systems[1::2] + report.systems[4:])  # without probabilities; baselines


def test_the_mean_roc_curve_has_the_mean_area():
    random = np.random.default_rng(0)
    gold = (random.random((400, 3)) < 0.3).astype(float)
    gold[:, 2] = 0  # one class: no curve
    p_yes = np.clip(0.5 * gold + random.random((400, 3)) / 2, 0, 1) * random.random((400, 3))
    predictions = Predictions("x", tuple(map(str, range(400))), ("a", "b", "c"), gold, np.round(p_yes), p_yes, np.arange(400))
    rates, sensitivities = np.array(mean_roc(predictions)).T
    expected = np.mean([roc_auc_score(gold[:, field], p_yes[:, field]) for field in (0, 1)])
    assert auc(rates, sensitivities) == pytest.approx(expected, abs=0.01)
    assert (rates[0], sensitivities[0], rates[-1], sensitivities[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(rates) >= 0) and np.all(np.diff(sensitivities) >= 0)


def test_reliability_counts_every_answer_with_a_probability(few):
    system = assemble([few.folder], with_text=False).systems[0]
    answers = sum(len(example.labels) for number, example in enumerate(few.labelled.examples) if number != 3)  # that one failed
    assert sum(part.answers for part in system.reliability) == answers
    assert all(0 <= part.share <= 1 and 0 <= part.p_yes <= 1 for part in system.reliability)


def test_the_published_figures_agree_with_each_other():
    """The medians of MCC, from the text, are those of MCC by field, which was read off a picture."""
    rows = study()
    assert len(rows) == 7
    for row in rows:
        assert list(row.mcc) == load_task("palliative-call").field_ids
        assert set(row.medians) == set(STUDY)
        assert np.median(list(row.mcc.values())) == pytest.approx(row.medians["mcc"], abs=0.02), row.title


def test_published_figures_stand_beside_the_same_model_and_condition_only(tmp_path):
    bench = made_bench(tmp_path / "b", labelled_set(20), models=("aya-expanse-8b", "clinex-demo", "qwen2.5-7b"))
    systems = {(system.model, system.condition): system.study.get("macro_f1") for system in assemble([bench.folder], True).systems}
    assert systems == {
        ("aya-expanse-8b", "translated"): 0.855, ("aya-expanse-8b", "native"): 0.842, ("clinex-demo", "translated"): None,
        ("clinex-demo", "native"): None, ("qwen2.5-7b", "translated"): 0.899, ("qwen2.5-7b", "native"): None,
    }  # fmt: skip


def test_other_fields_have_nothing_to_do_with_the_study(tmp_path):
    bench = made_bench(tmp_path / "b", labelled_set(20, fields=["itch", "rash"]), models=("qwen2.5-7b",))
    report = assemble([bench.folder], with_text=True)
    assert report.study == []
    assert "arXiv" not in as_html(report, []) and "arXiv" not in as_markdown(report, [])


@pytest.mark.parametrize(
    "made",
    [
        {"labelled": labelled_set(1, groups=0, unlabelled=0)},
        {"labelled": labelled_set(8, groups=0, unlabelled=0.2, one_class=("fever", "pain"))},
        {"labelled": labelled_set(10, fields=["itch"], groups=10, unlabelled=0), "decoders": ("free",)},
        {"labelled": labelled_set(6), "lost": range(6)},
    ],
    ids=["one document", "one class", "one field and one group", "all failed"],
)
def test_little_data_still_makes_a_report(tmp_path, made, recwarn):
    bench = made_bench(tmp_path / "b", **made, baselines=BASELINES[:1])
    folder = write_report(tmp_path / "r", [bench.folder], with_text=True).parent
    shown = Page((folder / "report.html").read_text(encoding="utf-8")).shown
    assert "nan" not in shown.replace("finance", "").lower().split() and "None" not in shown.split()
    json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert not [warning for warning in recwarn if "clinex" in str(warning.filename)]


def test_nothing_is_cut_off_in_pictures(tmp_path):
    """The outermost dots of each picture are white, with the longest names too."""
    from matplotlib.image import imread

    models = ("a-model-with-a-very-long-name-of-its-own-12b-instruct-q4_k_m", "b" * 80)
    bench = made_bench(tmp_path / "b", labelled_set(30), models, decoders=("independent",), baselines=("n" * 90, *BASELINES), lost=(1,))
    names = []
    for chart in charts(assemble([bench.folder], with_text=False)):
        dots = imread(io.BytesIO(chart.png))[..., :3]
        edges = [dots[0], dots[-1], dots[:, 0], dots[:, -1]]
        assert all((edge > 0.99).all() for edge in edges), chart.name
        names.append(chart.name)
    assert len(names) == 9


def test_the_same_answers_draw_the_same_pictures(with_text, without_text):
    for path in (with_text / "figures").iterdir():
        assert path.read_bytes() == (without_text / "figures" / path.name).read_bytes()


def test_systems_differ_by_more_than_colour():
    systems = [System(number, str(number), "baseline" if number > 12 else "model", {}, {}) for number in range(1, 17)]
    found = looks(systems)
    assert len({look.marker for look in found.values()}) == len(systems)


def test_benchmarks_on_the_same_documents_make_one_report(tmp_path):
    labelled = labelled_set(20)
    benches = [made_bench(tmp_path / name, labelled, conditions=("native",), baselines=BASELINES) for name in ("monday", "tuesday")]
    report = assemble([bench.folder for bench in benches], with_text=False)
    assert [system.name for system in report.systems] == [
        "clinex-demo · native · joint · monday", "clinex-demo · native · joint · tuesday", *BASELINES,
    ]  # fmt: skip
    other = made_bench(tmp_path / "other", labelled_set(20, seed=1))
    with pytest.raises(UsageError, match="same documents"):
        assemble([benches[0].folder, other.folder], with_text=False)


def test_a_benchmark_that_is_not_done_says_so(tmp_path):
    bench = made_bench(tmp_path / "b", labelled_set(20))
    plan, systems = (
        replace(bench.plan, decoders=("joint", "gbnf")),
        bench.systems + tuple(replace(s, decoder="gbnf") for s in bench.systems),
    )
    begun = begin_bench(tmp_path / "c", plan, systems, bench.labelled, "2026-11-21T12:00:00+00:00")
    with pytest.raises(UsageError, match="has begun"):
        assemble([begun.folder], with_text=False)
    from clinex_edge.runs.run import Run

    with Run(begun.run_folder(systems[0]), {"task": "palliative-call"}, {}, 20) as run:
        for record in list(records(bench.labelled, 1, 0))[:5]:
            run.keep(record)
    report = assemble([begun.folder], with_text=False)
    assert [system.statuses for system in report.systems] == [{"complete": 5, "absent": 15}]
    assert any("no record yet: 15 of 1" in sentence for sentence in report.summary)
    with pytest.raises(RunError, match="holds no benchmark"):
        assemble([tmp_path], with_text=False)


def test_a_new_report_replaces_the_old_one(tmp_path):
    labelled = labelled_set(20, fields=["itch"])
    lossy, whole = (made_bench(tmp_path / str(len(lost)), labelled, conditions=("native",), lost=lost) for lost in ((1,), ()))
    write_report(tmp_path / "r", [lossy.folder], with_text=True)
    assert (tmp_path / "r" / "figures" / "missing.svg").exists()
    write_report(tmp_path / "r", [whole.folder], with_text=False)
    assert not (tmp_path / "r" / "figures" / "missing.svg").exists()
    assert not any(NAME.encode() in path.read_bytes() for path in files_of(tmp_path / "r"))


def made_system(number, value, kind="model", **rest):
    medians = {metric: Median(value, value - 0.05, value + 0.05, value, value) for metric in METRICS}
    return System(number, f"system-{number}", kind, medians, {}, model="m", decoder="joint", **rest)


def made_pair(a, b, better, value=0.01):
    return Pair(a, b, {"macro_f1": Estimate(value, value - 0.02, value + 0.02)}, {}, NAN, better, "exact McNemar test")


DATA = Data("calls.csv", "", 40, 40, 0, [FieldData("pain", "Pain", 40, 20), FieldData("fever", "Fever", 40, 3)])


def test_the_summary_says_what_can_be_told_apart():
    systems = [made_system(1, 0.8), made_system(2, 0.79), made_system(3, 0.6), made_system(4, 0.9, kind="baseline")]
    text = "\n".join(summary(DATA, systems, [made_pair(4, 1, 4), made_pair(1, 2, None), made_pair(1, 3, 1)], []))
    assert "3 systems and 1 baseline answered 2 questions about 40 documents (calls.csv)." in text
    assert "The highest median macro-F1 over the fields has 1 (system-1): 0.800 (95 % interval 0.750 to 0.850)." in text
    assert "Not distinguishable from it: 2 (system-2)." in text
    assert "It is better than 3 (system-3) (" in text
    assert "Better than it, without a language model: 4 (system-4)." in text
    assert "No answer is missing." in text
    assert "say little: Fever." in text


def test_the_summary_names_missing_answers_and_languages():
    systems = [made_system(1, 0.8, missing=7, statuses={"failed": 2}), made_system(2, 0.8)]
    text = "\n".join(summary(DATA, systems, [], [made_pair(1, 2, None, -0.004)]))
    assert "7 of 1 (80.0 %)" in text and "Documents that failed: 2 of 1." in text
    assert "m with joint: not distinguishable (macro-F1 −0.004, 95 % interval −0.024 to 0.016)" in text
    many = "\n".join(summary(DATA, systems, [], [made_pair(1, 2, better) for better in (1, 1, 2, None, None)]))
    assert "Of 5 comparisons of translated with native, translated is better in 2, native in 1; 2 are not distinguishable." in many


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1, 0.5)], [(1, 0.5)]),
        ([(1, 0.5), (2, 0.4), (3, 0.9), (4, 0.9)], [(1, 0.5), (3, 0.9)]),
        ([(2, 0.4), (1, 0.5), (1, 0.7)], [(1, 0.7)]),
    ],
)
def test_the_front_holds_what_nothing_beats_in_both(points, front):
    assert pareto(points) == front


def test_numbers_as_people_read_them():
    assert (numbers.figure(-0.12345), numbers.figure(NAN), numbers.figure(None), numbers.figure(2, 1)) == ("−0.123", "–", "–", "2.0")
    assert (numbers.signed(0.5), numbers.signed(-0.5)) == ("+0.500", "−0.500")
    assert (numbers.interval(Estimate(1, 0.5, 1.5)), numbers.interval(Estimate(1))) == ("0.500 to 1.500", "–")
    assert (numbers.p_value(0.0004), numbers.p_value(0.04), numbers.p_value(NAN)) == ("< 0.001", "0.040", "–")
    assert (numbers.seconds(0.01234), numbers.seconds(12345.6), numbers.percent(0.123), numbers.gigabytes(2.5e9)) == (
        "0.0123", "12,346", "12.3 %", "2.50",
    )  # fmt: skip


@pytest.mark.slow
def test_twenty_thousand_documents_and_twelve_systems_make_a_report(tmp_path):
    """With -s it says how long that took; it should be less than a minute."""
    import time

    models = ("qwen2.5-7b", "llama-3.1-8b", "gemma-3-1b")
    bench = made_bench(tmp_path / "b", labelled_set(20_000, groups=3), models=models, decoders=("joint", "free"), baselines=BASELINES)
    began = time.monotonic()
    page = write_report(tmp_path / "r", [bench.folder], with_text=True)
    print(f"\n{time.monotonic() - began:.1f} s")
    assert "20,000" in page.read_text(encoding="utf-8")
