"""Runs through the real command line: processes that are killed and stopped, folders that were changed, and what people are told."""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from cli_runner import command, environment, run, spawn
from endurance import unbroken, write_calls

from clinex_edge.errors import RunError
from clinex_edge.runs import audit, journal
from clinex_edge.runs.history import RECORDS, History
from clinex_edge.runs.journal import JOURNAL, Journal
from clinex_edge.runs.run import is_busy

ROOT = Path(__file__).parent.parent
COUNT = 20  # documents: two batches and a half
PERSIAN = "پرستار: تب داره؟\nهمراه: نه، تب نداره.\nپرستار: درد چی؟\nهمراه: بله، از {} روز پیش خیلی درد داره."
ENGLISH = "Nurse: Does he sleep?\nSon: No, for {} nights he has not slept, and he has pain."


def write(folder, texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    texts = {f"call-{n:02}.txt": (ENGLISH if n % 3 else PERSIAN).format(n + 2) for n in range(COUNT)}
    return write(tmp_path_factory.mktemp("calls"), texts)


@pytest.fixture(scope="module")
def whole(calls, tmp_path_factory):
    """A finished run that nobody interrupted, with the home that knows it; not to be changed."""
    place = tmp_path_factory.mktemp("whole")
    done = spawn("extract", calls, "--run", place / "run", env={"CLINEX_HOME": str(place / "home")})
    assert done.status == 0 and done.stdout == ""
    return place


@pytest.fixture
def copied(whole, tmp_path, monkeypatch):
    """A copy of it that may be changed."""
    place = shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.setenv("CLINEX_HOME", str(place / "home"))
    return place / "run"


@pytest.fixture
def three(tmp_path):
    """Three documents, one of them empty."""
    return write(tmp_path / "three", {"a.txt": ENGLISH.format(1), "b.txt": "", "c.txt": PERSIAN.format(3)})


def rows(folder):
    """The records without their timings, as they stand in the file."""
    found = [json.loads(line) for line in (folder / RECORDS).read_bytes().splitlines()]
    return [{name: value for name, value in row.items() if name != "timings"} for row in found]


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(holds):
    """Wait until it holds, and return what it gives; a minute is too long."""
    end = time.monotonic() + 60
    while not (found := holds()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)
    return found


@contextmanager
def started(*args):
    """The command in a process and process group of its own, killed in the end."""
    process = subprocess.Popen(command(*args), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def worker_of(process):
    """The process that holds the models, as soon as there is one."""

    def found():
        return [child for child in psutil.Process(process.pid).children() if "clinex_edge.runs.worker" in child.cmdline()]

    return until(found)[0]


def gone(process):
    """Whether a process has ended, or is about to be forgotten by the system."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- killed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "resume"), [(1, False), (2, True), (11, False)])
def test_a_run_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(calls, whole, tmp_path, events, resume):
    folder = tmp_path / "run"
    with started("extract", calls, "--run", folder) as process:
        until(lambda: lines(folder / JOURNAL) >= events)
        process.kill()
        process.wait()
    assert lines(folder / JOURNAL) < COUNT + 1
    assert History.of(folder).stopped is None and not is_busy(folder)
    done = spawn("extract", *(["--resume"] if resume else [calls]), "--run", folder)
    assert done.status == 0
    assert rows(folder) == rows(whole / "run")
    assert sorted(path.name for path in folder.iterdir()) == sorted([RECORDS, JOURNAL, ".lock"])


@pytest.mark.parametrize("events", [1, 2])
def test_a_worker_that_is_killed_costs_nothing(calls, whole, tmp_path, events):
    folder = tmp_path / "run"
    with started("extract", calls, "--run", folder) as process:
        worker = worker_of(process)
        until(lambda: lines(folder / JOURNAL) >= events)
        worker.kill()
        assert process.wait(120) == 0
    assert History.of(folder).counts == {"complete": COUNT}
    assert rows(folder) == rows(whole / "run")


def test_a_worker_ends_when_its_run_is_killed(calls, tmp_path):
    with started("extract", calls, "--run", tmp_path / "run") as process:
        worker = worker_of(process)
        process.kill()
        process.wait()
    until(lambda: gone(worker))


# --- stopped -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_says_how_to_go_on(calls, whole, tmp_path, number):
    folder = tmp_path / "run"
    with started("extract", calls, "--run", folder) as process:
        worker = worker_of(process)
        os.killpg(process.pid, number)  # as a terminal does: to the whole group
        told = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130
    assert "Finishing the documents at hand. Again: stop at once" in told
    assert f"Stopped before all {COUNT} documents were read (8 complete so far)." in told
    assert f"Go on with: clinex-edge runs retry {folder}" in told
    assert gone(worker)
    assert History.of(folder).stopped["counts"] == {"complete": 8}
    assert spawn("runs", "retry", folder).status == 0
    assert rows(folder) == rows(whole / "run")


def test_a_run_that_is_asked_twice_stops_at_once(calls, tmp_path, capsys):
    folder = tmp_path / "run"
    with started("extract", calls, "--run", folder) as process:
        worker = worker_of(process)
        os.killpg(process.pid, signal.SIGINT)
        assert b"Finishing" in until(process.stderr.readline) or b"Finishing" in until(process.stderr.readline)
        os.killpg(process.pid, signal.SIGTERM)
        told = process.communicate(timeout=10)[1].decode()
    assert process.returncode == 130
    assert f"Stopped before all {COUNT} documents were read (none so far)." in told and "Traceback" not in told
    assert gone(worker)
    assert History.of(folder).stopped is not None
    assert "stopped" in run(capsys, "runs", "show", folder).stdout


def test_a_second_command_on_a_run_that_is_worked_on_is_refused(calls, tmp_path, capsys):
    folder = tmp_path / "run"
    with started("extract", calls, "--run", folder) as process:
        worker_of(process)
        refused = run(capsys, "extract", calls, "--run", folder)
        assert json.loads(run(capsys, "runs", "list", "--json").stdout)["state"] == "running"
    assert refused.status == 1
    assert f"Another process is working on {folder}." in refused.stderr


@contextmanager
def stopping_at_once(said):
    yield lambda: True


def test_who_stops_a_run_over_changed_documents_is_not_told_that_it_is_finished(tmp_path, capsys, monkeypatch):
    folder = write(tmp_path / "calls", {"a.txt": ENGLISH.format(1), "b.txt": ENGLISH.format(2)})
    assert run(capsys, "extract", folder, "--run", tmp_path / "run").status == 0
    write(folder, {"a.txt": ENGLISH.format(11), "b.txt": ENGLISH.format(12)})
    monkeypatch.setattr("clinex_edge.cli.working.asked_to_stop", stopping_at_once)
    stopped = run(capsys, "extract", folder, "--run", tmp_path / "run")
    assert stopped.status == 130
    assert "Stopped before" in stopped.stderr and "A table of them" not in stopped.stderr


def test_who_stops_a_retry_of_shards_stops_all_of_them(three, tmp_path, capsys, monkeypatch):
    write(three, {"d.txt": ""})
    for number in (1, 2):
        assert run(capsys, "extract", three, "--run", tmp_path / "run", "--shard", f"{number}/2").status in (0, 1, 3)
    monkeypatch.setattr("clinex_edge.cli.working.asked_to_stop", stopping_at_once)
    stopped = run(capsys, "runs", "retry", tmp_path / "run")
    assert (stopped.status, stopped.stderr.count("Stopped before")) == (130, 1)


# --- what people are told ------------------------------------------------------------------------------------------


def test_a_run_says_what_came_of_it_and_nothing_of_what_was_said(three, tmp_path, capsys, home):
    folder = tmp_path / "run"
    done = run(capsys, "extract", three, "--run", folder)
    assert (done.status, done.stdout) == (3, "")
    assert "3 documents: 2 complete, 1 failed. A table of them: clinex-edge convert" in done.stderr
    assert f"Try them again: clinex-edge runs retry {folder}" in done.stderr
    files = [path.read_text() for path in (folder / JOURNAL, audit.log_path())]
    for text in (done.stderr, *files):
        assert not re.search("درد|پرستار|pain|nights|Son:", text)
    assert [path for path in home.rglob("*") if path.is_file() and "درد".encode() in path.read_bytes()] == []


def test_failed_documents_are_shown_and_tried_again(three, tmp_path, capsys):
    folder = tmp_path / "run"
    run(capsys, "extract", three, "--run", folder)
    shown = run(capsys, "runs", "show", folder).stdout
    assert f"{folder}: finished" in shown and "2 complete, 1 failed" in shown
    assert re.search(r"failed +b\.txt: .*b\.txt: The document is empty\.", shown)
    assert run(capsys, "runs", "retry", folder).status == 3
    shown = run(capsys, "runs", "show", folder).stdout
    assert "The document is empty., tried 2 times" in shown and "(session 2)" in shown
    write(three, {"b.txt": ENGLISH.format(5)})
    retried = run(capsys, "runs", "retry", folder)
    assert retried.status == 0 and "3 documents: 3 complete." in retried.stderr
    assert [row["id"] for row in rows(folder)] == ["a.txt", "c.txt", "b.txt"]
    assert run(capsys, "runs", "verify", folder).status == 0


def test_a_run_is_told_as_json(three, tmp_path, capsys):
    folder = tmp_path / "run"
    run(capsys, "extract", three, "--run", folder)
    shown = json.loads(run(capsys, "runs", "show", folder, "--json").stdout)
    listed = json.loads(run(capsys, "runs", "list", "--json").stdout)
    assert listed == {name: shown[name] for name in ("folder", "state", "began", "documents", "counts")}
    assert (shown["folder"], shown["state"], shown["documents"]) == (str(folder), "finished", 3)
    assert shown["counts"] == {"complete": 2, "failed": 1}
    assert [(failure["id"], failure["attempts"]) for failure in shown["failures"]] == [("b.txt", 1)]
    (session,) = shown["sessions"]
    assert session["settings"]["paths"] == [str(three)]
    assert set(session["fingerprints"]) == {"task", "extractor", "translator", "translation"}


def test_no_more_than_twenty_failures_are_shown_unless_all_are_asked_for(tmp_path, capsys):
    write(tmp_path / "calls", {f"call-{n:02}.txt": "" for n in range(23)})
    assert run(capsys, "extract", tmp_path / "calls", "--run", tmp_path / "run").status == 1
    shown = run(capsys, "runs", "show", tmp_path / "run").stdout
    assert shown.count("  failed ") == 20 and "and 3 more: --all" in shown
    assert run(capsys, "runs", "show", tmp_path / "run", "--all").stdout.count("  failed ") == 23


def test_runs_are_listed_with_what_has_become_of_them(copied, tmp_path, capsys):
    assert run(capsys, "runs", "list").stdout.count("\n  finished, begun") == 1
    for name in ("changed", "gone"):
        shutil.copytree(copied, tmp_path / name)
        audit.note({"event": "started", "run": name, "folder": str(tmp_path / name), "journal": journal.START})
    (tmp_path / "changed" / JOURNAL).write_bytes(b"{}\n")
    shutil.rmtree(tmp_path / "gone")
    listed = run(capsys, "runs", "list").stdout
    assert f"{tmp_path / 'changed'}\n  changed" in listed and f"{tmp_path / 'gone'}\n  gone" in listed


def test_nothing_is_listed_where_nothing_was_run(capsys):
    listed = run(capsys, "runs", "list")
    assert listed.status == 0 and listed.stdout == ""


def test_progress_for_other_programs_is_json(three, tmp_path, capsys):
    done = run(capsys, "extract", three, "--run", tmp_path / "run", "--json-progress")
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert len(told) >= 2
    assert {event["event"] for event in told} == {"progress"} and {event["documents"] for event in told} == {3}
    last = told[-1]
    assert (last["complete"], last["failed"], last["settled"], last["eta_s"]) == (2, 1, 0, 0)
    again = run(capsys, "extract", "--run", tmp_path / "run", "--resume", "--json-progress")
    last = json.loads([line for line in again.stderr.splitlines() if line.startswith("{")][-1])
    assert (last["complete"], last["failed"], last["settled"]) == (0, 1, 2)


def test_a_run_is_readable_by_its_owner_only(whole):
    assert stat.S_IMODE((whole / "run").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (whole / "run").iterdir()} == {0o600}


# --- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["calls", "--run", "calls/run"], 1, "it would be read as documents the next time"),
        (["calls", "--run", "file"], 1, "file cannot be written"),
        (["calls", "--run", "run", "-m", "missing.gguf"], 4, "missing.gguf"),
        (["calls", "--run", "run", "-m", "no-such-model"], 2, "no-such-model"),
        (["calls", "--run", "run", "--output", "x.jsonl"], 2, "clinex-edge convert run --to"),
        (["-", "--run", "run"], 2, "standard input is read once"),
        (["--run", "run"], 2, "--resume"),
        (["--run", "run", "--resume"], 1, "holds no run"),
        (["calls", "--run", "run", "--resume"], 1, "holds no run"),
        (["calls", "--resume"], 2, "need --run FOLDER"),
        (["calls", "--run", "run", "--shard", "3/2"], 2, "1/8 to 8/8"),
    ],
)
def test_what_cannot_be_run_is_said_at_once_and_leaves_nothing(tmp_path, capsys, monkeypatch, args, status, says):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "calls", {"a.txt": ENGLISH})
    (tmp_path / "file").write_text("mine")
    refused = run(capsys, "extract", *args)
    assert (refused.status, refused.stdout) == (status, "")
    assert says in re.sub(r"\s+", " ", refused.stderr)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["calls", "file"]
    assert [path.name for path in (tmp_path / "calls").iterdir()] == ["a.txt"]


def test_other_options_are_refused_and_resume_takes_the_old_ones(copied, calls, capsys):
    refused = run(capsys, "extract", calls, "--run", copied, "--no-translate")
    assert refused.status == 1
    assert "other settings (translate, translation, translator)" in refused.stderr and "runs retry" in refused.stderr
    assert run(capsys, "extract", "--run", copied, "--resume").status == 0


def test_file_names_that_are_no_text_are_documents_of_their_own(tmp_path, capsys):
    folder = write(tmp_path / "calls", {"a.txt": ENGLISH.format(1)})
    for number, name in enumerate((b"call-\xfe.txt", b"call-\xff.txt")):
        try:
            Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_text(ENGLISH.format(number + 2))
        except OSError:
            pytest.skip("this file system takes names that are text only")
    done = run(capsys, "extract", folder, "--run", tmp_path / "run")
    assert (done.status, len(rows(tmp_path / "run")), len({row["id"] for row in rows(tmp_path / "run")})) == (0, 3, 3)
    again = run(capsys, "extract", folder, "--run", tmp_path / "run", "--json-progress")
    assert json.loads([line for line in again.stderr.splitlines() if line.startswith("{")][-1])["settled"] == 3


# --- changed afterwards --------------------------------------------------------------------------------------------


def edited(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def without_line(path, number):
    kept = path.read_bytes().splitlines(keepends=True)
    del kept[number]
    path.write_bytes(b"".join(kept))


def chained_anew(path, change):
    """Write the journal anew with a chain that holds, after a change of its events."""
    events = [line.event for line in journal.read(path)]
    path.unlink()
    forged = Journal(path)
    for event in change(events):
        forged.append(event)
    forged.close()


def forged_record(folder):
    """Change an answer, and the journal as if it had always been so."""
    kept = (folder / RECORDS).read_bytes().splitlines(keepends=True)
    old, kept[3] = kept[3], kept[3].replace(b'"no"', b'"yes"', 1)
    (folder / RECORDS).write_bytes(b"".join(kept))
    before, after = (hashlib.sha256(line).hexdigest() for line in (old, kept[3]))
    chained_anew(folder / JOURNAL, lambda events: json.loads(json.dumps(events).replace(before, after)))


CHANGES = {
    "an answer": (lambda run: edited(run / RECORDS, b'"yes"', b'"no" '), "lacks 1 records"),
    "a record gone": (lambda run: without_line(run / RECORDS, 4), "lacks 1 records"),
    "a record added": (lambda run: (run / RECORDS).write_bytes((run / RECORDS).read_bytes() + b"{}\n"), "holds 1 lines"),
    "the records gone": (lambda run: (run / RECORDS).unlink(), "cannot be read"),
    "an event": (lambda run: edited(run / JOURNAL, b'"complete"', b'"partial" '), "line 3, is not as it was written"),
    "an event gone": (lambda run: without_line(run / JOURNAL, 5), "line 6, is not as it was written"),
    "the end of the journal": (lambda run: without_line(run / JOURNAL, -1), "was cut short or written anew"),
    "the last byte of the journal": (lambda run: os.truncate(run / JOURNAL, (run / JOURNAL).stat().st_size - 1), "was cut short"),
    "the last event": (lambda run: edited(run / JOURNAL, b'"event": "stopped"', b'"event": "Stopped"'), "was cut short or written anew"),
    "a journal with another chain": (lambda run: chained_anew(run / JOURNAL, lambda events: events[:-2] + events[-1:]), "written anew"),
    "a journal of another run": (
        lambda run: chained_anew(run / JOURNAL, lambda events: [{**event, "run": "x"} for event in events]),
        "does not know this run",
    ),
    "an answer and its journal": (forged_record, "was cut short or written anew"),
    "the audit log": (lambda run: edited(audit.log_path(), b'"event": "started"', b'"event": "Started"'), "is not as it was written"),
    "the audit log gone": (lambda run: audit.log_path().unlink(), "does not know this run"),
}


def test_a_run_that_nobody_changed_is_as_it_was_written(copied, capsys):
    verified = run(capsys, "runs", "verify", copied)
    assert (verified.status, verified.stdout) == (0, f"{copied}: as it was written\n")


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_found(copied, capsys, change):
    act, says = CHANGES[change]
    act(copied)
    verified = run(capsys, "runs", "verify", copied)
    assert verified.status == 1
    assert f"{copied}: NOT as it was written\n  " in verified.stdout
    assert says in verified.stdout
    assert "درد" not in verified.stdout and "pain" not in verified.stdout


@pytest.mark.parametrize("change", ["an answer", "a record gone", "the records gone"])
def test_records_that_were_changed_are_made_anew(copied, calls, whole, capsys, change):
    CHANGES[change][0](copied)
    assert run(capsys, "convert", copied, "--to", copied.parent / "answers.csv").status == 1
    assert run(capsys, "extract", "--run", copied, "--resume").status == 0
    by_id = sorted(rows(copied), key=lambda row: row["id"])
    assert by_id == rows(whole / "run")
    assert run(capsys, "runs", "verify", copied).status == 0


def test_a_changed_journal_is_not_gone_on_with(copied, capsys):
    CHANGES["an event"][0](copied)
    refused = run(capsys, "extract", "--run", copied, "--resume")
    assert refused.status == 1 and "line 3, is not as it was written" in refused.stderr
    with pytest.raises(RunError):
        History.of(copied)


# --- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("as_table", [False, True])
def test_memory_does_not_grow_with_the_documents(tmp_path, as_table):
    source = write_calls(tmp_path, 10_000, as_table)
    memory = unbroken(source, tmp_path / "run", tmp_path / "home", "--embedded")
    (own, workers), (own_then, workers_then) = memory[100], memory[10_000]
    assert own_then - own < 50
    assert 0 < workers_then < workers + 50
