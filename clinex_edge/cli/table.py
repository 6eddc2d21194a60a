"""A record as a table in the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clinex_edge.pipeline.record import Feature, Record
from clinex_edge.tasks import Task

_BAR = 20  # characters


def show(record: Record, task: Task) -> None:
    """Print the answers, and below them whatever calls for a second look. Document text is not printed."""
    console = Console(highlight=False)
    table = Table(title=Text(_title(record), "bold"), title_justify="left", pad_edge=False)
    table.add_column("Field", no_wrap=True)
    table.add_column("Answer", no_wrap=True)
    table.add_column("p(yes)", justify="right", no_wrap=True)
    table.add_column("", width=_BAR, no_wrap=True)
    for field in task.fields:
        table.add_row(field.label.get("en", field.id), *_cells(record.features[field.id]))
    console.print(table)
    for reason in dict.fromkeys(f.reason for f in record.features.values() if f.reason):
        console.print(f"Unanswered: {reason}", style="yellow")
    if turns := record.doubtful_turns:
        numbers = ", ".join(map(str, turns))
        console.print(f"Doubtful translation of {len(turns)} of {len(record.translation)} turns ({numbers}): check these.", style="yellow")
    if len(record.windows) > 1:
        console.print(f"Read in {len(record.windows)} overlapping windows; yes if any of them says yes.", style="dim")


def _title(record: Record) -> str:
    seconds = sum(value for name, value in record.timings.items() if name.endswith("_s"))
    return f"{record.id} · {record.language} · {seconds:.1f} s"


def _cells(feature: Feature) -> tuple[Text, str, Text]:
    if feature.value is None or feature.p_yes is None:
        return Text("unanswered", "bold yellow"), "", Text("")
    filled = round(feature.p_yes * _BAR)
    yes = feature.value == "yes"
    bar = Text("█" * filled, "red" if yes else "dim") + Text("·" * (_BAR - filled), "dim")
    return Text(feature.value, "bold red" if yes else "dim"), f"{feature.p_yes:.2f}", bar
