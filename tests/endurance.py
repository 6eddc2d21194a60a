"""A weekend's run in a minute: thousands of calls, a process that is killed over and over, and a count of what was lost.

  python -m tests.endurance                      10,000 calls, killed 50 times
  python -m tests.endurance --table --seed 7     the same as rows of one CSV file, killed at other moments
  python -m tests.endurance --embedded           no kills: the embedded model, and what memory it takes

The documents and the kills depend on the seed alone; with the fake engine a record depends on its document alone.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from clinex_edge.models.fingerprint import sha256_of
from clinex_edge.models.registry import find
from clinex_edge.pipeline.record import Feature, Record
from clinex_edge.runs.history import RECORDS, read_records
from clinex_edge.runs.journal import JOURNAL
from clinex_edge.runs.local import Local
from clinex_edge.runs.run import Run
from clinex_edge.runs.settings import Loading, Settings
from clinex_edge.runs.verify import findings
from clinex_edge.runs.work import Result, work_through
from clinex_edge.runs.worker import Worker
from clinex_edge.tasks import load_task

ROOT = Path(__file__).parent.parent
TASK = load_task("palliative-call")
EMPTY_EVERY, TWIN_EVERY = 97, 53  # calls that cannot be read, and calls that say what the one before them says


class FakeEngine:
    """Answers at once, from the document's sha256. `failing` holds texts that give an error; `computed` are the ids it was asked."""

    def __init__(self, failing=()):
        self.failing = set(failing)
        self.computed = []

    def results(self, batches):
        for batch in batches:
            for document in batch:
                self.computed.append(document.id)
                if document.text in self.failing:
                    yield Result(None, "It was told to fail.")
                else:
                    yield Result(row_of(document))


def row_of(document):
    """The record of a document in JSON form, as the fake engine gives it."""
    probabilities = [int(digit, 16) / 15 for digit in document.sha256]
    answers = {field: Feature("yes" if p > 0.5 else "no", p, "answered") for field, p in zip(TASK.field_ids, probabilities, strict=False)}
    provenance = {"extractor": {"name": "fake", "sha256": "f" * 64}}
    timings = {"load_s": 0.1, "translate_s": 0, "extract_s": 0.2, "prompt_tokens": 30, "cached_tokens": 20, "generated_tokens": 10}
    return Record.of(document, TASK.name, answers, windows=[(1, len(document.turns))], provenance=provenance, timings=timings).to_dict()


def text_of(number):
    """A short call; every so often one that is empty or repeats the call before."""
    if number % EMPTY_EVERY == 5:
        return ""
    said = number - 1 if number % TWIN_EVERY == 7 else number
    return f"Nurse: This is call {said}. Does he have a fever?\nSon: No fever, but he has had pain for {said % 13} days.\n"


def write_calls(folder, count, as_table):
    """`count` calls as files of a folder or as rows of one table; returns the path to read."""
    if as_table:
        path = folder / "calls.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "text"])
            rows.writerows((f"call-{number:05}", text_of(number)) for number in range(count))
        return path
    path = folder / "calls"
    path.mkdir()
    for number in range(count):
        (path / f"call-{number:05}.txt").write_text(text_of(number), encoding="utf-8")
    return path


def work(source, folder, embedded, measured_at):
    """What the process does that is killed. Prints the documents done and the memory (MB) of itself and of its worker at these counts."""
    settings = Settings((str(source),), loading=Loading(threads=1))
    fingerprints = settings.fingerprints() if embedded else {"model": sha256_of(find(None, "extractor").path)}
    documents = sum(1 for _ in settings.sources())
    process = psutil.Process()
    with Run(folder, settings.to_dict(), fingerprints, documents) as run, Worker(settings, fingerprints, lambda *stage: None) as worker:
        engine = Local(worker) if embedded else FakeEngine()
        for done, _ in enumerate(work_through(run, settings.sources(), TASK.name, engine, lambda: False), 1):
            if done in measured_at:
                children = sum(child.memory_info().rss for child in process.children())
                print(json.dumps([done, process.memory_info().rss / 1e6, children / 1e6]), flush=True)


def session(source, folder, home, *options):
    """Start that process on a run."""
    command = [sys.executable, "-m", "tests.endurance", "--work", str(source), str(folder), *options]
    variables = {**os.environ, "CLINEX_HOME": str(home)}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE)


def unbroken(source, folder, home, *options):
    """Run to the end and return the memory measured: by number of documents, in MB, the process's and its worker's."""
    process = session(source, folder, home, *options)
    printed = process.communicate()[0]
    assert process.returncode == 0
    return {done: (own, workers) for done, own, workers in map(json.loads, printed.splitlines())}


def killed(source, folder, home, size, kills, seed):
    """Run to the end, killed so many times on the way, while the journal grows to about `size` bytes; returns the number of kills.

    One kill in five falls on a process that starts, the others within milliseconds of a random place in the journal.
    """
    randomly = random.Random(seed)
    places = sorted(randomly.randrange(size * 95 // 100) for _ in range(kills))
    done = 0
    for place in places:
        process = session(source, folder, home)
        if randomly.random() < 0.2:
            time.sleep(randomly.uniform(0, 0.5))
        else:
            while process.poll() is None and _size(folder / JOURNAL) < place:
                time.sleep(0.0005)
            time.sleep(randomly.uniform(0, 0.005))
        done += process.poll() is None
        process.kill()
        process.communicate()
    assert session(source, folder, home).wait() == 0
    return done


def report(folder, reference, count):
    """What a run lost, against one that nobody killed."""
    ids = Counter(row["id"] for row in read_records(folder))
    wanted = {row["id"] for row in read_records(reference)}
    assert len(wanted) == count
    return {
        "documents": count,
        "lost": len(wanted - set(ids)),
        "duplicated": sum(times - 1 for times in ids.values()),
        "records_identical": (folder / RECORDS).read_bytes() == (reference / RECORDS).read_bytes(),
        "findings": findings(folder),
    }


def endure(place, count, kills, seed=1, as_table=False):
    """The whole of it in a folder of its own; returns the report."""
    source, home = write_calls(place, count, as_table), place / "home"
    memory = unbroken(source, place / "unbroken", home)
    size = _size(place / "unbroken" / JOURNAL)
    done = killed(source, place / "run", home, size, kills, seed)
    os.environ["CLINEX_HOME"] = str(home)
    return {**report(place / "run", place / "unbroken", count), "kills": done, "memory_mb": memory}


def _size(path):
    return path.stat().st_size if path.exists() else 0


def main():
    """Run and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="rows of one CSV file instead of files in a folder")
    parser.add_argument("--embedded", action="store_true", help="the embedded model in its worker process, unbroken")
    parser.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(*given.work, given.embedded, {100, 1_000, 10_000})
        return
    with tempfile.TemporaryDirectory(prefix="endurance-") as place:
        began = time.monotonic()
        if given.embedded:
            source = write_calls(Path(place), given.calls, given.table)
            found = {"memory_mb": unbroken(source, Path(place, "run"), Path(place, "home"), "--embedded")}
        else:
            found = endure(Path(place), given.calls, given.kills, given.seed, given.table)
        print(json.dumps({**found, "seconds": round(time.monotonic() - began, 1)}, indent=2))


if __name__ == "__main__":
    main()
