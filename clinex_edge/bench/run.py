"""Runs every system of a benchmark over its documents, one after the other, so that one system's models are in memory at a time."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from clinex_edge.bench.data import LabelledSet
from clinex_edge.bench.folder import CONDITIONS, Bench, Plan, System
from clinex_edge.decoding import get_decoder
from clinex_edge.documents.language import detect
from clinex_edge.errors import ContextError, ModelError, NotEnoughMemoryError, UsageError, unknown_name
from clinex_edge.models.registry import find
from clinex_edge.pipeline.pipeline import BATCH
from clinex_edge.runs.local import Local
from clinex_edge.runs.pace import Pace
from clinex_edge.runs.run import Run
from clinex_edge.runs.settings import Loading, Settings
from clinex_edge.runs.work import work_through
from clinex_edge.runs.worker import Worker


class Heard(Protocol):
    """Hears how the work goes on."""

    def begins(self, number: int, system: System) -> None:
        """The system of that number (from 1) begins."""
        ...

    def gives_up(self, system: System, error: ModelError | NotEnoughMemoryError | ContextError) -> None:
        """It cannot go on; the others do."""
        ...


def systems_of(plan: Plan, labelled: LabelledSet, told: Callable[[str], None]) -> tuple[System, ...]:
    """Every model x condition x decoder x repeat, those of one model in a row.

    Where all documents are English, "native" alone is run of the two conditions, which `told` hears.
    Raises UsageError for an unknown name, decoder or condition, or one that is named twice, and ModelError where a model is missing.
    """
    for condition in plan.conditions:
        if condition not in CONDITIONS:
            raise unknown_name("condition", condition, list(CONDITIONS))
    for decoder in plan.decoders:
        get_decoder(decoder)
    models = [find(model, "extractor") for model in plan.models]
    for spec in [*models, *([find(plan.translator, "translator")] if "translated" in plan.conditions else [])]:
        spec.require()
    titles = [spec.name for spec in models]
    for kind, names in (("model", titles), ("condition", list(plan.conditions)), ("decoder", list(plan.decoders))):
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise UsageError(f"The {kind} '{twice[0]}' is named twice.", "Name each once; --repeat repeats.")
    conditions = _conditions(plan, labelled, told)
    return tuple(
        System(title, model, condition, decoder, repeat)
        for title, model in zip(titles, plan.models, strict=True)
        for condition in conditions
        for decoder in plan.decoders
        for repeat in range(1, plan.repeat + 1)
    )


def _conditions(plan: Plan, labelled: LabelledSet, told: Callable[[str], None]) -> tuple[str, ...]:
    english = sum(detect(example.text) == "en" for example in labelled.examples)
    if len(plan.conditions) == 1 or not english:
        return plan.conditions
    if english == len(labelled.examples):
        told("All documents are English, so nothing is translated: the condition 'native' alone is run.")
        return ("native",)
    told(f"{english:,} of {len(labelled.examples):,} documents are English; both conditions read them as they are.")
    return plan.conditions


def settings_of(bench: Bench, loading: Loading) -> list[tuple[System, Settings, dict[str, str]]]:
    """Each system with what its run needs. Raises what `Settings.fingerprints` does, before anything is computed."""
    found = ((system, bench.settings(system, loading)) for system in bench.systems)
    return [(system, settings, settings.fingerprints()) for system, settings in found]


def run_systems(
    bench: Bench, loading: Loading, pace: Pace, heard: Heard, stop: Callable[[], bool]
) -> Iterator[tuple[System, Counter[str]]]:
    """Run what is not yet done, and yield each system with the number of its documents by status, once it is through.

    A system whose model does not load is left out, which `heard` is told. Ends before its time once `stop` says so.
    Raises ClinexError for what concerns all systems, such as a full disk or a missing model.
    """
    for number, (system, settings, fingerprints) in enumerate(settings_of(bench, loading), 1):
        if stop():
            return
        heard.begins(number, system)
        try:
            counts = _run(bench, system, settings, fingerprints, pace, stop)
        except (ModelError, NotEnoughMemoryError, ContextError) as error:
            heard.gives_up(system, error)
        else:
            yield system, counts


def _run(
    bench: Bench, system: System, settings: Settings, fingerprints: dict[str, str], pace: Pace, stop: Callable[[], bool]
) -> Counter[str]:
    folder, documents = bench.run_folder(system), len(bench.labelled.examples)
    with Run(folder, settings.to_dict(), fingerprints, documents) as run, Worker(settings, fingerprints, pace.enter) as worker:
        noted = worker.used
        for status in work_through(run, settings.sources(), settings.task, Local(worker), stop):
            pace.settle(status)
            if worker.used != noted and worker.used.get("documents", 1) % BATCH == 0:
                run.note_use(noted := worker.used)
        if worker.used:
            run.note_use({**worker.used, "speeds": {} if stop() else worker.speeds()})
        return run.history.counts
