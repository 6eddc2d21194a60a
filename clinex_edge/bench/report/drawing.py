"""What all pictures of a report share: their style, how systems are told apart, panels and legends.

Shapes, lines and places tell systems apart, so that pictures can be read without colours; sizes are those of print.
"""

from collections.abc import Sequence
from math import ceil
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from clinex_edge.bench.report.content import System

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MM = 1 / 25.4  # in inches, as matplotlib counts
COLUMN, PAGE, PANEL = 84 * MM, 170 * MM, 42 * MM  # widths
TALLEST = 175  # mm of rows, so that a picture fits a page
OTHERS: dict[str, Any] = {"color": "0.82", "linewidth": 0.6}  # the other systems, behind
STROKES = ("x", "+", "1", "2", "3", "4")  # of baselines
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.labelsize": 7,
    "axes.titlesize": 6.5, "xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "legend.fontsize": 6.5,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "lines.linewidth": 1.1, "lines.markersize": 4,
    "figure.constrained_layout.use": True, "svg.fonttype": "path", "svg.hashsalt": "clinex-edge", "text.parse_math": False,
}  # fmt: skip
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")  # Okabe and Ito 2008, without yellow
_MARKERS = ("o", "s", "^", "D", "v", "P", "<", "X", ">", "p", "h", "*", "8")
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


class Look(NamedTuple):
    """How a system or a field is drawn; without a marker as a line."""

    colour: str
    marker: str
    line: Any


def looks(systems: Sequence[System]) -> dict[int, Look]:
    """The look of each system, by its number; baselines are grey strokes."""
    models, baselines = ([s.number for s in systems if (s.kind == "baseline") == is_baseline] for is_baseline in (False, True))
    strokes = [Look("0.4", STROKES[index % len(STROKES)], _LINES[(index + 1) % len(_LINES)]) for index in range(len(baselines))]
    return dict(zip(models, map(nth_look, range(len(models))), strict=True)) | dict(zip(baselines, strokes, strict=True))


def nth_look(index: int) -> Look:
    """The index-th of some that are told apart, from 0."""
    return Look(_COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)], _LINES[index % len(_LINES)])


def panels(count: int, height: float, **subplot: Any) -> "tuple[Figure, list[Any]]":
    """A figure of small multiples; `height` of a panel is a part of its width."""
    from matplotlib.figure import Figure

    columns = _columns(count)
    rows = ceil(count / columns)
    width, panel = {1: (60 * MM, 60 * MM), 2: (COLUMN, PANEL), 4: (PAGE, PANEL)}[columns]
    figure = Figure(figsize=(width, rows * panel * height + 4 * MM))
    return figure, [figure.add_subplot(rows, columns, index + 1, **subplot) for index in range(count)]


def label(axes: "Sequence[Axes]", x: str, y: str) -> None:
    """Name the axes of panels, at the outer edges only."""
    columns = _columns(len(axes))
    for index, axis in enumerate(axes):
        axis.set(xlabel=x if index + columns >= len(axes) else "", ylabel=y if index % columns == 0 else "")


def unit_square(axis: "Axes", system: System) -> None:
    """Both axes from 0 to 1, and the system's name above."""
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=title(system))
    for set_ticks in (axis.set_xticks, axis.set_yticks):
        set_ticks(ticks, ["0", "0.2", "0.4", "0.6", "0.8", "1"])


def legend(figure: "Figure", entries: Sequence[tuple[str, Look]]) -> None:
    """Below the figure, which grows by it."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=4, linestyle="" if look.marker else look.line)
        for _, look in entries
    ]
    longest = max(len(name) for name, _ in entries)
    columns = min(len(entries), max(1, int(figure.get_figwidth() / ((8 + 1.25 * longest) * MM))))
    figure.set_figheight(figure.get_figheight() + (1 + 3.2 * ceil(len(entries) / columns)) * MM)
    figure.legend(
        handles, [name for name, _ in entries], loc="outside lower left", ncols=columns, frameon=False,
        handlelength=1.8, handletextpad=0.5, columnspacing=1.2, labelspacing=0.25, borderpad=0.2,
    )  # fmt: skip


def name(system: System, length: int = 44) -> str:
    """Its number and name, the model's own name shortened where it must be."""
    head, *rest = system.name.split(" · ")
    return f"{system.number}  " + " · ".join([_cut(head, max(8, length - sum(len(part) + 3 for part in rest))), *rest])


def title(system: System) -> str:
    """Its number and name in two lines at most, for a panel."""
    head, *rest = system.name.split(" · ")
    if rest:
        return f"{system.number}  {_cut(head, 20)}\n{_cut(' · '.join(rest), 27)}"
    return fill(f"{system.number}  {head}", 23, max_lines=2, placeholder=" …")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _columns(count: int) -> int:
    return 1 if count == 1 else 2 if count <= 6 else 4
