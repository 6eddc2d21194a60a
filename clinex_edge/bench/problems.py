"""Everything that is wrong in a table, said at once."""

from pathlib import Path

from clinex_edge.errors import InputError
from clinex_edge.files.tables import Row

_SHOWN = 20
_ADVICE = "Correct them, then run the same command again."


class Problems:
    """Collects what is wrong in a table. A problem is a line without a word of a document."""

    def __init__(self, path: Path):
        self._path = path
        self._lines: list[str] = []

    def add(self, problem: str, row: Row | None = None) -> None:
        self._lines.append(f"row {row.place}: {problem}" if row else problem)

    def add_error(self, error: InputError) -> None:
        """One that names its row itself, or concerns the whole table."""
        self._lines.append(str(error).removeprefix(f"{self._path}, ").removesuffix("."))

    def raise_all(self, advice: str = _ADVICE) -> None:
        """Raises InputError where there are any; it shows the first twenty."""
        if not self._lines:
            return
        count = len(self._lines)
        shown = [f"  {line}" for line in self._lines[:_SHOWN]]
        if count > _SHOWN:
            shown.append(f"  and {count - _SHOWN:,} more")
        heading = f"{self._path} has {'a problem' if count == 1 else f'{count:,} problems'}:"
        raise InputError("\n".join([heading, *shown]), advice)
