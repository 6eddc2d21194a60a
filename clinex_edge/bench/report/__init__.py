"""The report of a benchmark, from its folder alone: HTML, Markdown, CSV, JSON and pictures."""

from collections.abc import Sequence
from pathlib import Path

from clinex_edge.atomic import replaced_privately, write_private
from clinex_edge.bench.report.assemble import assemble
from clinex_edge.bench.report.figures import NAMES, charts
from clinex_edge.bench.report.page import as_html
from clinex_edge.bench.report.text import as_csv, as_json, as_markdown
from clinex_edge.errors import OutputError


def write_report(folder: Path, benches: Sequence[Path], with_text: bool) -> Path:
    """Write report.html, report.md, report.csv, report.json and figures/ into `folder` and return the path of the first.

    `with_text` puts the texts of confidently misread documents, and their ids, into the HTML. All files are readable by their owner only.
    Raises UsageError where the benchmarks are of different documents or have no answers yet, RunError and InputError where they are
    damaged, OutputError where the report cannot be written.
    """
    report = assemble(benches, with_text)
    pictures = list(charts(report))
    files = {
        "report.md": as_markdown(report, pictures),
        "report.csv": "\ufeff" + as_csv(report),  # Excel takes a file without this mark for something other than UTF-8
        "report.json": as_json(report),
        "report.html": as_html(report, pictures),
    }
    try:
        (folder / "figures").mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in [*(folder / "figures").glob("*.svg"), *(folder / "figures").glob("*.png")]:
            if old.stem in NAMES:
                old.unlink()
        for picture in pictures:
            write_private(folder / "figures" / f"{picture.name}.svg", picture.svg)
            with replaced_privately(folder / "figures" / f"{picture.name}.png") as draft:
                draft.write_bytes(picture.png)
        for name, text in files.items():
            write_private(folder / name, text)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.", "Name another folder with --to.") from error
    return folder / "report.html"
