"""What a system takes: seconds, memory, and documents an hour. From its runs' records and journals alone, without a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clinex_edge.bench.folder import Bench, System
from clinex_edge.runs.history import History, Row, read_records

_STAGES = ("load_s", "translate_s", "extract_s")


@dataclass(frozen=True)
class Spread:
    """Seconds of a document: median and 95th percentile."""

    median: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        if not seconds:
            return cls(np.nan, np.nan)
        median, p95 = np.percentile(seconds, (50, 95))
        return cls(float(median), float(p95))


@dataclass(frozen=True)
class Latency:
    """What a system takes; what is not known is nan. Over all its repeats.

    Documents are computed in batches, whose seconds they share by their turns: `seconds`, `translate` and `extract` are of one of
    `documents`, without loading. `first_answers_s` is from the start of the process with the models to the end of its first batch, of
    `first_documents`. Prompts and answers share batches, so `prompt_tokens_per_s` and `generated_tokens_per_s` are tokens over all seconds
    of computing; cached tokens are not among them. `speeds` has tokens a second of a model alone by role ("extractor", "translator"): of
    a prompt ("prefill"), and of an answer token by token ("decode"), measured after the documents. `shares` are of loading, translating
    and extracting in the whole time. `cpu_s` is for a document, `peak_bytes` the most main memory of the process with the models, a mapped
    model file included, the memory of a GPU not.

    Where `translations_of` names another system, this one took its translations from there. Then `translate`, `seconds` and
    `documents_per_hour` count what they took there; tokens, `cpu_s` and `peak_bytes` are those of the extraction alone.
    """

    system: str
    documents: int
    load_s: float
    first_answers_s: float
    first_documents: int
    seconds: Spread
    translate: Spread
    extract: Spread
    prompt_tokens_per_s: float
    generated_tokens_per_s: float
    speeds: dict[str, dict[str, float]]
    documents_per_hour: float
    shares: dict[str, float]
    cpu_s: float
    peak_bytes: float
    translations_of: str | None


def latency(bench: Bench, system: System) -> Latency:
    """What `system` takes, over all repeats that have begun. Raises RunError where none has, or a run is damaged."""
    repeats = [other for other in bench.systems if other.name == system.name and bench.has_begun(other)]
    histories = [History.of(bench.run_folder(repeat)) for repeat in repeats or [system]]
    origins = [_origin(bench, history) for history in histories]
    timings = [row for repeat, origin in zip(repeats, origins, strict=True) for row in _timings(bench.run_folder(repeat), origin)]
    processes = [process for history in histories for process in _processes(history)]
    own = {stage: sum(row[stage] for row in timings) for stage in ("translate_here_s", "extract_s")}
    spent = {stage: sum(row[stage] for row in timings) for stage in _STAGES}
    computing, total = sum(own.values()), spent["translate_s"] + spent["extract_s"]
    borrowed = next((origin for origin in origins if origin), None)
    return Latency(
        system=system.name,
        documents=len(timings),
        load_s=_ratio(spent["load_s"], len(processes)),
        first_answers_s=float(np.median([first["seconds"] for first, _ in processes])) if processes else np.nan,
        first_documents=processes[0][0]["documents"] if processes else 0,
        seconds=Spread.of([row["translate_s"] + row["extract_s"] for row in timings]),
        translate=Spread.of([row["translate_s"] for row in timings]),
        extract=Spread.of([row["extract_s"] for row in timings]),
        prompt_tokens_per_s=_ratio(sum(row["prompt_tokens"] for row in timings), computing),
        generated_tokens_per_s=_ratio(sum(row["generated_tokens"] for row in timings), computing),
        speeds=next((event["speeds"] for history in histories for event in reversed(history.used) if event.get("speeds")), {}),
        documents_per_hour=_ratio(3600 * len(timings), total),
        shares={stage: _ratio(seconds, sum(spent.values())) for stage, seconds in spent.items()},
        cpu_s=_ratio(sum(last["cpu_s"] for _, last in processes), sum(last["documents"] for _, last in processes)),
        peak_bytes=max((last["peak_bytes"] for _, last in processes), default=np.nan),
        translations_of=next((other.name for other in bench.systems if borrowed == bench.run_folder(other)), None),
    )


def _origin(bench: Bench, history: History) -> Path | None:
    """The run that translations were taken from, wherever the benchmark's folder lies by now."""
    named = history.settings.get("translations")
    return bench.run_folder(bench.systems[0]).with_name(Path(named).name) if named else None


def _timings(folder: Path, origin: Path | None) -> Iterable[dict[str, float]]:
    """Of each document that was computed: a copy of an identical one took no time. What a translation took where it was made is added."""
    made = {row["id"]: row["timings"]["translate_s"] for row in read_records(origin) if "timings" in row} if origin else {}
    for row in read_records(folder):
        timings = row.get("timings", {})
        if any(timings.values()):
            here = timings["translate_s"]
            yield {**timings, "translate_here_s": here, "translate_s": made.get(row["id"], 0) if _is_borrowed(row) else here}


def _is_borrowed(row: Row) -> bool:
    return bool(row["provenance"].get("translator", {}).get("reused"))


def _processes(history: History) -> list[tuple[Row, Row]]:
    """The first and the last that was noted of each process with models."""
    found: dict[tuple[str, int], tuple[Row, Row]] = {}
    for event in history.used:
        key = event["session"], event["process"]
        found[key] = found.get(key, (event, event))[0], event
    return list(found.values())


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else np.nan
