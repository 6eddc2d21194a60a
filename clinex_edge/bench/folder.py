"""A benchmark's folder: the labelled set as read, what was asked, a run for each system, and the baselines.

    data.jsonl and data.json, bench.json, runs/<system>/ (an ordinary run), baselines/<name>.jsonl (records)

All that a report says can be computed from it, without a model.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clinex_edge.atomic import write_private
from clinex_edge.bench.data import LabelledSet, read_data, write_data
from clinex_edge.bench.machine import described
from clinex_edge.bench.predictions import Predictions
from clinex_edge.errors import OutputError, RunError
from clinex_edge.files.records import read_records as read_file
from clinex_edge.files.sources import Reading
from clinex_edge.runs.history import RECORDS, Row, read_records
from clinex_edge.runs.settings import Loading, Settings

DATA, ABOUT, RUNS, BASELINES = "data.jsonl", "bench.json", "runs", "baselines"
CONDITIONS = ("translated", "native")
_SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """What is asked of a benchmark. `models` and `translator` are names of models.toml or absolute paths; None is the default."""

    models: tuple[str | None, ...] = (None,)
    translator: str | None = None
    task: str = "palliative-call"
    conditions: tuple[str, ...] = CONDITIONS
    decoders: tuple[str, ...] = ("joint",)
    repeat: int = 1
    limit: int | None = None
    ctx_size: int | None = None
    baselines: bool = True


@dataclass(frozen=True)
class System:
    """One way to answer: a model under a condition with a decoder. `repeat` counts from 1; all repeats give the same answers.

    `title` is the model's own name, `model` what it was asked for by.
    """

    title: str
    model: str | None
    condition: str
    decoder: str
    repeat: int = 1

    @property
    def name(self) -> str:
        """For people; the same for all repeats."""
        return f"{self.title} · {self.condition} · {self.decoder}"

    @property
    def folder(self) -> str:
        """Of its run, below the folder of runs."""
        return f"{self.title}.{self.condition}.{self.decoder}" + (f".{self.repeat}" if self.repeat > 1 else "")


@dataclass(frozen=True)
class Bench:
    """A benchmark that can be read. `about` holds the machine, versions and start as bench.json says them."""

    folder: Path
    plan: Plan
    systems: tuple[System, ...]
    labelled: LabelledSet
    about: dict[str, Any]

    def run_folder(self, system: System) -> Path:
        return self.folder / RUNS / system.folder

    def settings(self, system: System, loading: Loading = Loading()) -> Settings:  # noqa: B008  (frozen)
        """What its run is asked to do. Translations are made by the first system that needs them, and taken by the others."""
        first = next(other for other in self.systems if (other.condition, other.repeat) == (system.condition, system.repeat))
        borrows = system.condition == "translated" and system != first
        return Settings(
            (str((self.folder / DATA).resolve()),),
            Reading(id_column="id", text_column="text"),
            model=system.model,
            translator=self.plan.translator,
            task=self.plan.task,
            decoder=system.decoder,
            translate=system.condition == "translated",
            ctx_size=self.plan.ctx_size,
            loading=loading,
            translations=str(self.run_folder(first).resolve()) if borrows else None,
        )

    def has_begun(self, system: System) -> bool:
        """Whether it has a record; one whose model does not load has none."""
        records = self.run_folder(system) / RECORDS
        return records.exists() and records.stat().st_size > 0

    def records(self, system: System) -> Iterator[Row]:
        """Its records so far. Raises RunError where it has not begun or its run is damaged."""
        return read_records(self.run_folder(system))

    @property
    def baselines(self) -> dict[str, Path]:
        """The files of records by the baseline's name."""
        return {path.stem: path for path in sorted((self.folder / BASELINES).glob("*.jsonl"))}

    def baseline_file(self, name: str) -> Path:
        return self.folder / BASELINES / f"{name}.jsonl"

    def predictions(self) -> Iterator[Predictions]:
        """The answers of each system that has begun (the first repeat), then those of the baselines.

        Raises RunError and InputError where a run or a file of records is damaged.
        """
        for system in self.systems:
            if system.repeat == 1 and self.has_begun(system):
                yield Predictions.of(system.name, self.labelled, self.records(system))
        for name, path in self.baselines.items():
            yield Predictions.of(name, self.labelled, read_file(path))


def read_bench(folder: Path) -> Bench:
    """Raises RunError where `folder` holds no benchmark, or one of a newer version."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["schema"] > _SCHEMA:
            raise RunError(f"{folder} holds a benchmark of a newer version (schema {about['schema']}).", "Update clinex-edge.")
        asked = about["asked"]
        plan = Plan(**{**asked, **{name: tuple(asked[name]) for name in ("models", "conditions", "decoders")}})
        return Bench(folder, plan, tuple(System(**row) for row in about["systems"]), read_data(folder / DATA), about)
    except FileNotFoundError:
        raise RunError(f"{folder} holds no benchmark.", "Begin one: clinex-edge bench run DATA --to FOLDER") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / ABOUT} is damaged ({type(error).__name__}).", "Begin the benchmark again in another folder.") from None


def begin_bench(folder: Path, plan: Plan, systems: tuple[System, ...], labelled: LabelledSet, started: str) -> Bench:
    """Make the folder, or go on with the one there. `started` is the time (ISO 8601).

    Raises RunError where it holds a benchmark of other data or with other settings, or something else; OutputError where it cannot be
    written.
    """
    if (folder / ABOUT).exists():
        return _same(read_bench(folder), plan, systems, labelled)
    about = {
        "schema": _SCHEMA,
        "started": started,
        "data": {"name": labelled.name, "sha256": labelled.sha256, "fields": labelled.fields, "documents": len(labelled.examples)},
        "asked": asdict(plan),
        "systems": [asdict(system) for system in systems],
        "machine": described(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(path.name not in (DATA, "data.json", RUNS, BASELINES) and not path.name.startswith(".") for path in folder.iterdir()):
            raise RunError(f"{folder} holds other files.", "Name a new folder with --to.")
        write_data(labelled, folder / DATA)
        write_private(folder / ABOUT, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.", "Name another folder with --to.") from error
    return read_bench(folder)


def _same(bench: Bench, plan: Plan, systems: tuple[System, ...], labelled: LabelledSet) -> Bench:
    different = [name for name, value in asdict(plan).items() if value != asdict(bench.plan)[name]]
    if systems != bench.systems and not different:
        different = ["models"]
    if replace(labelled, name=bench.labelled.name) != bench.labelled:
        different.insert(0, "data")
    if different:
        raise RunError(
            f"{bench.folder} holds a benchmark with other settings ({', '.join(different)}).",
            f"To go on with it as it was: clinex-edge bench run --resume --to {bench.folder}. Else name another folder with --to.",
        )
    return bench
