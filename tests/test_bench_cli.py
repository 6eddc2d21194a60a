"""`clinex-edge bench` as a user types it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_runner import command, environment, run

from clinex_edge.cli.working import INCOMPLETE, INTERRUPTED
from clinex_edge.runs.journal import JOURNAL

NATIVE = ("--conditions", "native", "--threads", "1")
ROWS = [
    ("a", "پرستار: تب داره؟\nپسر بیمار: نه، ولی کمرش خیلی درد می‌کنه.", "p1", "بله", "خیر"),
    ("b", "پرستار: سلام، حالشون چطوره؟\nدختر بیمار: از دیشب تب داره.", "p1", "0", "1"),
    ("c", "پرستار: درد داره؟\nپسر بیمار: نه، دردی نداره.", "p2", "no", ""),
    ("d", "پرستار: امروز چطورید؟\nبیمار: سرم درد می‌کنه.", "p3", "yes", "no"),
]


def write_data(path, rows=ROWS):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text", "patient", "pain", "fever"), *rows])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with calls.csv and the benchmark of it."""
    place = tmp_path_factory.mktemp("place")
    write_data(place / "calls.csv")
    arguments = command("bench", "run", "calls.csv", "--decoders", "joint,independent", *NATIVE)
    variables = environment(CLINEX_HOME=str(tmp_path_factory.mktemp("home")))
    done = subprocess.run(arguments, cwd=place, env=variables, capture_output=True, timeout=100, check=False)
    (place / "stdout").write_bytes(done.stdout)
    (place / "stderr").write_bytes(done.stderr)
    assert done.returncode == 0, done.stderr.decode()
    return place


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    monkeypatch.chdir(place)


# --- run -----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_folder_with_a_report(place):
    bench = place / "bench-calls"
    assert {path.name for path in bench.iterdir()} >= {"bench.json", "data.jsonl", "runs", "baselines", "report.html", "report.csv"}
    assert sorted(path.name for path in (bench / "runs").iterdir()) == ["clinex-demo.native.independent", "clinex-demo.native.joint"]
    assert "clinex-demo · native · independent" in (bench / "report.html").read_text(encoding="utf-8")


def test_data_goes_to_stdout_and_words_to_stderr(place):
    table, words = ((place / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    assert [line.split("  ")[0] for line in table.splitlines()[1:]] == [
        "clinex-demo · native · joint",
        "clinex-demo · native · independent",
        "keyword-negation",
        "majority",
        "tfidf-logistic-regression",
    ]
    assert "1 of 2: clinex-demo · native · joint" in words
    assert "2 runs: 8 complete" in words
    assert "bench-calls/report.html" in words
    assert not any(row[1].split("\n")[1] in table + words for row in ROWS)


def test_the_same_again_goes_on(place, capsys):
    before = (place / "bench-calls/runs/clinex-demo.native.joint/records.jsonl").read_bytes()
    again = run(capsys, "bench", "run", "calls.csv", "--decoders", "joint,independent", *NATIVE)
    assert again.status == 0
    resumed = run(capsys, "bench", "run", "--resume", "--to", "bench-calls", "--no-text")
    assert (resumed.status, resumed.stdout) == (0, again.stdout)
    assert (place / "bench-calls/runs/clinex-demo.native.joint/records.jsonl").read_bytes() == before
    assert "درد" not in (place / "bench-calls/report.html").read_text(encoding="utf-8").replace("خیر", "")


def test_other_settings_need_another_folder(capsys):
    refused = run(capsys, "bench", "run", "calls.csv", *NATIVE)
    assert refused.status == 1
    assert "other settings (decoders)" in refused.stderr
    assert "--to" in refused.stderr


def test_a_part_of_the_documents(capsys, tmp_path):
    done = run(capsys, "bench", "run", "calls.csv", "--limit", "3", "--no-baselines", "--to", tmp_path / "few", *NATIVE)
    assert done.status == 0
    assert "Only the first 3 of 4 documents" in done.stderr
    assert len((tmp_path / "few/data.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    assert not (tmp_path / "few/baselines").exists()


def test_a_model_that_does_not_load_makes_the_status_1(capsys, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    models = f"{tmp_path / 'broken.gguf'},clinex-demo"
    done = run(capsys, "bench", "run", "calls.csv", "--models", models, "--to", tmp_path / "bench", *NATIVE)
    assert done.status == 1
    assert "broken · native · joint cannot go on" in done.stderr
    assert "clinex-demo · native · joint" in done.stdout
    assert "broken" not in done.stdout
    assert (tmp_path / "bench/report.html").exists()
    alone = run(capsys, "bench", "run", "calls.csv", "--models", tmp_path / "broken.gguf", "--to", tmp_path / "alone", *NATIVE)
    assert (alone.status, alone.stdout) == (1, "")
    assert not (tmp_path / "alone/report.html").exists()


def test_a_document_that_does_not_fit_makes_the_status_3(capsys, tmp_path):
    long = ("e", "بیمار: " + "درد دارم و " * 400, "p4", "yes", "no")
    data = write_data(tmp_path / "long.csv", [*ROWS, long])
    done = run(capsys, "bench", "run", data, "--to", tmp_path / "bench", "--no-baselines", *NATIVE)
    assert done.status == INCOMPLETE
    assert "4 complete, 1 partial" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "Name either DATA, or --example"),
        (["calls.csv", "--example"], 2, "Name either DATA, or --example"),
        (["--resume"], 2, "--resume needs --to"),
        (["--resume", "--to", "nothing"], 1, "holds no benchmark"),
        (["no-such.csv"], 1, "no-such.csv"),
        (["calls.csv", "--models", ","], 2, "empty"),
        (["calls.csv", "--models", "qwen2.5-7b"], 4, "not on this machine"),
        (["calls.csv", "--models", "clinex-dem"], 2, "Did you mean 'clinex-demo'"),
        (["calls.csv", "--decoders", "joint,greedy"], 2, "greedy"),
        (["calls.csv", "--conditions", "translation"], 2, "Did you mean 'translated'"),
        (["calls.csv", "--column", "pain"], 2, "--column takes a field"),
        (["calls.csv", "--group-column", "ward"], 2, "ward"),
        (["calls.csv", "--task", "no-task"], 2, "no-task"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_written(arguments, status, said, capsys, tmp_path):
    to = [] if "--to" in arguments or "--resume" in arguments else ["--to", tmp_path / "bench"]
    done = run(capsys, "bench", "run", *arguments, *to)
    assert done.status == status
    assert said in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_wrong_with_the_data_is_told_at_once(capsys, tmp_path):
    rows = [ROWS[0], ROWS[0], ("c", "", "p1", "yes", "no"), ("d", ROWS[3][1], "p1", "?!", "no")]
    done = run(capsys, "bench", "run", write_data(tmp_path / "bad.csv", rows), "--to", tmp_path / "bench")
    assert done.status == 1
    assert [f"row {number}" in done.stderr for number in (3, 4, 5)] == [True] * 3
    assert not (tmp_path / "bench").exists()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C of another process")
def test_ctrl_c_finishes_the_batch_and_the_rest_goes_on_later(tmp_path, home):
    rows = [(f"{row[0]}{number}", f"{row[1]} {number}", *row[2:]) for number in range(10) for row in ROWS]
    data, folder = write_data(tmp_path / "many.csv", rows), tmp_path / "bench"
    arguments = ("bench", "run", data, "--to", folder, "--no-baselines", "--json-progress", *NATIVE)
    variables = environment(CLINEX_HOME=str(home))
    process = subprocess.Popen(command(*arguments), env=variables, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    journal = folder / "runs/clinex-demo.native.joint" / JOURNAL
    while process.poll() is None and not (journal.exists() and '"document"' in journal.read_text()):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == INTERRUPTED
    assert f"--resume --to {folder}" in said
    assert not (folder / "report.html").exists()
    done = sum('"event": "document"' in line for line in journal.read_text().splitlines())
    assert done % 8 == 0
    assert 0 < done < 40
    progress = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert progress[-1]["documents"] == 40
    again = subprocess.run(command(*arguments), env=variables, capture_output=True, timeout=60, check=False)
    assert again.returncode == 0
    assert (folder / "report.html").exists()


# --- report, compare, score ----------------------------------------------------------------------------------------


def test_a_report_goes_where_it_is_told(capsys, tmp_path):
    done = run(capsys, "bench", "report", "bench-calls", "--to", tmp_path / "report", "--no-text")
    assert done.status == 0
    assert Path(done.stdout.strip()) == tmp_path / "report/report.html"
    assert (tmp_path / "report/report.html").exists()


def test_a_report_of_several_needs_a_folder(capsys):
    assert run(capsys, "bench", "report", "bench-calls", "bench-calls").status == 2
    assert "holds no benchmark" in run(capsys, "bench", "report", "nothing").stderr


def test_two_systems_are_compared(capsys):
    runs = [f"bench-calls/runs/clinex-demo.native.{decoder}" for decoder in ("joint", "independent")]
    done = run(capsys, "bench", "compare", *runs)
    assert done.status == 0
    assert "clinex-demo · native · joint and clinex-demo · native · independent are not distinguishable" in done.stdout
    assert {line.split()[0] for line in done.stdout.splitlines()[2:]} == {"pain", "fever"}


def test_a_model_is_compared_with_a_baseline(capsys):
    paths = ["bench-calls/runs/clinex-demo.native.joint", "bench-calls/baselines/majority.jsonl"]
    said = json.loads(run(capsys, "bench", "compare", *paths, "--json").stdout)
    assert (said["a"], said["b"]) == ("clinex-demo · native · joint", "majority")
    assert said["differences"]["macro_f1"]["value"] > 0
    assert set(said["fields"]) == {"pain", "fever"}


def test_benchmarks_are_compared_system_by_system(capsys, tmp_path):
    shutil.copytree("bench-calls", tmp_path / "again")
    done = run(capsys, "bench", "compare", "bench-calls", tmp_path / "again", "--json")
    pairs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(pairs) == 5
    assert {pair["verdict"] for pair in pairs} == {"not distinguishable"}
    assert pairs[0]["a"] == "clinex-demo · native · joint (bench-calls)"
    assert pairs[0]["b"] == f"clinex-demo · native · joint ({tmp_path / 'again'})"


@pytest.mark.parametrize(
    ("paths", "status", "said"),
    [
        (("bench-calls", "nothing"), 1, "holds no benchmark"),
        (("bench-calls", "bench-calls/baselines/majority.jsonl"), 0, ""),
        (("bench-calls/runs/clinex-demo.native.joint", "bench-calls/runs/other"), 1, "other"),
    ],
)
def test_what_cannot_be_compared(paths, status, said, capsys):
    done = run(capsys, "bench", "compare", *paths)
    assert done.status == status
    assert said in done.stderr


def test_answers_of_others_are_scored(capsys, tmp_path):
    (tmp_path / "answers.csv").write_text("id,Pain,p_fever\na,yes,0.1\nb,no,0.9\nc,,0.2\nd,yes,0.3\n", encoding="utf-8")
    done = run(capsys, "bench", "score", tmp_path / "answers.csv", "calls.csv", "--json")
    assert done.status == 0
    said = json.loads(done.stdout)
    assert said["documents"] == 4
    assert (said["fields"]["pain"]["missing"], said["fields"]["fever"]["labelled"]) == (1, 3)
    assert said["fields"]["pain"]["macro_f1"]["value"] == 1
    assert said["fields"]["fever"]["auroc"] == 1
    assert said["medians"]["macro_f1"]["median"] == 1
    table = run(capsys, "bench", "score", tmp_path / "answers.csv", "bench-calls").stdout
    assert {line.split()[0] for line in table.splitlines()[1:3]} == {"fever", "pain"}


def test_a_run_is_scored_against_data_with_other_columns(capsys, tmp_path):
    text = Path("calls.csv").read_text(encoding="utf-8").replace("id,text,patient,pain", "case,text,patient,schmerz", 1)
    (tmp_path / "other.csv").write_text(text, encoding="utf-8")
    asked = ("--data-column", "id=case", "--data-column", "pain=schmerz", "--json")
    done = run(capsys, "bench", "score", "bench-calls/runs/clinex-demo.native.joint", tmp_path / "other.csv", *asked)
    assert done.status == 0
    assert json.loads(done.stdout)["fields"]["pain"]["positives"] == 2
    assert run(capsys, "bench", "score", "bench-calls/runs/clinex-demo.native.joint", "nothing.csv").status == 1


@pytest.mark.slow
def test_the_example_takes_less_than_three_minutes(tmp_path, home):
    started = time.monotonic()
    done = subprocess.run(
        command("bench", "run", "--example"), cwd=tmp_path, env=environment(CLINEX_HOME=str(home)), capture_output=True, check=False
    )
    assert done.returncode in (0, INCOMPLETE)
    assert time.monotonic() - started < 180
    assert [path.name for path in tmp_path.iterdir()] == ["bench-example"]
    assert len(list((tmp_path / "bench-example/runs").iterdir())) == 4
    assert (tmp_path / "bench-example/report.html").exists()
