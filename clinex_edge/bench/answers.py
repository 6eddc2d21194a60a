"""What a cell of a table says: yes, no, a number from 0 to 1, or nothing."""

import math
from decimal import Decimal
from typing import Any

from clinex_edge.documents.normalise import normalise
from clinex_edge.files.columns import kind_of

_WORDS = {
    **dict.fromkeys(("yes", "y", "true", "t", "positive", "بله", "بلی", "آری", "دارد", "درست", "صحیح", "مثبت"), True),
    **dict.fromkeys(("no", "n", "false", "f", "negative", "خیر", "نه", "ندارد", "نادرست", "غلط", "منفی"), False),
}
_NOTHING = {"", "nan", "nat", "null", "none", "na", "n/a", "<na>"}  # what programs write for a value that is missing
_LONGEST = 32  # characters; what is longer is none of these words
_SHOWN = 5  # characters; what is longer, or has letters, could be a patient's words


def is_blank(cell: Any) -> bool:
    """Whether a cell holds nothing, or what programs write for nothing."""
    if isinstance(cell, str):
        return _word(cell) in _NOTHING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def label(cell: Any) -> bool | None:
    """What a person says; None for an empty cell. Raises ValueError, whose message goes on where "column 'pain'" stood."""
    said = answer(cell)
    if isinstance(said, float):
        if said not in (0, 1):
            raise ValueError(_neither(cell))
        return said == 1
    return said


def answer(cell: Any) -> bool | float | None:
    """What a program says: a word, or a number from 0 to 1, which may be a probability; None for an empty cell.

    Raises ValueError as `label` does.
    """
    if isinstance(cell, bool):
        return cell
    if is_blank(cell):
        return None
    if isinstance(cell, str) and (word := _word(cell)) in _WORDS:
        return _WORDS[word]
    number = _number(cell)
    if number is None or not 0 <= number <= 1:
        raise ValueError(_neither(cell))
    return float(number)


def probability(cell: Any) -> float | None:
    """A number from 0 to 1; None for an empty cell. Raises ValueError as `label` does."""
    if is_blank(cell):
        return None
    number = None if isinstance(cell, bool) else _number(cell)
    if number is None or not 0 <= number <= 1:
        raise ValueError(f"holds {_shown(cell)}, which is no probability from 0 to 1")
    return float(number)


def _word(cell: str) -> str:
    if len(cell) > _LONGEST:
        return cell
    return normalise(cell).text.strip().casefold()


def _number(cell: Any) -> float | None:
    """0,5 is a half, as in many countries; Persian digits are digits."""
    if isinstance(cell, str):
        try:
            return float(_word(cell).replace(",", "."))
        except ValueError:
            return None
    if isinstance(cell, int):
        return cell
    return float(cell) if isinstance(cell, float | Decimal) else None


def _neither(cell: Any) -> str:
    return f"holds {_shown(cell)}, which is neither yes nor no"


def _shown(cell: Any) -> str:
    """A cell as a message may show it."""
    if not isinstance(cell, str | int | float | Decimal):
        return kind_of(cell)
    text = str(cell).strip()
    if len(text) == 1 or (len(text) <= _SHOWN and text.isprintable() and not any(character.isalpha() for character in text)):
        return f"'{text}'"
    return f"a text of {len(text):,} characters" if isinstance(cell, str) else kind_of(cell)
