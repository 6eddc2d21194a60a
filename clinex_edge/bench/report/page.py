"""The report as one HTML file that needs nothing else: no network, no script, no font."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinex_edge.bench.report import numbers
from clinex_edge.bench.report.content import METRICS, STUDY, Report
from clinex_edge.bench.report.figures import Chart
from clinex_edge.bench.report.text import COMPARABILITY
from clinex_edge.documents.language import detect

_FOLDER = Path(__file__).parent


def as_html(report: Report, charts: Sequence[Chart]) -> str:
    """The whole page; pictures are in it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = ("figure", "signed", "interval", "with_quartiles", "percent", "p_value", "seconds", "speed", "gigabytes")
    environment.filters |= {name: getattr(numbers, name) for name in shown} | {"image": _image, "language": _language, "facts": _facts}
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        report=report,
        charts={chart.name: chart for chart in charts},
        style=Markup(style),  # noqa: S704  (our own file)
        style_sha256=digest,
        metrics=METRICS,
        study=STUDY,
        comparability=COMPARABILITY,
        systems={system.number: system for system in report.systems},
        pairs={(pair.a, pair.b): pair for pair in report.pairs},
        by_number=sorted(report.systems, key=lambda system: system.number),
        labels={field.id: field.label for field in report.data.fields},
    )


def _image(chart: Chart) -> str:
    return f"data:image/svg+xml;base64,{b64encode(chart.svg.encode()).decode()}"


def _language(text: str) -> str:
    return detect(text)


def _facts(value: Any, path: str = "") -> list[tuple[str, str]]:
    """What a nested object holds, as (name, text) in its own order."""
    if isinstance(value, dict):
        return [fact for key, item in value.items() for fact in _facts(item, f"{path} · {key}" if path else str(key))]
    if isinstance(value, (list, tuple)):
        return [(path, ", ".join(map(str, value)))]
    return [] if value is None else [(path, str(value))]
