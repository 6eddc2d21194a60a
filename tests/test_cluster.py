"""Runs on more than one machine: shards; a real Dask cluster on this one, whose workers are killed; and what Dask gets to see."""

import json
import logging
import os
import pickle
import platform
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from cli_runner import command, environment, run

from clinex_edge import __version__
from clinex_edge.documents import Document
from clinex_edge.errors import ModelError, RunError, UsageError
from clinex_edge.offline import guarded
from clinex_edge.runs import cluster
from clinex_edge.runs.cluster import Cluster
from clinex_edge.runs.history import read_records
from clinex_edge.runs.settings import Settings
from clinex_edge.runs.shards import parts
from clinex_edge.runs.verify import findings
from clinex_edge.runs.work import Result

distributed = pytest.importorskip("distributed")
from clinex_edge.runs import remote  # noqa: E402  (it needs distributed)

SECRET = "Zyxwvutia"  # a word of every document
SABOTAGE = """
import os, signal, sys
if "clinex_edge.runs.worker" in sys.orig_argv:
    from clinex_edge.pipeline.pipeline import Pipeline
    whole = Pipeline.extract_batches

    def sabotaged(self, batches):
        text = " ".join(document.text for batch in batches for document in batch)
        if "DEADLY" in text:
            os.kill(os.getppid(), signal.SIGKILL)
        if "CRASH" in text:
            os.kill(os.getpid(), signal.SIGSEGV)
        return whole(self, batches)

    Pipeline.extract_batches = sabotaged
"""


@pytest.fixture
def sabotage(tmp_path):
    """Variables under which a document can crash llama.cpp (CRASH), or the process that started the one with the models (DEADLY)."""
    folder = tmp_path / "sabotage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SABOTAGE)
    variables = environment()
    return {**variables, "PYTHONPATH": os.pathsep.join([str(folder), variables["PYTHONPATH"]])}


@contextmanager
def dask_cluster(folder, variables, workers=2):
    """The address, the scheduler's process and those of the workers; their logs lie in `folder`."""
    folder.mkdir()
    variables = {**variables, "DASK_TEMPORARY_DIRECTORY": str(folder)}
    address, logs = folder / "scheduler.json", []
    common = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", address]
    with ExitStack() as processes:

        def start(program, *options):
            log = processes.enter_context((folder / f"{len(logs)}.log").open("wb"))
            logs.append(log)
            line = [sys.executable, "-m", f"distributed.cli.{program}", *common, *options]
            process = subprocess.Popen(line, env=variables, cwd=folder, stdout=log, stderr=log)
            processes.callback(process.wait)
            processes.callback(process.kill)
            return process

        first = start("dask_scheduler", "--port", "0")
        others = [start("dask_worker", "--nthreads", "1", "--no-nanny") for _ in range(workers)]
        until(address.exists)
        yield json.loads(address.read_text())["address"], first, others


def until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def calls(folder, number, special={}):  # noqa: B006
    """So many short documents, some with a special word."""
    folder.mkdir()
    for each in range(number):
        words = f"I have pain and {'a fever' if each % 3 else 'no fever'}. {special.get(each, '')}"
        (folder / f"call-{each:02}.txt").write_text(f"Nurse: Call {each} of {SECRET}?\nPatient: {words}\n")
    (folder / "call-01-fa.txt").write_text(f"پرستار: {SECRET} درد دارید؟\nبیمار: بله، خیلی درد دارم.\n", encoding="utf-8")
    return folder


def records(folder):
    """All but what took how long, in the order of the file."""
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "timings"} for row in rows]


def extract(*args, variables=None):
    return subprocess.Popen(command("extract", *args), env=variables or environment(), stderr=subprocess.PIPE, text=True)


# --- a real cluster ------------------------------------------------------------------------------------------------


def test_a_lost_worker_costs_nothing_and_the_records_are_those_of_a_local_run(tmp_path, sabotage):
    folder = calls(tmp_path / "calls", 32, {19: "CRASH"})
    local = extract(folder, "--run", tmp_path / "local", variables=sabotage)
    assert (local.wait(), "1 failed" in local.stderr.read()) == (3, True)
    with dask_cluster(tmp_path / "dask", sabotage) as (address, _, workers):
        done = extract(folder, "--run", tmp_path / "run", "--dask", address)
        until(lambda: (tmp_path / "run" / "records.jsonl").exists() and records(tmp_path / "run"))
        workers[0].kill()
        assert len(records(tmp_path / "run")) < 25
        assert done.wait() == 3, done.stderr.read()
        assert workers[1].poll() is None
        assert "unencrypted" in done.stderr.read()
    assert records(tmp_path / "run") == records(tmp_path / "local")
    assert len(records(tmp_path / "run")) == 33
    for path in (tmp_path / "dask").rglob("*"):
        assert path.is_dir() or SECRET not in path.read_text(errors="replace"), path


def test_a_batch_that_kills_workers_fails_and_the_rest_goes_on(tmp_path, sabotage):
    folder = calls(tmp_path / "calls", 15, {2: "DEADLY"})
    with dask_cluster(tmp_path / "dask", {**sabotage, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}) as (address, *_):
        done = extract(folder, "--run", tmp_path / "run", "--dask", address)
        assert done.wait() == 3, done.stderr.read()
    found = records(tmp_path / "run")
    assert [row["status"] for row in found] == ["failed"] * 8 + ["complete"] * 8
    assert {row["error"] for row in found[:8]} == {"Every Dask worker that read this document's batch was lost."}


def test_a_lost_scheduler_is_told_and_the_run_goes_on_later(tmp_path):
    folder = calls(tmp_path / "calls", 15)
    with dask_cluster(tmp_path / "dask", environment(), workers=1) as (address, scheduler, _):
        lost = extract(folder, "--run", tmp_path / "run", "--dask", address)
        until(lambda: (tmp_path / "run" / "records.jsonl").exists() and records(tmp_path / "run"))
        scheduler.kill()
        assert lost.wait() == 1
        assert f"Error: The connection to the Dask scheduler {address} is lost." in lost.stderr.read()
    assert 0 < len(records(tmp_path / "run")) < 16
    assert extract("--run", tmp_path / "run", "--resume").wait() == 0
    assert len({row["id"] for row in records(tmp_path / "run")}) == len(records(tmp_path / "run")) == 16


def test_a_worker_without_the_model_says_on_which_machine(tmp_path, home):
    with dask_cluster(tmp_path / "dask", environment(), workers=1) as (address, *_), guarded():
        documents = [Document.from_text("It hurts.")]
        with Cluster(address, Settings((), model="qwen2.5-7b", translate=False), {}) as engine, pytest.raises(ModelError) as refused:
            list(engine.results([documents]))
        with Cluster(address, Settings((), translate=False), {"extractor": "0"}) as engine, pytest.raises(ModelError, match="not the one"):
            list(engine.results([documents]))
    assert str(refused.value).startswith(f"Dask worker on {platform.node()}: ")
    assert "clinex-edge models pull qwen2.5-7b" in refused.value.hint


# --- shards --------------------------------------------------------------------------------------------------------


def shard_of(folder, number):
    """Which shard each document belongs to; each belongs to one only."""
    found = [(source.id, part) for part in range(1, number + 1) for source in Settings((str(folder),), shard=(part, number)).sources()]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_every_document_is_in_one_shard_and_stays_there_when_others_come(tmp_path, number):
    folder = calls(tmp_path / "calls", 60)
    before = shard_of(folder, number)
    assert set(before) == {path.name for path in folder.iterdir()} and set(before.values()) == set(range(1, number + 1))
    (folder / "a-new-one.txt").write_text("It hurts.")
    after = shard_of(folder, number)
    assert after.pop("a-new-one.txt") and after == before


def test_two_shards_are_worked_on_at_the_same_time(tmp_path):
    folder = calls(tmp_path / "calls", 8)
    both = [extract(folder, "--run", tmp_path / "run", "--shard", f"{part}/2") for part in (1, 2)]
    assert [process.wait() for process in both] == [0, 0]
    found = [[row["id"] for row in records(path)] for path in parts(tmp_path / "run")]
    assert all(found) and sorted(name for names in found for name in names) == sorted(path.name for path in folder.iterdir())
    assert [findings(path) for path in parts(tmp_path / "run")] == [[], []]
    assert len(list(read_records(tmp_path / "run"))) == 9


# --- no cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture
def listener():
    """A server that answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_is_no_scheduler_is_told(tmp_path, capsys, monkeypatch, listener):
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    folder = calls(tmp_path / "calls", 1)
    silent = run(capsys, "extract", folder, "--run", tmp_path / "run", "--dask", f"127.0.0.1:{listener}")
    assert silent.status == 1
    assert f"No Dask scheduler answers at tcp://127.0.0.1:{listener}." in silent.stderr
    bare = run(capsys, "extract", folder, "--run", tmp_path / "run", "--dask", f"tls://127.0.0.1:{listener}")
    assert "Dask has no certificates" in bare.stderr
    unknown = run(capsys, "extract", folder, "--run", tmp_path / "run", "--dask", "nobody.invalid")
    assert "The host of tcp://nobody.invalid:8786 is not known." in unknown.stderr


@pytest.mark.parametrize("address", ["http://host:8787", "tcp://", "host:port", "tcp://host:99999", "tcp://[::1", "inproc://host"])
def test_other_addresses_are_refused(address):
    with pytest.raises(UsageError, match=re.escape(f"not '{address}'")):
        Cluster(address, Settings(()), {})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match="Dask is not installed") as refused:
        Cluster("host", Settings(()), {})
    assert refused.value.hint == "pip install 'clinex-edge[dask]'"


# --- what is sent, and when ----------------------------------------------------------------------------------------


class Future:
    """Done once the fake cluster says so."""

    def __init__(self, order):
        self.order, self.released = order, False
        self.answer = None

    def done(self):
        return self.answer is not None

    def exception(self):
        return None

    def result(self):
        return self.answer

    def release(self):
        self.released = True


class Fake(Cluster):
    """A cluster of which `threads` can change; it finishes the latest batch first."""

    def __init__(self, threads=2):
        self.threads, self.futures, self.most = threads, [], 0
        super().__init__("host", Settings(("/home/ali/calls",), shard=(1, 2)), {})

    def _send(self, documents):
        self.futures.append(Future(documents))
        return self.futures[-1], len(documents)

    def _room(self, sent):
        self._client = self
        return super()._room(sent)

    status = "running"

    def nthreads(self):
        return {"worker": self.threads}

    def _wait(self, futures):
        self.most = max(self.most, len(futures))
        futures[-1].answer = remote.Answer("host", tuple(Result({"id": document.id}) for document in futures[-1].order))


def batches(number):
    return ([Document.from_text("It hurts.", id=f"{batch}-{each}") for each in range(2)] for batch in range(number))


def test_results_come_in_order_though_batches_are_done_out_of_it():
    engine = Fake()
    found = [result.row["id"] for result in engine.results(batches(60))]
    assert found == [f"{batch}-{each}" for batch in range(60) for each in range(2)]
    assert all(future.released for future in engine.futures)
    assert engine.most == 4


def test_batches_are_taken_as_workers_can_take_them():
    engine = Fake()
    results = engine.results(batches(1000))
    next(results)
    assert len(engine.futures) <= cluster._AHEAD * 2 + 1
    engine.threads = 8
    for _ in range(200):
        next(results)
    assert engine.most == 16
    assert len(engine.futures) < 300


def test_workers_do_not_learn_where_a_text_comes_from():
    sent = Fake()._settings
    assert (sent.paths, sent.shard) == ((), None)


def order(text=SECRET, **changes):
    return remote.Order(Settings((), **changes), {}, (Document.from_text(text),))


ANSWER = remote.Answer("host", (Result({"id": SECRET}),))


def test_what_dask_prints_quotes_no_document():
    assert SECRET not in f"{order()!r} {order()} {ANSWER!r} {ANSWER}"


def test_an_answer_is_sent_but_not_spilled(tmp_path, caplog, monkeypatch):
    from distributed.protocol import deserialize, serialize
    from distributed.spill import SpillBuffer

    def spilled(name, value):
        """Whether Dask wrote the text to the disk when it ran out of memory; the value stays readable either way."""
        buffer = SpillBuffer(str(tmp_path / name), target=10_000)
        buffer["task"] = value
        buffer.evict()
        buffer["other"] = b"x" * 9_999
        written = any(SECRET.encode() in path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file())
        assert buffer["task"] == value
        return written

    monkeypatch.setattr(logging.getLogger("distributed.spill"), "handlers", [caplog.handler])
    assert deserialize(*serialize(ANSWER, context={"recipient": "tcp://host"})) == ANSWER
    assert spilled("plain", SECRET)
    assert not spilled("answer", ANSWER)
    assert "Answers about documents are not written to disks" in caplog.text
    assert SECRET not in caplog.text


# --- on a worker ---------------------------------------------------------------------------------------------------


class Process:
    """In the place of `Worker`."""

    made: list = []  # noqa: RUF012

    def __init__(self, settings, fingerprints, stage):
        self.settings, self.closed = settings, threading.Event()
        self.made.append(self)

    def extract(self, batches):
        assert not self.closed.is_set()
        for document in batches[0]:
            if document.text == "unexpected":
                raise ValueError(SECRET)
            if document.text == "missing":
                raise ModelError("There is no model.", "Get it.")
            yield {"id": document.id}

    def close(self):
        self.closed.set()


@pytest.fixture
def made(monkeypatch):
    """The processes that were started, in order."""
    monkeypatch.setattr(Process, "made", [])
    monkeypatch.setattr(remote, "Worker", Process)
    monkeypatch.setattr(remote, "_engine", remote._Engine())
    return Process.made


def test_a_worker_keeps_its_process_until_other_settings_come(made):
    for text in ("one", "two"):
        assert remote.compute(order(text)).results == (Result({"id": "text"}),)
    assert len(made) == 1
    remote.compute(order(decoder="independent"))
    assert [process.closed.is_set() for process in made] == [True, False]


def test_an_idle_worker_lets_its_models_go_and_loads_them_again(made, monkeypatch):
    monkeypatch.setattr(remote, "_IDLE_SECONDS", 0.05)
    remote.compute(order())
    assert made[0].closed.wait(5)
    assert remote.compute(order()).error is None
    assert len(made) == 2


def test_a_worker_of_several_threads_reads_one_batch_at_a_time(made, monkeypatch):
    reading, most = [], []

    def extract(self, batches):
        reading.append(self)
        most.append(len(reading))
        time.sleep(0.05)
        reading.remove(self)
        yield {"id": "text"}

    monkeypatch.setattr(Process, "extract", extract)
    threads = [threading.Thread(target=remote.compute, args=[order()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_errors_of_a_worker_are_values_and_quote_no_document(made):
    missing = remote.compute(order("missing"))
    assert (type(missing.error), str(missing.error), missing.error.hint) == (ModelError, "There is no model.", "Get it.")
    assert pickle.loads(pickle.dumps(missing.error)).hint == "Get it."
    assert str(remote.compute(order("unexpected")).error) == "Internal error (ValueError)."


def test_another_version_of_clinex_edge_is_refused(made):
    other = remote.Order(Settings(()), {}, (Document.from_text("It hurts."),), version="0.0.1")
    assert str(remote.compute(other).error) == f"It has clinex-edge {__version__}, and the run is one of 0.0.1."
    assert isinstance(remote.compute(other).error, RunError)
    assert made == []
