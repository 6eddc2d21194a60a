"""The pictures of a report."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from math import floor, isfinite, log10, pi
from textwrap import fill
from typing import TYPE_CHECKING, Any

from clinex_edge.bench.report import drawing
from clinex_edge.bench.report.content import METRICS, STUDY, Pair, Report, System
from clinex_edge.bench.report.drawing import COLUMN, MM, OTHERS, STROKES, TALLEST, looks, nth_look
from clinex_edge.bench.report.numbers import figure as as_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ANGLES = [2 * pi * index / len(STUDY) for index in range(len(STUDY))]
_RATIOS = (0.1, 10)  # the axis of prediction ratios


@dataclass(frozen=True)
class Chart:
    """A picture in both forms; `caption` says in words what it shows. `is_wide` where it needs the width of a page."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    is_wide: bool


def charts(report: Report) -> Iterator[Chart]:
    """All pictures for which there is something to show, in the order of the report. Texts are outlines and need no font."""
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells when it looks for fonts
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(drawing.STYLE)
        for plan in _PLANS:
            if figure := plan.draw(report):
                svg, png = BytesIO(), BytesIO()
                figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
                figure.set_layout_engine("none")  # as it is now
                figure.savefig(png, format="png", dpi=300, metadata={"Software": None})
                text = svg.getvalue().decode("utf-8")
                yield Chart(plan.name, plan.title, plan.caption, text[text.index("<svg") :], png.getvalue(), figure.get_figwidth() > COLUMN)


def _radar(report: Report) -> "Figure":
    shapes = {s.number: [max(s.medians[metric].value, 0.0) for metric in STUDY] for s in report.systems}
    figure, panels = drawing.panels(len(report.systems), 0.95, projection="polar")
    for axis, system in zip(panels, report.systems, strict=True):
        axis.set_theta_zero_location("N")
        axis.set_theta_direction(-1)
        for number, values in shapes.items():
            is_own = number == system.number
            _ring(axis, values, **{"color": "black", "marker": "o", "markersize": 2.5, "zorder": 3} if is_own else OTHERS)
        if system.study:
            _ring(axis, [system.study[metric] for metric in STUDY], color="black", linestyle=(0, (2, 1.5)), linewidth=0.8, zorder=2)
        axis.set(ylim=(0, 1), title=drawing.title(system))
        axis.set_xticks(_ANGLES, ["Macro-F1", "MCC", "Sensi-\ntivity", "Speci-\nficity", "Preci-\nsion"], size=6)
        axis.set_yticks([0.2, 0.4, 0.6, 0.8, 1], [""] * 5)
        axis.tick_params(axis="x", pad=1)
        axis.grid(color="0.85", linewidth=0.5)
        axis.spines["polar"].set_color("0.6")
    return figure


def _ring(axis: "Axes", values: Sequence[float], **style: Any) -> None:
    axis.plot([*_ANGLES, _ANGLES[0]], [*values, values[0]], **style)


def _sensitivity_specificity(report: Report) -> "Figure":
    fields = report.data.fields
    figure, panels = drawing.panels(len(report.systems), 1.12)
    for axis, system in zip(panels, report.systems, strict=True):
        _guides(axis)
        for index, field in enumerate(fields):
            colour, marker, _ = nth_look(index)
            scores = system.fields[field.id]
            axis.plot(
                scores["specificity"].value, scores["sensitivity"].value, marker, color=colour, markersize=3.5,
                markeredgecolor="white", markeredgewidth=0.3, clip_on=False, zorder=3,
            )  # fmt: skip
        drawing.unit_square(axis, system)
    drawing.label(panels, "Specificity", "Sensitivity")
    drawing.legend(figure, [(field.label, nth_look(index)) for index, field in enumerate(fields)])
    return figure


def _guides(axis: "Axes") -> None:
    for draw in (axis.axhline, axis.axvline):
        draw(0.8, color="0.5", linewidth=0.6, linestyle="--", zorder=1)


def _mcc(report: Report) -> "Figure":
    figure, axis = _rows(report, "mcc", lambda value: value)
    scores = [s.fields[f.id]["mcc"] for s in report.systems for f in report.data.fields]
    lowest = min((end for score in scores for end in (score.value, score.low) if isfinite(end)), default=0.0)
    axis.set(xlim=(min(0, floor(5 * lowest) / 5), 1), xlabel="MCC")
    for row, field in enumerate(report.data.fields):
        if published := [system.mcc[field.id] for system in report.study]:
            axis.barh(row, max(published) - min(published), left=min(published), height=0.86, color="0.88", zorder=0)
    return figure


def _prediction_ratio(report: Report) -> "Figure":
    figure, axis = _rows(report, "prediction_ratio", lambda value: min(max(value, _RATIOS[0]), _RATIOS[1]))
    axis.set(xscale="log", xlim=_RATIOS, xlabel="Answered yes / labelled yes")
    axis.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axis.minorticks_off()
    axis.axvline(1, color="0.3", linewidth=0.7, zorder=1)
    return figure


def _missing(report: Report) -> "Figure | None":
    rates = [s.fields[f.id]["missing_rate"] for s in report.systems for f in report.data.fields]
    if not any(rate.value > 0 for rate in rates):
        return None
    highest = max(end for rate in rates for end in (rate.value, rate.high) if isfinite(end))
    figure, axis = _rows(report, "missing_rate", lambda value: 100 * value)
    axis.set(xlim=(0, max(5, min(100, 105 * highest))), xlabel="Missing, % of labelled documents")
    return figure


def _rows(report: Report, metric: str, placed: Callable[[float], float]) -> "tuple[Figure, Axes]":
    """A row for each field, in it a mark for each system with its interval; hollow where `placed` moved it to the edge."""
    from matplotlib.figure import Figure

    fields, systems, found = report.data.fields, report.systems, looks(report.systems)
    row = max(5.5, min(1.25 * (len(systems) + 1), TALLEST / len(fields))) * MM
    figure = Figure(figsize=(COLUMN, len(fields) * row + 12 * MM))
    axis = figure.add_subplot()
    for index, field in enumerate(fields):
        if index:
            axis.axhline(index - 0.5, color="0.8", linewidth=0.5, zorder=0)
        for place, system in enumerate(systems):
            score, look = system.fields[field.id][metric], found[system.number]
            height = index - 0.5 + (place + 1) / (len(systems) + 1)
            value = placed(score.value)
            is_moved = metric == "prediction_ratio" and value != score.value
            if isfinite(score.low):
                axis.plot([placed(score.low), placed(score.high)], [height, height], "-", color=look.colour, linewidth=0.5, zorder=2)
            axis.plot(
                value, height, look.marker, color=look.colour, markerfacecolor="white" if is_moved else look.colour,
                markersize=4.6 if look.marker in STROKES else 3.4, markeredgewidth=0.7, clip_on=False, zorder=3,
            )  # fmt: skip
    axis.set_yticks(range(len(fields)), [fill(field.label, 22) for field in fields])
    axis.set_ylim(len(fields) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="0.9", linewidth=0.5, zorder=0)
    axis.set_axisbelow(True)
    drawing.legend(figure, [(drawing.name(system), found[system.number]) for system in systems])
    return figure, axis


def _roc(report: Report) -> "Figure | None":
    systems = [system for system in report.systems if system.roc]
    if not systems:
        return None
    figure, panels = drawing.panels(len(systems), 1.12)
    for axis, system in zip(panels, systems, strict=True):
        axis.plot([0, 1], [0, 1], ":", color="0.5", linewidth=0.6)
        for other in systems:
            curve = other.roc if other is system else other.roc[::4]
            axis.plot(*zip(*curve, strict=True), **{"color": "black", "zorder": 3} if other is system else OTHERS)
        axis.text(0.96, 0.05, f"AUROC {as_text(system.medians['auroc'].value, 2)}", ha="right", size=6.5, zorder=4)
        drawing.unit_square(axis, system)
    drawing.label(panels, "1 − specificity", "Sensitivity")
    return figure


def _reliability(report: Report) -> "Figure | None":
    systems = [system for system in report.systems if system.reliability]
    if not systems:
        return None
    figure, panels = drawing.panels(len(systems), 1.12)
    for axis, system in zip(panels, systems, strict=True):
        axis.plot([0, 1], [0, 1], ":", color="0.5", linewidth=0.6)
        axis.plot([part.p_yes for part in system.reliability], [part.share for part in system.reliability], color="black", linewidth=0.8)
        for part in system.reliability:
            face = "black" if part.answers >= 20 else "white"
            axis.plot(part.p_yes, part.share, "o", color="black", markerfacecolor=face, markersize=3, clip_on=False, zorder=3)
        axis.text(0.04, 0.93, f"ECE {as_text(system.medians['ece'].value, 2)}", va="top", size=6.5, zorder=4)
        drawing.unit_square(axis, system)
    drawing.label(panels, "Probability of yes", "Share labelled yes")
    return figure


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (seconds, score) those that no other one beats in both, by seconds."""
    best, front = float("-inf"), []
    for seconds, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if score > best:
            front.append((seconds, score))
            best = score
    return front


def _speed_quality(report: Report) -> "Figure | None":
    from matplotlib.figure import Figure

    timed = {
        s.number: (s.latency.seconds.median, s.medians["macro_f1"])
        for s in report.systems
        if s.latency and s.latency.seconds.median > 0 and isfinite(s.medians["macro_f1"].value)
    }
    if not timed:
        return None
    found = looks(report.systems)
    shown = [s for s in report.systems if s.number in timed or s.kind == "baseline"]
    figure = Figure(figsize=(COLUMN, 62 * MM))
    axis = figure.add_subplot()
    front = pareto([(seconds, score.value) for seconds, score in timed.values()])
    if front:
        axis.plot(*zip(*front, strict=True), color="0.6", drawstyle="steps-post", linewidth=0.8, zorder=1)
    for system in shown:
        look, score = found[system.number], system.medians["macro_f1"]
        if system.number not in timed:
            axis.axhline(score.value, color=look.colour, linestyle=look.line, linewidth=0.7, zorder=1)
            continue
        seconds = timed[system.number][0]
        axis.plot([seconds, seconds], [score.low, score.high], "-", color=look.colour, linewidth=0.6, zorder=2)
        axis.plot(seconds, score.value, look.marker, color=look.colour, markersize=4.5, zorder=3)
    slowest, fastest = (pick(seconds for seconds, _ in timed.values()) for pick in (max, min))
    if slowest > 8 * fastest:
        axis.set(xscale="log", xlim=(10 ** (log10(fastest) - 0.15), 10 ** (log10(slowest) + 0.15)))
        _decimal_ticks(axis, *axis.get_xlim())
    else:
        axis.set_xlim(0, 1.15 * slowest)
    axis.set(ylim=(0, 1), xlabel="Seconds per document (median)", ylabel="Macro-F1 (median over the fields)")
    axis.grid(color="0.9", linewidth=0.5)
    axis.set_axisbelow(True)
    as_lines = {number: look if number in timed else look._replace(marker="") for number, look in found.items()}
    drawing.legend(figure, [(drawing.name(system), as_lines[system.number]) for system in shown])
    return figure


def _decimal_ticks(axis: "Axes", low: float, high: float) -> None:
    powers = range(int(log10(low)) - 2, int(log10(high)) + 2)
    ticks = [value for power, digit in product(powers, (1, 2, 5)) if low <= (value := digit * 10.0**power) <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def _bilingual(report: Report) -> "Figure | None":
    from matplotlib.figure import Figure

    if not report.bilingual:
        return None
    figure = Figure(figsize=(COLUMN, (16 * len(report.bilingual) + 12) * MM))
    axis = figure.add_subplot()
    names = {system.number: system for system in report.systems}
    reach = 0.1
    for index, pair in enumerate(report.bilingual):
        if index:
            axis.axhline(index - 0.5, color="0.8", linewidth=0.5, zorder=0)
        for place, metric in enumerate(STUDY):
            difference, look = pair.differences[metric], nth_look(place)
            height = index - 0.5 + (place + 1) / (len(STUDY) + 1)
            axis.plot([difference.low, difference.high], [height, height], "-", color=look.colour, linewidth=0.8)
            axis.plot(difference.value, height, look.marker, color=look.colour)
            reach = max([reach, *(abs(end) for end in (difference.low, difference.value, difference.high) if isfinite(end))])
    axis.axvline(0, color="0.3", linewidth=0.7, zorder=1)
    axis.set_yticks(range(len(report.bilingual)), [_pair_name(pair, names) for pair in report.bilingual])
    axis.set_ylim(len(report.bilingual) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="0.9", linewidth=0.5, zorder=0)
    axis.set(xlim=(-1.1 * reach, 1.1 * reach), xlabel="← native better      translated better →")
    drawing.legend(figure, [(METRICS[metric], nth_look(place)) for place, metric in enumerate(STUDY)])
    return figure


def _pair_name(pair: Pair, systems: dict[int, System]) -> str:
    a, b = systems[pair.a], systems[pair.b]
    return f"{fill(a.model or a.name, 18)}\n{a.decoder} ({a.number} − {b.number})"


@dataclass(frozen=True)
class _Plan:
    name: str
    title: str
    caption: str
    draw: "Callable[[Report], Figure | None]"


_PLANS = (
    _Plan(
        "radar", "Five medians",
        "Medians over the fields, from 0 in the centre to 1 at the rim, rings at 0.2, 0.4, 0.6, 0.8 (an MCC below 0 is drawn at 0). "
        "Grey: the other systems. Dashed: the study's figures of the same model.", _radar,
    ),
    _Plan(
        "sensitivity-specificity", "Sensitivity and specificity",
        "One mark for each field. Best is the upper right corner; dashed: 0.8.", _sensitivity_specificity,
    ),
    _Plan(
        "mcc", "MCC by field",
        "With 95 % intervals. Grey: from the lowest to the highest of the study's seven systems, on its own data.", _mcc,
    ),
    _Plan(
        "prediction-ratio", "Prediction ratio by field",
        "How many documents were answered yes, over how many are labelled yes, with 95 % intervals: 1 is as often as labelled. "
        "A hollow mark lies beyond the axis.", _prediction_ratio,
    ),
    _Plan("missing", "Missing answers by field", "Missing answers count as “no” in all scores.", _missing),
    _Plan(
        "roc", "ROC curves",
        "Mean over the fields that have both labels, of the answers that have a probability. Grey: the other systems. "
        "AUROC: median over the fields.", _roc,
    ),
    _Plan(
        "reliability", "Reliability",
        "All answers that have a probability, of all fields, in ten equal ranges of it; hollow: fewer than 20 answers. "
        "On the dotted line a probability means what it says. ECE: median over the fields.", _reliability,
    ),
    _Plan(
        "speed-quality", "Speed against quality",
        "With 95 % intervals. Grey steps: the systems that no other one beats in both (Pareto front). "
        "Lines across: baselines, which need next to no time.", _speed_quality,
    ),
    _Plan(
        "bilingual", "Translated against native",
        "Differences of the medians over the fields on the same documents, translated minus native, with 95 % intervals.", _bilingual,
    ),
)  # fmt: skip
NAMES = tuple(plan.name for plan in _PLANS)
