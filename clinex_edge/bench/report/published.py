"""The published figures of the study, for comparison."""

from pathlib import Path

from clinex_edge import _toml
from clinex_edge.bench.report.content import StudySystem


def study() -> list[StudySystem]:
    """The systems of the study (published.toml says where the figures come from)."""
    text = Path(__file__).with_name("published.toml").read_text(encoding="utf-8")
    data = _toml.loads(text)
    return [
        StudySystem(**row, mcc={name: values[index] for name, values in data["mcc"].items()}) for index, row in enumerate(data["systems"])
    ]
