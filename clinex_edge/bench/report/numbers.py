"""Figures as people read them."""

from collections.abc import Mapping
from math import isnan, nan

from clinex_edge.bench.report.content import Estimate, Median

NOTHING = "–"


def figure(value: float | None, digits: int = 3) -> str:
    """With so many digits behind the point; a dash where there is none."""
    return NOTHING if value is None or isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    return NOTHING if isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def interval(estimate: Estimate, digits: int = 3) -> str:
    """Its ends; a dash where there are none."""
    return NOTHING if isnan(estimate.low) else f"{figure(estimate.low, digits)} to {figure(estimate.high, digits)}"


def with_quartiles(median: Median, digits: int = 3) -> str:
    """As the study has it: median [first quartile, third quartile]."""
    if isnan(median.value):
        return NOTHING
    return f"{figure(median.value, digits)} [{figure(median.q1, digits)}, {figure(median.q3, digits)}]"


def percent(share: float, digits: int = 1) -> str:
    return NOTHING if isnan(share) else f"{100 * share:.{digits}f} %"


def p_value(p: float) -> str:
    return NOTHING if isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float) -> str:
    """Three significant digits."""
    return NOTHING if isnan(value) else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def speed(speeds: Mapping[str, Mapping[str, float]], role: str, kind: str) -> str:
    """Tokens a second of the model in that role; a dash where it was not measured."""
    return seconds(speeds.get(role, {}).get(kind, nan))


def gigabytes(value: float) -> str:
    return NOTHING if isnan(value) else f"{value / 1e9:.2f}"
