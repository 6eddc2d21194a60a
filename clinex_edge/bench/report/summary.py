"""What a report says first, in sentences."""

from collections.abc import Iterator, Sequence
from math import isnan

from clinex_edge.bench.report.content import Data, Pair, System
from clinex_edge.bench.report.numbers import figure, interval, percent, signed

_FEW = 10  # documents that are labelled yes
_MANY = 4  # comparisons that are counted rather than listed


def summary(data: Data, systems: Sequence[System], pairs: Sequence[Pair], bilingual: Sequence[Pair]) -> list[str]:
    """Sentences for people: what was compared, on what, and what can be said of it."""
    return [
        *_what(data, systems),
        *_ranking(systems, pairs),
        *_languages(systems, bilingual),
        *_not_answered(systems),
        *_cautions(data),
    ]


def _what(data: Data, systems: Sequence[System]) -> Iterator[str]:
    models = [system for system in systems if system.kind == "model"]
    baselines = len(systems) - len(models)
    compared = " and ".join(part for part in (_count(len(models), "system"), _count(baselines, "baseline")) if part)
    of = f" of {data.groups:,} groups" if data.groups < data.documents else ""
    yield f"{compared} answered {_count(len(data.fields), 'question')} about {_count(data.documents, 'document')}{of} ({data.name})."


def _ranking(systems: Sequence[System], pairs: Sequence[Pair]) -> Iterator[str]:
    models = [system for system in systems if system.kind == "model" and not isnan(system.medians["macro_f1"].value)]
    if not models:
        return
    best = max(models, key=lambda system: system.medians["macro_f1"].value)
    score = best.medians["macro_f1"]
    told = "no interval" if isnan(score.low) else f"95 % interval {interval(score)}"
    yield f"The highest median macro-F1 over the fields has {_named(best)}: {figure(score.value)} ({told})."
    by_number = {system.number: system for system in systems}
    outcome: dict[str, list[System]] = {"better": [], "equal": [], "worse": []}
    for pair in pairs:
        if best.number in (pair.a, pair.b):
            other = by_number[pair.b if pair.a == best.number else pair.a]
            key = "equal" if pair.better is None else "better" if pair.better == best.number else "worse"
            outcome[key].append(other)
    if outcome["equal"]:
        yield f"Not distinguishable from it: {_listed(outcome['equal'])}."
    if outcome["better"]:
        yield f"It is better than {_listed(outcome['better'])} (the 95 % interval of the difference lies above 0)."
    if outcome["worse"]:
        yield f"Better than it, without a language model: {_listed(outcome['worse'])}."


def _languages(systems: Sequence[System], bilingual: Sequence[Pair]) -> Iterator[str]:
    by_number = {system.number: system for system in systems}
    if len(bilingual) > _MANY:
        translated, native = (sum(pair.better == getattr(pair, side) for pair in bilingual) for side in ("a", "b"))
        equal = len(bilingual) - translated - native
        yield (
            f"Of {len(bilingual)} comparisons of translated with native, translated is better in {translated}, native in {native}; "
            f"{equal} are not distinguishable."
        )
        return
    for pair in bilingual:
        verdict = {None: "not distinguishable", pair.a: "translated is better", pair.b: "native is better"}[pair.better]
        difference = pair.differences["macro_f1"]
        shown = f"{signed(difference.value)}" + ("" if isnan(difference.low) else f", 95 % interval {interval(difference)}")
        yield f"Translated less native, {by_number[pair.a].model} with {by_number[pair.a].decoder}: {verdict} (macro-F1 {shown})."


def _not_answered(systems: Sequence[System]) -> Iterator[str]:
    if missing := [system for system in systems if system.missing]:
        counts = ", ".join(f"{system.missing:,} of {system.number} ({percent(system.medians['missing_rate'].value)})" for system in missing)
        yield f"Missing answers, which count as “no” (in brackets the median over the fields): {counts}."
    else:
        yield "No answer is missing."
    for status, words in (("failed", "failed"), ("absent", "have no record yet")):
        if unfinished := [f"{system.statuses[status]:,} of {system.number}" for system in systems if system.statuses.get(status)]:
            yield f"Documents that {words}: {', '.join(unfinished)}."


def _cautions(data: Data) -> Iterator[str]:
    if rare := [field.label for field in data.fields if field.positives < _FEW]:
        yield f"Fewer than {_FEW} documents are labelled yes, so figures say little: {', '.join(rare)}."
    if single := [field.label for field in data.fields if field.positives in (0, field.labelled)]:
        yield f"All labels are the same: {', '.join(single)}."


def _named(system: System) -> str:
    return f"{system.number} ({system.name})"


def _listed(systems: Sequence[System]) -> str:
    systems = sorted(systems, key=lambda system: system.number)
    if len(systems) > _MANY:
        return ", ".join(str(system.number) for system in systems)
    return ", ".join(_named(system) for system in systems)


def _count(number: int, noun: str) -> str:
    return "" if not number else f"{number:,} {noun}" + ("s" if number > 1 else "")
