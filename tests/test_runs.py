"""Runs over many documents with an engine that costs nothing: interrupted anywhere, on disks that are full, over inputs that change."""

import errno
import json
import math
import os
import shutil
import stat
import subprocess
import sys
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from endurance import FakeEngine, endure, row_of

from clinex_edge.atomic import open_private
from clinex_edge.documents import Document
from clinex_edge.errors import InputError, ModelError, NotEnoughMemoryError, OutputError, RunError
from clinex_edge.files.sources import Source
from clinex_edge.pipeline.pipeline import BATCH, BATCHES_AT_ONCE
from clinex_edge.runs import audit, journal
from clinex_edge.runs import run as run_module
from clinex_edge.runs.history import RECORDS, History, read_records
from clinex_edge.runs.journal import JOURNAL
from clinex_edge.runs.local import Local
from clinex_edge.runs.run import LOCK, Run, is_busy
from clinex_edge.runs.settings import Settings
from clinex_edge.runs.shards import parts
from clinex_edge.runs.verify import findings
from clinex_edge.runs.work import Result, work_through
from clinex_edge.runs.worker import WorkerDied

ROOT = Path(__file__).parent.parent
SETTINGS = {"task": "palliative-call", "model": None, "loading": {"threads": 1}}
FINGERPRINTS = {"task": "1" * 64, "extractor": "2" * 64}
FAILING = "Son: this one fails in the engine."


def call(number):
    return f"Son: This is call {number}, and he has pain."


# Twelve documents in two batches: one that cannot be read, one that the engine fails on and its twin, a twin of a good one.
TEXTS = {f"call-{number:02}": call(number) for number in range(12)} | {"call-02": None, "call-04": FAILING, "call-06": FAILING}
TEXTS["call-09"] = TEXTS["call-03"]
LATER = {**TEXTS, "call-02": call(2), "call-05": call(55), "call-07": None, "call-11": call(111), "call-12": call(12)}
del LATER["call-04"]


def read(name, text):
    if text is None:
        raise InputError(f"{name} cannot be read.")
    return Document.from_text(text, name, f"{name}.txt")


def sources(texts):
    return [Source(name, f"{name}.txt", partial(read, name, text)) for name, text in texts.items()]


def begin(folder, documents=12, settings=SETTINGS, fingerprints=FINGERPRINTS):
    return Run(folder, settings, fingerprints, documents)


def finish(folder, texts, engine=None, after=math.inf):
    """Start or go on, ask to stop after so many documents, and return what came of each."""
    came, engine = [], engine or FakeEngine([FAILING])
    with begin(folder, len(texts)) as run:
        for status in work_through(run, sources(texts), "palliative-call", engine, lambda: len(came) >= after):
            came.append(status)
    return came


def records(folder):
    return {row["id"]: row for row in read_records(folder)}


def lines(folder):
    return (folder / RECORDS).read_bytes().splitlines(keepends=True)


def states(folder):
    """What the journal says of each document, whatever the number of attempts."""
    return {name: state._replace(attempts=0) for name, state in History.of(folder).states.items()}


# --- what is kept --------------------------------------------------------------------------------------------------


def test_every_document_has_one_record_in_the_order_of_the_sources(tmp_path):
    came = finish(tmp_path / "run", TEXTS)
    assert list(records(tmp_path / "run")) == list(TEXTS)
    assert came == ["failed" if name in ("call-02", "call-04", "call-06") else "complete" for name in TEXTS]
    assert History.of(tmp_path / "run").counts == {"complete": 9, "failed": 3}
    assert findings(tmp_path / "run") == []
    row = records(tmp_path / "run")["call-03"]
    assert row == row_of(read("call-03", TEXTS["call-03"]))


def test_a_run_is_readable_by_its_owner_only(tmp_path):
    finish(tmp_path / "run", TEXTS)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()} == dict.fromkeys(
        (RECORDS, JOURNAL, LOCK), 0o600
    )


def test_the_journal_quotes_no_document(tmp_path):
    finish(tmp_path / "run", TEXTS)
    for text in ((tmp_path / "run" / JOURNAL).read_text(), audit.log_path().read_text()):
        assert "Son" not in text and "This is call" not in text


def test_identical_documents_are_computed_once(tmp_path):
    engine = FakeEngine([FAILING])
    finish(tmp_path / "run", TEXTS, engine)
    assert engine.computed == [name for name in TEXTS if name not in ("call-02", "call-06", "call-09")]
    first, twin = (records(tmp_path / "run")[name] for name in ("call-03", "call-09"))
    assert (twin["id"], twin["source"]) == ("call-09", "call-09.txt")
    assert set(twin["timings"].values()) == {0}
    assert {**twin, "id": "call-03", "source": "call-03.txt", "timings": first["timings"]} == first


def test_the_twin_of_a_failed_document_says_so(tmp_path):
    finish(tmp_path / "run", TEXTS)
    found = records(tmp_path / "run")
    assert found["call-04"]["error"] == "It was told to fail."
    assert found["call-06"]["error"] == "An identical document before it failed."
    assert found["call-04"]["document_sha256"] == found["call-06"]["document_sha256"] is not None


def test_what_is_settled_is_not_computed_again_and_what_failed_is(tmp_path):
    finish(tmp_path / "run", TEXTS)
    engine = FakeEngine([FAILING])
    came = finish(tmp_path / "run", TEXTS, engine)
    assert came == ["failed" if name in ("call-02", "call-04", "call-06") else "settled" for name in TEXTS]
    assert "call-11" not in engine.computed  # its batch has nothing that failed
    assert {state.attempts for state in History.of(tmp_path / "run").states.values() if state.status == "failed"} == {2}
    assert len(lines(tmp_path / "run")) == len(TEXTS)


def test_a_document_that_can_be_read_again_gets_its_record(tmp_path):
    finish(tmp_path / "run", TEXTS)
    finish(tmp_path / "run", TEXTS | {"call-02": call(2)}, FakeEngine())
    assert {row["status"] for row in records(tmp_path / "run").values()} == {"complete"}
    assert History.of(tmp_path / "run").states["call-02"].attempts == 2
    assert len(lines(tmp_path / "run")) == len(TEXTS)


def test_a_changed_document_is_read_anew_and_its_old_record_is_gone(tmp_path):
    finish(tmp_path / "run", TEXTS)
    engine = FakeEngine([FAILING])
    finish(tmp_path / "run", TEXTS | {"call-11": call(111)}, engine)
    assert "call-11" in engine.computed
    assert records(tmp_path / "run")["call-11"] == row_of(read("call-11", call(111)))
    assert [json.loads(line)["id"] for line in lines(tmp_path / "run")].count("call-11") == 1


def test_added_documents_move_no_other(tmp_path):
    finish(tmp_path / "run", TEXTS)
    before = records(tmp_path / "run")
    finish(tmp_path / "run", {"a-new-one": call(99), **TEXTS})
    after = records(tmp_path / "run")
    assert after.pop("a-new-one") and after == before


def test_a_document_that_cannot_be_read_any_more_keeps_its_record(tmp_path):
    finish(tmp_path / "run", TEXTS)
    before = records(tmp_path / "run")
    gone = dict.fromkeys(TEXTS)
    came = finish(tmp_path / "run", gone)
    assert came.count("settled") == 9
    assert {name: row for name, row in records(tmp_path / "run").items() if row["status"] == "complete"} == {
        name: row for name, row in before.items() if row["status"] == "complete"
    }


def test_a_file_that_is_deleted_under_way_fails_and_the_others_do_not(tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()
    for number in range(2 * BATCH):
        (calls / f"{number:02}.txt").write_text(call(number))
    settings = Settings((str(calls),))
    with begin(tmp_path / "run") as run:
        for _ in work_through(run, settings.sources(), "palliative-call", FakeEngine(), lambda: False):
            (calls / "12.txt").unlink(missing_ok=True)
    states = History.of(tmp_path / "run").states
    assert [name for name, state in states.items() if state.status == "failed"] == ["12.txt"]
    assert "12.txt" in states["12.txt"].error
    assert len(states) == 2 * BATCH


def test_a_failure_whose_source_is_gone_does_not_stay(tmp_path):
    finish(tmp_path / "run", {"calls.csv": None, "a": call(1)})
    finish(tmp_path / "run", {"calls.csv:1": call(2), "calls.csv:2": call(3), "a": call(1)})
    assert set(History.of(tmp_path / "run").counts) == {"complete"}


def test_the_same_batches_are_computed_wherever_a_run_was_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    texts = {f"call-{number:02}": call(number) for number in range(2 * BATCH + 3)}
    batches = []

    class Watched(FakeEngine):
        def results(self, given):
            for batch in given:
                batches.append([document.id for document in batch])
                for result in super().results([batch]):
                    if len(self.computed) > self.until:
                        raise KeyboardInterrupt
                    yield result

    engine = Watched()
    engine.until = math.inf
    finish(tmp_path / "run", texts, engine)
    whole = list(batches)
    assert [len(batch) for batch in whole] == [BATCH, BATCH, 3]
    for until in range(len(texts)):
        batches.clear()
        engine.computed, engine.until = [], until
        with pytest.raises(KeyboardInterrupt):
            finish(tmp_path / f"{until}", texts, engine)
        engine.until = math.inf
        finish(tmp_path / f"{until}", texts, engine)
        interrupted = until // BATCH
        assert batches == [*whole[: interrupted + 1], *whole[interrupted:]]


def test_a_run_stops_behind_the_batch_at_hand_when_asked(tmp_path):
    finish(tmp_path / "run", TEXTS, after=5)
    history = History.of(tmp_path / "run")
    assert history.stopped and history.stopped["counts"] == history.counts
    assert list(history.states) == list(TEXTS)[:-1]  # call-10 is the eighth that is computed
    finish(tmp_path / "run", TEXTS)
    assert list(records(tmp_path / "run")) == list(TEXTS)


def test_a_run_can_be_read_while_it_is_worked_on(tmp_path):
    seen = []
    with begin(tmp_path / "run") as run:
        assert list(read_records(tmp_path / "run")) == []
        for _ in work_through(run, sources(TEXTS), "palliative-call", FakeEngine([FAILING]), lambda: False):
            seen.append(len(list(read_records(tmp_path / "run"))))
            assert is_busy(tmp_path / "run")
        with pytest.raises(RunError, match="is being worked on"):
            findings(tmp_path / "run")
    assert seen == list(range(1, 13))
    assert not is_busy(tmp_path / "run") and findings(tmp_path / "run") == []


def test_characters_that_no_encoding_takes_do_not_stop_a_run(tmp_path):
    texts = {"surrogate": "Son: pain \ud800 here.", "line separator": "Son: one\u2028two\u0085three."}
    assert finish(tmp_path / "run", texts) == ["complete", "complete"]
    assert set(records(tmp_path / "run")) == set(texts)
    assert finish(tmp_path / "run", texts) == ["settled", "settled"]


# --- who may work on it --------------------------------------------------------------------------------------------


def test_a_run_takes_the_same_settings_and_models_only(tmp_path):
    finish(tmp_path / "run", TEXTS, after=3)
    before = (tmp_path / "run" / JOURNAL).read_bytes()
    for settings, fingerprints, named in (
        ({**SETTINGS, "model": "other"}, FINGERPRINTS, "model"),
        (SETTINGS, {**FINGERPRINTS, "extractor": "3" * 64}, "extractor"),
        ({**SETTINGS, "ctx_size": 512}, FINGERPRINTS, "ctx_size"),
        (SETTINGS, {"task": "1" * 64}, "extractor"),
    ):
        with pytest.raises(RunError, match=rf"other settings \({named}\)") as refused:
            begin(tmp_path / "run", settings=settings, fingerprints=fingerprints)
        assert "runs retry" in refused.value.hint
    assert (tmp_path / "run" / JOURNAL).read_bytes() == before
    begin(tmp_path / "run", settings={**SETTINGS, "loading": {"threads": 7}}).close()
    assert History.of(tmp_path / "run").settings["loading"] == {"threads": 7}


def test_a_second_process_is_refused(tmp_path):
    with begin(tmp_path / "run"), pytest.raises(RunError, match="Another process is working on") as refused:
        begin(tmp_path / "run")
    assert "runs show" in refused.value.hint
    begin(tmp_path / "run").close()


def test_the_lock_of_a_killed_process_does_not_refuse(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from clinex_edge.runs.run import Run
run = Run(Path(sys.argv[1]), {SETTINGS!r}, {FINGERPRINTS!r}, 12)
print("ready", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    with pytest.raises(RunError, match="Another process"):
        begin(tmp_path / "run")
    process.kill()
    process.communicate()
    assert (tmp_path / "run" / LOCK).exists()
    finish(tmp_path / "run", TEXTS)
    assert list(records(tmp_path / "run")) == list(TEXTS)


def test_a_refused_run_leaves_the_folder_to_others(tmp_path):
    finish(tmp_path / "run", TEXTS)
    with pytest.raises(RunError):
        begin(tmp_path / "run", settings={})
    assert not is_busy(tmp_path / "run")


def test_a_folder_without_a_run_says_so(tmp_path):
    for act in (History.of, parts, lambda folder: list(read_records(folder)), findings):
        with pytest.raises(RunError, match="holds no run") as refused:
            act(tmp_path / "nothing")
        assert "runs list" in refused.value.hint


def test_a_file_where_the_folder_should_be_is_said(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        begin(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch, error):
    def refuse(path):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(run_module, "open_private", refuse)
    with pytest.raises(OutputError, match=os.strerror(error)) as refused:
        begin(tmp_path / "run")
    assert "the same command goes on" in refused.value.hint
    assert not is_busy(tmp_path / "run")


def test_shards_are_read_as_one(tmp_path):
    texts = sorted(TEXTS.items())
    finish(tmp_path / "run" / "shard-1-of-2", dict(texts[:6]))
    finish(tmp_path / "run" / "shard-2-of-2", dict(texts[6:]))
    assert [path.name for path in parts(tmp_path / "run")] == ["shard-1-of-2", "shard-2-of-2"]
    assert list(records(tmp_path / "run")) == list(TEXTS)


# --- interrupted anywhere ------------------------------------------------------------------------------------------


class Disk:
    """Calls `step` before everything that changes a file of a run or the audit log, and in the middle of every write.

    `unsynced` tells for each file how many bytes a power cut could take.
    """

    def __init__(self, patch, step):
        self.step, self.files = step, []
        for module in (run_module, journal):
            patch.setattr(module, "open_private", self.open)
        self.fsync, self.replace = os.fsync, os.replace
        patch.setattr(os, "fsync", self._fsync)
        patch.setattr(os, "replace", self._replace)

    def open(self, path):
        self.files.append(DiskFile(self, path))
        return self.files[-1]

    @property
    def unsynced(self):
        return {file.path: file.path.stat().st_size - file.synced for file in self.files if file.is_current}

    def _fsync(self, descriptor):
        self.step()
        for file in self.files:
            if not file.closed and file.fileno() == descriptor:
                file.synced = file.path.stat().st_size

    def _replace(self, old, new):
        self.step()
        self.replace(old, new)


class DiskFile:
    def __init__(self, disk, path):
        self._disk, self.path, self._file = disk, path, open_private(path)
        self.synced = path.stat().st_size
        self.fileno, self.seek, self.read, self.close = self._file.fileno, self._file.seek, self._file.read, self._file.close

    @property
    def closed(self):
        return self._file.closed

    @property
    def is_current(self):
        return not self.closed and os.fstat(self.fileno()).st_ino == self.path.stat().st_ino

    def truncate(self, size):
        if self.path.stat().st_size != size:
            self._disk.step()
        self._file.truncate(size)
        self.synced = min(self.synced, size)

    def write(self, data):
        self._disk.step()
        half = len(data) // 2
        self._file.write(data[:half])
        self._disk.step()
        self._file.write(data[half:])
        return len(data)


def keep_copies(world, copies, disk, came):
    """A step that keeps a copy of the world as a killed process would leave it, and as power cuts would."""

    def step():
        if not disk:  # it is being set up
            return
        unsynced = {path: count for path, count in disk[0].unsynced.items() if count > 0}
        for kind in ("killed", "cut", "zeros") if unsynced else ("killed",):
            copy = world.with_name(f"{len(copies):04}-{kind}")
            shutil.copytree(world, copy)
            for path, count in unsynced.items():
                data = (copy / path.relative_to(world)).read_bytes()
                if kind != "killed":
                    (copy / path.relative_to(world)).write_bytes(data[:-count] + bytes(count if kind == "zeros" else 0))
            copies.append((copy, list(came)))

    return step


def interrupted_everywhere(world, texts, monkeypatch):
    """Work on `world/run` to its end; returns copies of the world from every step on the way, each with the documents told as done."""
    copies, disk, came = [], [], []
    monkeypatch.setenv("CLINEX_HOME", str(world / "home"))
    with monkeypatch.context() as patch:
        disk.append(Disk(patch, keep_copies(world, copies, disk, came)))
        with begin(world / "run", len(texts)) as run:
            names = iter(texts)
            for status in work_through(run, sources(texts), "palliative-call", FakeEngine([FAILING]), lambda: False):
                came.append((next(names), status))
    return copies


@pytest.mark.parametrize("before", [None, TEXTS], ids=["a new run", "over changed inputs"])
def test_a_run_that_is_interrupted_anywhere_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, before):
    world = tmp_path / "world"
    world.mkdir()
    texts = TEXTS
    if before:
        monkeypatch.setenv("CLINEX_HOME", str(world / "home"))
        finish(world / "run", before)
        texts = LATER
    copies = interrupted_everywhere(world, texts, monkeypatch)
    assert len(copies) > 100
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    expected, told = (world / "run" / RECORDS).read_bytes(), states(world / "run")
    for copy, came in copies:
        monkeypatch.setenv("CLINEX_HOME", str(copy / "home"))
        if came or before:
            assert findings(copy / "run") == [], copy.name
            kept = records(copy / "run")
            assert {name for name, status in came} <= set(kept), f"{copy.name} lost what was told as done"
        finish(copy / "run", texts)
        assert (copy / "run" / RECORDS).read_bytes() == expected, copy.name
        assert states(copy / "run") == told, copy.name
        assert {path.name for path in (copy / "run").iterdir()} == {RECORDS, JOURNAL, LOCK}, copy.name
        assert findings(copy / "run") == [], copy.name


def test_a_run_that_is_interrupted_again_and_again_goes_on(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    finish(tmp_path / "whole", TEXTS)
    sessions = 0
    for allowed in range(1, 60):
        left = [allowed]

        def step(left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        with monkeypatch.context() as patch:
            Disk(patch, step)
            try:
                finish(tmp_path / "run", TEXTS)
            except Killed:
                sessions += 1
    finish(tmp_path / "run", TEXTS)
    assert sessions > 15
    assert (tmp_path / "run" / RECORDS).read_bytes() == (tmp_path / "whole" / RECORDS).read_bytes()


# --- full disks ----------------------------------------------------------------------------------------------------


def refusing(refused):
    """A step that the disk refuses where `refused` says so of its number."""
    taken = [0]

    def step():
        taken[0] += 1
        if refused(taken[0]):
            raise OSError(errno.ENOSPC, "No space left on device")

    return step, taken


def steps_of_a_run(folder, monkeypatch):
    step, taken = refusing(lambda number: False)
    with monkeypatch.context() as patch:
        Disk(patch, step)
        finish(folder, TEXTS)
    return taken[0]


def on_refusing_disk(folder, refused, monkeypatch):
    """Run where the disk refuses some steps; returns whether that ended the run before its time."""
    with monkeypatch.context() as patch:
        Disk(patch, refusing(refused)[0])
        try:
            finish(folder, TEXTS)
        except OutputError as error:
            assert "No space left on device" in str(error) and error.hint
            return True
    return False


def test_where_the_disk_refuses_one_step_the_rest_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    audit.note({"event": "started", "run": "an older one"})
    steps = steps_of_a_run(tmp_path / "whole", monkeypatch)
    expected = records(tmp_path / "whole")
    ended, failed = 0, 0
    for number in range(1, steps + 1):
        folder = tmp_path / f"refused-{number}"
        if on_refusing_disk(folder, lambda step, number=number: step == number, monkeypatch):
            ended += 1
        else:
            found = History.of(folder).states
            assert list(found) == list(TEXTS)
            refused = [state for state in found.values() if state.error == "Its record could not be written: No space left on device."]
            assert len(refused) <= 1 or found["call-03"] in refused  # whose twin shares its fate
            failed += bool(refused)
            assert {name: row for name, row in records(folder).items() if found[name] not in refused} == {
                name: row for name, row in expected.items() if found[name] not in refused
            } or found["call-03"] in refused
            assert findings(folder) == []
        finish(folder, TEXTS)
        assert records(folder) == expected, number
        assert findings(folder) == []
    assert failed > 30
    assert ended <= 14  # the audit log's steps, and those that open the folder


def test_a_disk_that_stays_full_ends_the_run_and_nothing_told_as_done_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    audit.note({"event": "started", "run": "an older one"})
    steps = steps_of_a_run(tmp_path / "whole", monkeypatch)
    expected = records(tmp_path / "whole")
    for number in range(1, steps + 1):
        folder = tmp_path / f"full-{number}"
        assert on_refusing_disk(folder, lambda step, number=number: step >= number, monkeypatch), number
        finish(folder, TEXTS)
        assert records(folder) == expected, number
        assert findings(folder) == []


def test_what_the_journal_never_took_is_said_in_the_end(tmp_path):
    def refuse(event):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = begin(tmp_path / "run")
    for number, _ in enumerate(work_through(run, sources(TEXTS), "palliative-call", FakeEngine([FAILING]), lambda: False)):
        if number == 8:
            run._journal.append = refuse
    with pytest.raises(OutputError, match="No space left on device"):
        run.close()
    assert len(History.of(tmp_path / "run").states) == 9
    finish(tmp_path / "run", TEXTS)
    assert list(records(tmp_path / "run")) == list(TEXTS)


def test_a_disk_that_refuses_everything_ends_a_long_run_soon(tmp_path, monkeypatch):
    engine = FakeEngine()
    texts = {f"call-{number:03}": call(number) for number in range(200)}
    with monkeypatch.context() as patch:
        Disk(patch, refusing(lambda number: number > 60)[0])
        with pytest.raises(OutputError):
            finish(tmp_path / "run", texts, engine)
    assert len(engine.computed) < 40
    finish(tmp_path / "run", texts)
    assert list(records(tmp_path / "run")) != [] and len(records(tmp_path / "run")) == 200


# --- changed by hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[:3] + found[4:],
        lambda found: [*found[:3], found[3].replace(b'"no"', b'"yes"', 1), *found[4:]],
        lambda found: [*found[:-1], found[-1][:40]],
        lambda found: [],
    ],
    ids=["deleted", "edited", "torn", "emptied"],
)
def test_records_that_were_changed_by_hand_are_found_and_made_anew(tmp_path, change):
    folder = tmp_path / "run"
    finish(folder, TEXTS)
    expected = records(folder)
    (folder / RECORDS).write_bytes(b"".join(change(lines(folder))))
    assert any("lacks" in finding for finding in findings(folder))
    with pytest.raises(RunError, match="lacks") as refused:
        list(read_records(folder))
    assert "the same command" in refused.value.hint
    finish(folder, TEXTS)
    assert records(folder) == expected
    assert findings(folder) == []


def test_records_that_are_gone_are_made_anew(tmp_path):
    finish(tmp_path / "run", TEXTS)
    expected = records(tmp_path / "run")
    (tmp_path / "run" / RECORDS).unlink()
    assert any("cannot be read" in finding for finding in findings(tmp_path / "run"))
    finish(tmp_path / "run", TEXTS)
    assert records(tmp_path / "run") == expected


def test_a_record_that_was_copied_by_hand_counts_once(tmp_path):
    finish(tmp_path / "run", TEXTS)
    written = (tmp_path / "run" / RECORDS).read_bytes()
    (tmp_path / "run" / RECORDS).write_bytes(written + b"".join(lines(tmp_path / "run")[3:5]))
    assert [row["id"] for row in read_records(tmp_path / "run")] == list(TEXTS)
    finish(tmp_path / "run", TEXTS)
    assert (tmp_path / "run" / RECORDS).read_bytes() == written


def test_lines_that_were_added_by_hand_count_for_nothing(tmp_path):
    finish(tmp_path / "run", TEXTS)
    expected = records(tmp_path / "run")
    with (tmp_path / "run" / RECORDS).open("ab") as file:
        file.write(b'{"id": "call-01", "status": "complete"}\nnot even JSON\n')
    assert records(tmp_path / "run") == expected
    assert findings(tmp_path / "run") == [f"{tmp_path / 'run' / RECORDS} holds 2 lines that the journal does not name."]
    finish(tmp_path / "run", TEXTS)
    assert findings(tmp_path / "run") == []


def test_a_changed_journal_stops_everything(tmp_path):
    finish(tmp_path / "run", TEXTS)
    path = tmp_path / "run" / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"complete"', b'"partial" ', 1))
    for act in (begin, History.of, lambda folder: list(read_records(folder))):
        with pytest.raises(RunError, match="is not as it was written"):
            act(tmp_path / "run")
    assert not is_busy(tmp_path / "run")


# --- a worker that dies --------------------------------------------------------------------------------------------


TOO_BIG = NotEnoughMemoryError("It does not fit.")


class FakeWorker:
    """Gives a batch's rows once all of them are there; `deadly` and `wrong` hold the ids of documents that end it."""

    def __init__(self, deadly=(), wrong=(), error=TOO_BIG):
        self.deadly, self.wrong, self.error, self.asked = set(deadly), set(wrong), error, []

    def extract(self, batches):
        self.asked.append([[document.id for document in batch] for batch in batches])
        for batch in batches:
            names = {document.id for document in batch}
            if names & self.deadly:
                raise WorkerDied("signal 6")
            if names & self.wrong:
                raise self.error
            yield from map(row_of, batch)


def batches_of(count):
    documents = [read(f"call-{number:03}", call(number)) for number in range(count)]
    return [documents[at : at + BATCH] for at in range(0, count, BATCH)]


COUNT = BATCH * BATCHES_AT_ONCE + BATCH + 3


@pytest.mark.parametrize(("kind", "error"), [("deadly", "llama.cpp crashed on this document (signal 6)."), ("wrong", "It does not fit.")])
@pytest.mark.parametrize("numbers", [[8], [20, 21, 30], [COUNT - 1], [9, 16, 24, 32, 40]])
def test_a_document_that_ends_the_worker_fails_alone(kind, error, numbers):
    names = {f"call-{number:03}" for number in numbers}
    results = Local(FakeWorker(**{kind: names})).results(batches_of(COUNT))
    for document, result in zip(chain(*batches_of(COUNT)), results, strict=True):
        assert result == (Result(None, error) if document.id in names else Result(row_of(document)))


def test_the_first_document_may_end_the_worker():
    results = list(Local(FakeWorker(deadly=["call-000"])).results(batches_of(COUNT)))
    assert [result.row is None for result in results] == [True] + [False] * (COUNT - 1)


def test_whole_batches_stay_together_where_another_one_ended_the_worker():
    worker = FakeWorker(deadly=["call-009"])
    list(Local(worker).results(batches_of(3 * BATCH)))
    first, second, third = ([document.id for document in batch] for batch in batches_of(3 * BATCH))
    assert worker.asked == [[first, second, third], [second], *([[name]] for name in second), [third]]


def test_an_error_before_the_first_answer_concerns_all_documents():
    error = ModelError("The model is gone.")
    with pytest.raises(ModelError, match="gone"):
        list(Local(FakeWorker(wrong=["call-000"], error=error)).results(batches_of(COUNT)))


@pytest.mark.parametrize("kind", ["deadly", "wrong"])
def test_after_sixteen_failures_in_a_row_a_run_gives_up(kind):
    names = {f"call-{number:03}" for number in range(BATCH, COUNT)}
    results = []
    with pytest.raises((RunError, NotEnoughMemoryError), match=r"16 documents in a row|does not fit"):
        for result in Local(FakeWorker(**{kind: names})).results(batches_of(COUNT)):
            results.append(result)
    assert [result.error is None for result in results] == [True] * BATCH + [False] * 15


def test_fifteen_failures_in_a_row_and_a_success_do_not_end_a_run():
    names = {f"call-{number:03}" for number in range(COUNT) if number % 16}
    results = list(Local(FakeWorker(deadly=names)).results(batches_of(COUNT)))
    assert [result.error is None for result in results] == [number % 16 == 0 for number in range(COUNT)]


@pytest.mark.parametrize("rows", range(COUNT))
def test_after_a_worker_that_died_once_every_document_is_computed_in_its_own_batch(rows):
    """Whoever killed it, after so many rows of what it was asked."""

    class KilledOnce(FakeWorker):
        def extract(self, batches):
            batch_of = {document.id: [other.id for other in batch] for batch in batches for document in batch}
            for row in super().extract(batches):
                if self.left == 0:
                    self.left -= 1
                    raise WorkerDied("signal 9")
                self.left -= 1
                yield {**row, "batch": batch_of[row["id"]]}

    worker = KilledOnce()
    worker.left = rows
    results = Local(worker).results(batches_of(COUNT))
    for batch in batches_of(COUNT):
        for document in batch:
            assert next(results).row == {**row_of(document), "batch": [other.id for other in batch]}
    assert next(results, None) is None


def test_a_run_over_documents_that_end_the_worker_finishes_the_others(tmp_path):
    texts = {f"call-{number:02}": call(number) for number in range(30)}
    came = finish(tmp_path / "run", texts, Local(FakeWorker(deadly=["call-10", "call-29"])))
    assert came.count("complete") == 28
    assert records(tmp_path / "run")["call-10"]["error"] == "llama.cpp crashed on this document (signal 6)."
    assert finish(tmp_path / "run", texts, Local(FakeWorker())).count("settled") == 28
    assert {row["status"] for row in read_records(tmp_path / "run")} == {"complete"}


# --- a weekend -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "kills", "as_table"),
    [
        (1_000, 10, False),
        pytest.param(10_000, 50, False, marks=pytest.mark.slow),
        pytest.param(10_000, 50, True, marks=pytest.mark.slow),
    ],
)
def test_of_thousands_of_calls_none_is_lost_however_often_the_process_is_killed(tmp_path, monkeypatch, count, kills, as_table):
    monkeypatch.setenv("CLINEX_HOME", str(tmp_path / "home"))
    found = endure(tmp_path, count, kills, as_table=as_table)
    assert (found["documents"], found["lost"], found["duplicated"], found["findings"]) == (count, 0, 0, [])
    assert found["records_identical"]
    assert found["kills"] > kills * 0.9
    memory = found["memory_mb"]
    assert memory[count][0] - memory[100][0] < 50
