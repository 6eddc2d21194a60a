"""The report as Markdown, CSV and JSON. None of them holds text of a document."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from io import StringIO
from math import isnan
from typing import Any

from clinex_edge.bench.report.content import METRICS, STUDY, Pair, Report, System
from clinex_edge.bench.report.figures import Chart
from clinex_edge.bench.report.numbers import figure, gigabytes, interval, percent, seconds, signed, with_quartiles

COMPARABILITY = (
    "The study's figures stand here for orientation. Ours are of other documents, of models in another precision (the study's were not "
    "quantised), and with prompts of our own, so a difference between the two does not show which is better."
)


def as_markdown(report: Report, charts: Sequence[Chart]) -> str:
    """For people; pictures are linked from the folder `figures` beside it."""
    data = report.data
    parts = [
        f"# Benchmark on {_cell(data.name)}",
        "\n".join(f"- {_cell(sentence)}" for sentence in report.summary),
        "## Medians over the fields",
        "Median [quartiles] and, below, its 95 % interval.",
        _table(["", "System", *(METRICS[metric] for metric in STUDY), "Missing"], map(_median_row, report.systems)),
    ]
    if report.study:
        rows = (
            [system.title, *(figure(system.medians[metric], 2 if metric == "precision" else 3) for metric in STUDY)]
            for system in report.study
        )
        parts += ["## The study's figures (arXiv 2602.21374)", COMPARABILITY, _table(["Model", *(METRICS[m] for m in STUDY)], rows)]
    parts += [
        "## Differences",
        "Medians over the fields on the same documents, first minus second. Intervals are for one pair: of 20 pairs of equal systems, one "
        "is expected to differ by chance.",
        _table(["Pair", "Macro-F1", "95 % interval", "MCC", "95 % interval", "Kappa", "Better"], map(_pair_row, report.pairs)),
    ]
    if timed := [system for system in report.systems if system.latency]:
        names = ["", "Seconds (median)", "95th percentile", "Translating", "Extracting", "Documents an hour", "Memory, GB", "CPU seconds"]
        parts += ["## Time and memory, for each document", _table(names, map(_latency_row, timed))]
    columns = ["Field", "Labelled", "Yes", *(str(system.number) for system in report.systems)]
    for metric in ("macro_f1", "mcc"):
        rows = (
            [field.label, str(field.labelled), str(field.positives), *(figure(s.fields[field.id][metric].value) for s in report.systems)]
            for field in data.fields
        )
        parts += [f"## {METRICS[metric]} by field", _table(columns, rows)]
    parts += [f"## {chart.title}\n\n![{chart.title}](figures/{chart.name}.svg)\n\n{chart.caption}" for chart in charts]
    parts.append(f"clinex-edge {report.version}, {report.created} UTC; data sha256 {data.sha256}.")
    return "\n\n".join(parts) + "\n"


def as_csv(report: Report) -> str:
    """A row for each system, field and metric; an empty field stands for the median over the fields."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["system", "name", "condition", "decoder", "field", "metric", "value", "low", "high", "q1", "q3"])
    for system in report.systems:
        head = [system.number, f"{system.number} {system.name}", system.condition, system.decoder]
        for metric, median in system.medians.items():
            writer.writerow([*head, "", metric, *map(_number, (median.value, median.low, median.high, median.q1, median.q3))])
        for field, scores in system.fields.items():
            for metric, score in scores.items():
                writer.writerow([*head, field, metric, *map(_number, (score.value, score.low, score.high)), "", ""])
    return text.getvalue()


def as_json(report: Report) -> str:
    """Everything but the texts; null where there is no figure."""
    content = asdict(report)
    for system in content["systems"]:
        for error in system["errors"]:
            del error["text"], error["translation"]
    return json.dumps(_without_nan(content), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _median_row(system: System) -> list[str]:
    cells = [f"{with_quartiles(system.medians[metric])}<br>{interval(system.medians[metric])}" for metric in STUDY]
    return [str(system.number), system.name, *cells, percent(system.medians["missing_rate"].value)]


def _pair_row(pair: Pair) -> list[str]:
    found = [text for m in ("macro_f1", "mcc") for text in (signed(pair.differences[m].value), interval(pair.differences[m]))]
    return [f"{pair.a} − {pair.b}", *found, figure(pair.kappa, 2), "not distinguishable" if pair.better is None else str(pair.better)]


def _latency_row(system: System) -> list[str]:
    took = system.latency
    assert took
    spent = (took.seconds.median, took.seconds.p95, took.translate.median, took.extract.median, took.documents_per_hour)
    return [str(system.number), *map(seconds, spent), gigabytes(took.peak_bytes), seconds(took.cpu_s)]


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """No letter of it means anything to Markdown but `<br>`."""
    for sign in "\\`*_[]|<>#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("\\<br\\>", "<br>").split())


def _number(value: float) -> float | str:
    return "" if isnan(value) else round(value, 6)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value
