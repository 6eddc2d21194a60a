"""Collects the answers of all systems from benchmark folders."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heappush, heappushpop
from pathlib import Path
from typing import Any

from clinex_edge.bench.data import LabelledSet
from clinex_edge.bench.folder import Bench, read_bench
from clinex_edge.bench.latency import latency
from clinex_edge.bench.predictions import Predictions
from clinex_edge.bench.report.content import ConfidentError
from clinex_edge.bench.report.scores import Answers
from clinex_edge.errors import UsageError
from clinex_edge.files.records import read_records
from clinex_edge.runs.history import Row

_ERRORS = 10  # the most confident ones, of each system


def read_benches(folders: Sequence[Path]) -> list[Bench]:
    """Raises UsageError where they are not of the same documents and labels, and what `read_bench` does."""
    first, *others = benches = [read_bench(folder) for folder in folders]
    for bench in others:
        if (bench.labelled.fields, bench.labelled.examples) != (first.labelled.fields, first.labelled.examples):
            raise UsageError(
                f"{bench.folder} is not of the same documents and labels as {first.folder}.",
                "Make a report of each, or use the same --limit.",
            )
    return benches


def gather(benches: Sequence[Bench], with_text: bool) -> list[Answers]:
    """Those of all systems that have begun, then those of the baselines; what has one name in two benchmarks is told apart by the folder's.

    Raises RunError and InputError where a run or a file of records is damaged.
    """
    found = [answers for bench in benches for answers in _systems(bench, with_text)]
    counts = Counter(answers.predictions.name for _, answers in found)
    for bench, answers in found:
        if counts[answers.predictions.name] > 1:
            answers.predictions = replace(answers.predictions, name=f"{answers.predictions.name} · {bench.folder.resolve().name}")
    baselines = {name: (bench, path) for bench in reversed(benches) for name, path in bench.baselines.items()}
    return [answers for _, answers in found] + [
        _answers(name, "baseline", bench.labelled, read_records(path), with_text) for name, (bench, path) in baselines.items()
    ]


def _systems(bench: Bench, with_text: bool) -> Iterator[tuple[Bench, Answers]]:
    for system in bench.systems:
        if system.repeat == 1 and bench.has_begun(system):
            answers = _answers(system.name, "model", bench.labelled, bench.records(system), with_text)
            answers.model, answers.condition, answers.decoder = system.title, system.condition, system.decoder
            answers.latency = latency(bench, system)
            yield bench, answers


def _answers(name: str, kind: str, labelled: LabelledSet, records: Iterable[Row], with_text: bool) -> Answers:
    seen = _Seen(labelled, with_text)
    predictions = Predictions.of(name, labelled, seen.passed(records))
    absent = len(labelled.examples) - seen.statuses.total()
    statuses = dict(seen.statuses) | ({"absent": absent} if absent else {})
    return Answers(predictions, kind, statuses=statuses, provenance=seen.provenance, errors=seen.errors if kind == "model" else [])


class _Seen:
    """What is noted of records while they pass by, so that they are read once and never held."""

    def __init__(self, labelled: LabelledSet, with_text: bool):
        self._examples = {example.id: (number, example) for number, example in enumerate(labelled.examples, 1)}
        self._with_text = with_text
        self._worst: list[tuple[float, int, str, ConfidentError]] = []  # the least confident first
        self.statuses: Counter[str] = Counter()
        self.provenance: dict[str, Any] = {}

    def passed(self, records: Iterable[Row]) -> Iterator[Row]:
        for record in records:
            if record["id"] in self._examples:
                self.statuses[record["status"]] += 1
                self.provenance = self.provenance or record.get("provenance", {})
                self._note_errors(record)
            yield record

    @property
    def errors(self) -> list[ConfidentError]:
        """The most confident ones first."""
        return [error for *_, error in sorted(self._worst, reverse=True)]

    def _note_errors(self, record: Row) -> None:
        number, example = self._examples[record["id"]]
        for field, feature in record.get("features", {}).items():
            said, label, p_yes = feature["value"], example.labels.get(field), feature["p_yes"]
            if said is None or p_yes is None or label is None or (said == "yes") == label:
                continue
            probability = p_yes if said == "yes" else 1 - p_yes
            if len(self._worst) < _ERRORS or probability >= self._worst[0][0]:
                error = ConfidentError(number, field, said, probability)
                if self._with_text:
                    translation = "\n".join(turn["text"] for turn in record.get("translation", []))
                    error = replace(error, id=example.id, text=example.text, translation=translation)
                keep = heappush if len(self._worst) < _ERRORS else heappushpop
                keep(self._worst, (probability, -number, field, error))
