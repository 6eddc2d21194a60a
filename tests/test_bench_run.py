"""Benchmarks of the embedded model on a few short documents: what is run, what is kept, and what goes on after a kill."""

import json
import math
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runner import ROOT, environment

from clinex_edge.bench.data import Example, LabelledSet
from clinex_edge.bench.folder import ABOUT, Plan, begin_bench, read_bench
from clinex_edge.bench.latency import latency
from clinex_edge.bench.run import run_systems, systems_of
from clinex_edge.errors import InputError, ModelError, RunError, UsageError
from clinex_edge.models.registry import find
from clinex_edge.runs.history import RECORDS
from clinex_edge.runs.journal import JOURNAL
from clinex_edge.runs.local import Local
from clinex_edge.runs.pace import Pace
from clinex_edge.runs.run import Run
from clinex_edge.runs.settings import Loading
from clinex_edge.runs.verify import findings
from clinex_edge.runs.work import work_through
from clinex_edge.runs.worker import Worker

SAYINGS = (
    ("پرستار: تب داره؟\nپسر بیمار: نه، ولی کمرش خیلی درد می‌کنه.", {"pain": True, "fever": False}),
    ("پرستار: سلام، حالشون چطوره؟\nدختر بیمار: از دیشب تب داره.", {"pain": False, "fever": True}),
    ("پرستار: درد داره؟\nپسر بیمار: نه، دردی نداره.", {"pain": False}),
    ("پرستار: امروز چطورید؟\nبیمار: خوبم، ممنون.", {"pain": False, "fever": False}),
)
ONE_THREAD = Loading(threads=1)


def labelled(documents=10, name="calls.csv"):
    """Short documents, no two the same."""
    examples = []
    for number in range(documents):
        text, labels = SAYINGS[number % len(SAYINGS)]
        examples.append(Example(f"call-{number:02}", f"{text}\nپرستار: شماره {number} یادداشت شد.", labels, f"patient-{number // 2}"))
    return LabelledSet(name, "5" * 64, ("fever", "pain"), tuple(examples))


class Heard:
    """Keeps what it hears."""

    def __init__(self):
        self.begun, self.given_up = [], {}

    def begins(self, number, system):
        self.begun.append(system.name)

    def gives_up(self, system, error):
        self.given_up[system.name] = error


def begin(folder, plan, data):
    return begin_bench(folder, plan, systems_of(plan, data, lambda text: None), data, "2026-01-01T00:00:00+00:00")


def finish(bench, heard=None, stop=lambda: False, pace=None):
    pace = pace or Pace(len(bench.labelled.examples) * len(bench.systems))
    return dict(run_systems(bench, ONE_THREAD, pace, heard or Heard(), stop))


def without_timings(records):
    return [json.dumps({name: value for name, value in record.items() if name != "timings"}) for record in records]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A benchmark under both conditions with two decoders, and where the user's own files were."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("CLINEX_HOME", str(home))
        bench = begin(tmp_path_factory.mktemp("done") / "bench", Plan(decoders=("joint", "free")), labelled())
        counts = finish(bench)
    return bench, counts, home


# --- what is run ---------------------------------------------------------------------------------------------------


def test_every_model_condition_and_decoder_is_run_over_all_documents(done):
    bench, counts, _ = done
    assert [system.name for system in bench.systems] == [
        "clinex-demo · translated · joint",
        "clinex-demo · translated · free",
        "clinex-demo · native · joint",
        "clinex-demo · native · free",
    ]
    for system in bench.systems:
        records = list(bench.records(system))
        assert [record["id"] for record in records] == [example.id for example in bench.labelled.examples]
        assert {record["provenance"]["decoder"] for record in records} == {system.decoder}
        assert {bool(record["translation"]) for record in records} == {system.condition == "translated"}
        assert counts[system] == Counter(record["status"] for record in records)


def test_each_run_is_an_ordinary_one(done, monkeypatch):
    bench, _, home = done
    monkeypatch.setenv("CLINEX_HOME", str(home))
    for system in bench.systems:
        assert findings(bench.run_folder(system)) == []


def test_predictions_come_from_the_folder_alone(done, tmp_path):
    bench = done[0]
    found = {predictions.name: predictions for predictions in read_bench(bench.folder).predictions()}
    assert list(found) == [system.name for system in bench.systems]
    pain = found["clinex-demo · native · joint"].said[:, 1]
    records = list(bench.records(bench.systems[2]))
    assert pain.tolist() == [record["features"]["pain"]["value"] == "yes" for record in records]
    assert pain[0] == 1  # "his back hurts a lot"


def test_translations_are_made_once(done, tmp_path):
    bench = done[0]
    made, taken = (list(bench.records(system)) for system in bench.systems[:2])
    assert [record["translation"] for record in taken] == [record["translation"] for record in made]
    assert {record["provenance"]["translator"].pop("reused") for record in taken} == {True}
    assert taken[0]["provenance"]["translator"] == made[0]["provenance"]["translator"]
    assert sum(record["timings"]["translate_s"] for record in taken) < sum(record["timings"]["translate_s"] for record in made) / 10


def test_taken_translations_give_the_answers_of_own_ones(done, tmp_path):
    bench = done[0]
    settings = replace(bench.settings(bench.systems[1], ONE_THREAD), translations=None)
    fingerprints = settings.fingerprints()
    with Run(tmp_path / "own", settings.to_dict(), fingerprints, 10) as run, Worker(settings, fingerprints, lambda *stage: None) as worker:
        list(work_through(run, settings.sources(), settings.task, Local(worker), lambda: False))
    own = [json.loads(line) for line in (tmp_path / "own" / RECORDS).read_text().splitlines()]
    assert [record["features"] for record in own] == [record["features"] for record in bench.records(bench.systems[1])]


def test_a_document_whose_translation_is_not_there_is_translated(done, tmp_path):
    bench = done[0]
    few = begin(tmp_path / "few", Plan(conditions=("translated",)), labelled(3))
    finish(few)
    settings = replace(bench.settings(bench.systems[0], ONE_THREAD), translations=str(few.run_folder(few.systems[0])))
    documents = [source.read() for source in settings.sources()][:5]
    with Worker(settings, settings.fingerprints(), lambda *stage: None) as worker:
        records = list(worker.extract([documents]))
    assert [record["provenance"]["translator"].get("reused", False) for record in records] == [True] * 3 + [False] * 2
    assert [bool(record["timings"]["translate_s"]) for record in records] == [False] * 3 + [True] * 2
    assert all(record["translation"] for record in records)


def test_a_run_on_english_documents_is_not_done_twice():
    example = Example("call-en", "Nurse: Is there pain?\nSon: No, he has no pain.", {"pain": False})
    english = replace(labelled(), examples=(example,))
    mixed = replace(labelled(), examples=(example, *labelled(2).examples))
    told = []
    assert [s.condition for s in systems_of(Plan(), english, told.append)] == ["native"]
    assert [s.condition for s in systems_of(Plan(), mixed, told.append)] == ["translated", "native"]
    assert ["All documents are English" in told[0], "1 of 3 documents are English" in told[1], len(told)] == [True, True, 2]
    assert [s.condition for s in systems_of(Plan(conditions=("translated",)), english, told.append)] == ["translated"]
    assert len(told) == 2


@pytest.mark.parametrize(
    ("plan", "error", "said"),
    [
        (Plan(conditions=("translatd",)), UsageError, "condition 'translatd'"),
        (Plan(decoders=("joined",)), UsageError, "joined"),
        (Plan(models=("no-such-model",)), UsageError, "no-such-model"),
        (Plan(models=("clinex-demo", None)), UsageError, "'clinex-demo' is named twice"),
        (Plan(decoders=("joint", "joint")), UsageError, "'joint' is named twice"),
        (Plan(models=("qwen2.5-7b",)), ModelError, "not on this machine"),
        (Plan(translator="aya-expanse-8b"), ModelError, "not on this machine"),
    ],
)
def test_what_cannot_be_run_is_told_before_anything_is_written(plan, error, said, tmp_path):
    with pytest.raises(error, match=said):
        begin(tmp_path / "bench", plan, labelled(1))
    assert not (tmp_path / "bench").exists()


def test_a_missing_translator_does_not_matter_where_nothing_is_translated(tmp_path):
    plan = Plan(conditions=("native",), translator="aya-expanse-8b")
    assert finish(begin(tmp_path / "bench", plan, labelled(1)))


def test_a_model_that_does_not_load_leaves_the_others(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(find(None, "extractor").path.read_bytes()[:5000])
    bench = begin(tmp_path / "bench", Plan(models=(str(broken), None)), labelled(2))
    heard = Heard()
    counts = finish(bench, heard)
    assert [system.title for system in counts] == ["clinex-demo"] * 2
    assert list(heard.given_up) == ["broken · translated · joint", "broken · native · joint"]
    assert "broken.gguf" in str(heard.given_up["broken · native · joint"])
    assert [predictions.name for predictions in bench.predictions()] == [system.name for system in bench.systems[2:]]
    assert all(record["translation"] for record in bench.records(bench.systems[2]))  # made here, for want of the first system's


def test_a_stop_is_a_stop(tmp_path):
    bench = begin(tmp_path / "bench", Plan(decoders=("joint", "independent")), labelled(9))
    pace = Pace(36)
    counts = finish(bench, stop=lambda: pace.settled.total() >= 1, pace=pace)
    assert [found.total() for found in counts.values()] == [8]
    assert all(len(list(bench.records(system))) == 9 for system in finish(bench))


# --- the folder ----------------------------------------------------------------------------------------------------


def test_the_same_again_computes_nothing(done, monkeypatch):
    bench, counts, home = done
    monkeypatch.setenv("CLINEX_HOME", str(home))
    before = [(bench.run_folder(system) / RECORDS).read_bytes() for system in bench.systems]
    again = begin(bench.folder, Plan(decoders=("joint", "free")), labelled())
    pace = Pace(40)
    assert finish(again, pace=pace) == counts
    assert pace.settled == {"settled": 40}
    assert [(bench.run_folder(system) / RECORDS).read_bytes() for system in bench.systems] == before


@pytest.mark.parametrize(
    ("plan", "data", "named"),
    [
        (Plan(decoders=("joint",)), labelled(), "decoders"),
        (Plan(decoders=("joint", "free"), repeat=2), labelled(), "repeat"),
        (Plan(decoders=("joint", "free"), limit=10), labelled(), "limit"),
        (Plan(decoders=("joint", "free")), labelled(9), "data"),
        (Plan(decoders=("joint", "free"), ctx_size=512), labelled(9), "data, ctx_size"),
    ],
)
def test_a_folder_of_other_data_or_settings_is_refused(done, plan, data, named):
    with pytest.raises(RunError, match=rf"other settings \({named}\)") as refused:
        begin(done[0].folder, plan, data)
    assert "--resume" in refused.value.hint


def test_other_labels_of_the_same_file_are_other_data(done):
    first, *others = done[0].labelled.examples
    changed = replace(done[0].labelled, examples=(replace(first, labels={"pain": False}), *others))
    with pytest.raises(RunError, match="data"):
        begin(done[0].folder, Plan(decoders=("joint", "free")), changed)


def test_a_table_may_have_another_name_the_next_time(done):
    assert begin(done[0].folder, Plan(decoders=("joint", "free")), labelled(name="moved.csv")).labelled.name == "calls.csv"


def test_a_benchmark_is_readable_by_its_owner_only(done):
    folder = done[0].folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o600}


def test_about_names_no_user_and_no_host(done):
    about = json.loads((done[0].folder / ABOUT).read_text(encoding="utf-8"))
    assert {"processor", "cores", "memory_bytes", "build", "versions"} <= set(about["machine"])
    assert about["data"]["documents"] == 10
    assert "host" not in json.dumps(about)


def test_folders_that_are_no_benchmark(tmp_path):
    with pytest.raises(RunError, match="holds no benchmark"):
        read_bench(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.docx").write_text("")
    with pytest.raises(RunError, match="holds other files"):
        begin(tmp_path / "other", Plan(), labelled(1))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.docx"]


def test_a_damaged_benchmark_says_so(tmp_path):
    folder = begin(tmp_path / "bench", Plan(), labelled(1)).folder
    whole = (folder / ABOUT).read_text()
    for damaged in (whole[:100], "[]", whole.replace('"conditions"', '"condition"')):
        (folder / ABOUT).write_text(damaged)
        with pytest.raises(RunError, match="is damaged"):
            read_bench(folder)
    (folder / ABOUT).write_text(whole.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(RunError, match="newer version"):
        read_bench(folder)
    (folder / ABOUT).write_text(whole)
    (folder / "data.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"data\.jsonl was changed"):
        read_bench(folder)


# --- what it takes -------------------------------------------------------------------------------------------------


def row(number, translate, extract, load=0.0):
    timings = {"load_s": load, "translate_s": translate, "extract_s": extract}
    tokens = {"prompt_tokens": 100, "cached_tokens": 7, "generated_tokens": 50}
    return {
        "schema": 1, "id": f"call-{number:02}", "source": "data.jsonl", "document_sha256": f"{number:064}", "language": "fa",
        "task": "palliative-call", "status": "complete", "features": {}, "translation": [], "provenance": {"translator": {}},
        "timings": {**timings, **tokens},
    }  # fmt: skip


def twin(number):
    """The record of a document that says what an earlier one says."""
    return {**row(number, 0, 0), "timings": dict.fromkeys(row(number, 0, 0)["timings"], 0)}


def used(process, documents, seconds, cpu_s, peak_bytes):
    return {"process": process, "documents": documents, "seconds": seconds, "cpu_s": cpu_s, "peak_bytes": peak_bytes}


def write_run(bench, system, rows, events):
    settings = bench.settings(system, ONE_THREAD)
    with Run(bench.run_folder(system), settings.to_dict(), {}, len(rows)) as run:
        for kept in rows:
            run.keep(kept)
        for event in events:
            run.note_use(event)


def test_latency_by_hand(tmp_path):
    bench = begin(tmp_path / "bench", Plan(conditions=("translated",), decoders=("joint", "free"), repeat=2), labelled(4))
    joint, joint_again, free, _ = bench.systems
    speeds = {"extractor": {"prefill": 50.0, "decode": 6.0}}
    write_run(
        bench, joint, [row(0, 3.0, 1.0, load=10.0), row(1, 5.0, 1.0), row(2, 4.0, 2.0), twin(3)],
        [used(7, 2, 14.0, 20.0, 900), used(7, 3, 30.0, 33.0, 1000), {**used(8, 1, 12.0, 3.0, 800), "speeds": speeds}],
    )  # fmt: skip
    found = latency(bench, joint)
    assert found.documents == 3  # the copy of another took nothing
    assert (found.load_s, found.first_answers_s, found.first_documents) == (5.0, 13.0, 2)
    assert (found.translate.median, found.extract.median, found.seconds.median) == (4.0, 1.0, 6.0)
    assert found.seconds.p95 == pytest.approx(np.percentile([4, 6, 6], 95))
    assert found.documents_per_hour == pytest.approx(3600 * 3 / 16)
    assert found.shares == pytest.approx({"load_s": 10 / 26, "translate_s": 12 / 26, "extract_s": 4 / 26})
    assert (found.prompt_tokens_per_s, found.generated_tokens_per_s) == pytest.approx((300 / 16, 150 / 16))
    assert (found.cpu_s, found.peak_bytes) == (36 / 4, 1000)
    assert found.speeds == speeds
    assert found.translations_of is None

    borrowed = [{**row(n, 0.0, 2.0), "provenance": {"translator": {"reused": True}}} for n in range(3)] + [row(3, 7.0, 2.0)]
    write_run(bench, free, borrowed, [used(9, 4, 9.0, 8.0, 500)])
    found = latency(bench, free)
    assert found.translations_of == joint.name
    assert [found.translate.median, found.extract.median] == [4.5, 2.0]
    assert found.documents_per_hour == pytest.approx(3600 * 4 / (19 + 8))
    assert found.prompt_tokens_per_s == pytest.approx(400 / (7 + 8))

    write_run(bench, joint_again, [row(0, 1.0, 1.0)], [])
    found = latency(bench, joint)
    assert (found.documents, found.seconds.median) == (4, 5.0)


def test_latency_of_a_run_without_a_computed_document(tmp_path):
    bench = begin(tmp_path / "bench", Plan(conditions=("native",)), labelled(1))
    write_run(bench, bench.systems[0], [twin(0)], [])
    found = latency(bench, bench.systems[0])
    assert found.documents == 0
    assert all(math.isnan(value) for value in (found.load_s, found.seconds.median, found.documents_per_hour, found.peak_bytes, found.cpu_s))
    assert found.speeds == {}


def test_latency_of_real_runs(done):
    bench = done[0]
    joint, free, native, _ = (latency(bench, system) for system in bench.systems)
    for found in (joint, free, native):
        assert found.documents == 10
        assert found.first_documents == 8
        assert 0 < found.extract.median <= found.seconds.median <= found.seconds.p95
        assert found.load_s < found.first_answers_s
        assert 20e6 < found.peak_bytes < 1e9
        assert 0 < found.cpu_s < 60
        assert sum(found.shares.values()) == pytest.approx(1)
        assert min(found.speeds["extractor"].values()) > 0
    assert (joint.translations_of, free.translations_of, native.translations_of) == (None, joint.system, None)
    assert free.translate == joint.translate
    assert (native.translate.median, native.shares["translate_s"]) == (0, 0)


def test_a_benchmark_may_be_moved(done, tmp_path):
    bench = done[0]
    moved = bench.folder.rename(tmp_path / "elsewhere")
    try:
        again = read_bench(moved)
        assert latency(again, again.systems[1]).translations_of == again.systems[0].name
        assert [p.name for p in again.predictions()] == [system.name for system in again.systems]
    finally:
        moved.rename(bench.folder)


# --- kills ---------------------------------------------------------------------------------------------------------


def session(folder):
    """Go on with a benchmark in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, str(folder)], cwd=ROOT, env=environment())


def written(bench):
    return sum(path.stat().st_size for path in bench.folder.glob(f"runs/*/{JOURNAL}"))


def endure(tmp_path, plan, data, kills, seed):
    """Kill a benchmark at so many random moments; returns the kills that met it at work, and what differs from one that nobody killed."""
    unbroken, bench = begin(tmp_path / "unbroken", plan, data), begin(tmp_path / "killed", plan, data)
    assert session(unbroken.folder).wait() == 0
    randomly = random.Random(seed)
    met = 0
    for place in sorted(randomly.randrange(written(unbroken)) for _ in range(kills)):
        process = session(bench.folder)
        while process.poll() is None and written(bench) < place:
            time.sleep(0.001)
        time.sleep(randomly.uniform(0, 0.3))
        met += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert session(bench.folder).wait() == 0
    different = [
        system.name for system in bench.systems if without_timings(bench.records(system)) != without_timings(unbroken.records(system))
    ]
    return met, different


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_benchmark_that_is_killed_ten_times_gives_the_same_answers(tmp_path):
    met, different = endure(tmp_path, Plan(decoders=("joint", "free")), labelled(20), kills=10, seed=1)
    assert different == []
    assert met >= 8


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_larger_benchmark_that_is_killed_thirty_times_gives_the_same_answers(tmp_path):
    met, different = endure(tmp_path, Plan(decoders=("joint", "independent", "free")), labelled(200), kills=30, seed=2)
    assert different == []
    assert met >= 25


if __name__ == "__main__":
    finish(read_bench(Path(sys.argv[1])))
