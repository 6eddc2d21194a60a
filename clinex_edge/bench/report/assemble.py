"""From benchmark folders to everything that a report says."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from itertools import combinations
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from clinex_edge import __version__
from clinex_edge.bench.folder import Bench, Plan
from clinex_edge.bench.report.content import Data, FieldData, Report, System
from clinex_edge.bench.report.gather import gather, read_benches
from clinex_edge.bench.report.published import study
from clinex_edge.bench.report.scores import Answers, pair, system
from clinex_edge.bench.report.summary import summary
from clinex_edge.errors import ClinexError, UsageError
from clinex_edge.models.registry import find
from clinex_edge.tasks import load_task

Both = tuple[System, Answers]


def assemble(folders: Sequence[Path], with_text: bool) -> Report:
    """The report of one or more benchmarks on the same documents.

    Raises UsageError where they are not, or nothing has been answered yet; RunError and InputError where something in them is damaged.
    """
    benches = read_benches(folders)
    answers = gather(benches, with_text)
    if not answers:
        raise UsageError(f"No system of {folders[0]} has begun.", f"First: clinex-edge bench run --resume --to {folders[0]}")
    data = _data(benches[0], answers[0])
    published = [row for row in study() if {field.id for field in data.fields} <= row.mcc.keys()]
    systems = [(system(number, found, published), found) for number, found in enumerate(answers, 1)]
    ranked = sorted(systems, key=lambda both: _descending(both[0].medians["macro_f1"].value))
    pairs = [pair(a, b) for a, b in combinations(ranked, 2)]
    bilingual = [pair(a, b) for a in systems for b in systems if _translated_and_native(a[0], b[0])]
    shown = [system for system, _ in systems]
    return Report(
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        with_text=with_text,
        summary=[*_notices(shown), *summary(data, shown, pairs, bilingual)],
        data=data,
        systems=shown,
        pairs=pairs,
        bilingual=bilingual,
        study=published,
        asked=[_asked(bench) for bench in benches],
        machines=[bench.about["machine"] for bench in benches],
    )


def _data(bench: Bench, answers: Answers) -> Data:
    labelled, gold = bench.labelled, answers.predictions.gold
    labels = _labels(bench.plan)
    fields = [
        FieldData(name, labels.get(name, name), int(np.count_nonzero(~np.isnan(column))), int(np.nansum(column)))
        for name, column in zip(labelled.fields, gold.T, strict=True)
    ]
    references = sum(example.reference is not None for example in labelled.examples)
    groups = len(set(answers.predictions.groups.tolist()))
    return Data(labelled.name, labelled.sha256, len(labelled.examples), groups, references, fields)


def _labels(plan: Plan) -> dict[str, str]:
    """English labels of the fields; none where the task is no longer there."""
    try:
        return {field.id: field.label.get("en", field.id) for field in load_task(plan.task).fields}
    except ClinexError:
        return {}


def _notices(systems: Sequence[System]) -> list[str]:
    """What the registry says of models that it still knows, such as that one is not for clinical use."""
    found: dict[str, str] = dict.fromkeys((system.model for system in systems if system.model), "")
    for model in found:
        with suppress(ClinexError):
            found[model] = find(model).notice
    return [notice for notice in found.values() if notice]


def _asked(bench: Bench) -> dict[str, Any]:
    """Without the folders of files, which can hold a user's name."""
    plan = bench.plan
    return {
        "benchmark": bench.folder.resolve().name,
        "started": bench.about["started"],
        "task": Path(plan.task).name,
        "models": list(dict.fromkeys(system.title for system in bench.systems)),
        "translator": plan.translator and Path(plan.translator).name,
        "conditions": plan.conditions,
        "decoders": plan.decoders,
        "repeat": plan.repeat,
        "limit": plan.limit,
        "context": plan.ctx_size,
    }


def _translated_and_native(a: System, b: System) -> bool:
    return (a.condition, b.condition) == ("translated", "native") and (a.model, a.decoder) == (b.model, b.decoder)


def _descending(value: float) -> float:
    return float("inf") if isnan(value) else -value
