"""Persian text as a model should see it, with the way back to the source.

Letters typed on an Arabic keyboard, presentation forms, diacritics, invisible characters and the three sets of digits are
folded into one spelling. Only models read the result; offsets in records always refer to the source as read.
"""

import unicodedata
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

ZWNJ = "\u200c"

_FOLD = {
    **dict.fromkeys("يى", "ی"),
    "ك": "ک",
    "ة": "ه",
    "ۀ": "ه",
    "ـ": "",  # tatweel
    "…": "...",
    "٫": ".",
    "٬": ",",
    "：": ":",
    **dict.fromkeys("\u200b\u200d\u00ac", ZWNJ),  # typed or pasted in place of ZWNJ
    **dict.fromkeys("\u00ad\u200e\u200f\u061c\ufeff\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", ""),
    **{chr(0x0660 + d): str(d) for d in range(10)},
    **{chr(0x06F0 + d): str(d) for d in range(10)},
}


@dataclass(frozen=True)
class Normalised:
    """`text` for the model; `origin[i]` is the index in the source of the code point that gave `text[i]`."""

    text: str
    origin: tuple[int, ...]
    source_length: int

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """The half-open span of the source that `text[start:end]` came from. An empty span stays empty."""
        if start >= end:
            at = self.origin[start] if start < len(self.origin) else self.source_length
            return at, at
        end = bisect_right(self.origin, self.origin[end - 1])  # all that the last character gave
        return self.origin[start], self.origin[end] if end < len(self.origin) else self.source_length

    def normalised_span(self, start: int, end: int) -> tuple[int, int]:
        """The half-open span of `text` that came from the source's `[start, end)`."""
        return bisect_left(self.origin, start), bisect_left(self.origin, end)


def _fold(char: str) -> str:
    if char in _FOLD:
        return _FOLD[char]
    if "\u064b" <= char <= "\u0655" or char == "\u0670":  # vowel signs and hamza marks
        return ""
    if "\ufb50" <= char <= "\ufdff" or "\ufe70" <= char <= "\ufefc":  # Arabic presentation forms
        return "".join(map(_fold, unicodedata.normalize("NFKC", char).strip()))
    category = unicodedata.category(char)
    if char != "\n" and char.isspace():
        return " "
    if category == "Cc" and char != "\n":
        return ""
    return char


def normalise(source: str) -> Normalised:
    """Fold `source` for a model. Runs of spaces become one; ZWNJ stays only between two letters."""
    text: list[str] = []
    origin: list[int] = []
    for index, char in enumerate(source):
        if text and char in "\u0653\u0654\u0655" and len(composed := unicodedata.normalize("NFC", source[origin[-1]] + char)) == 1:
            text[-1] = _fold(composed) or text[-1]
            continue
        for folded in _fold(char):
            if text and text[-1] == ZWNJ and not folded.isalpha() and folded != ZWNJ:
                text.pop(), origin.pop()
            previous = text[-1] if text else "\n"
            if folded in (" ", ZWNJ) and previous in (" ", "\n", ZWNJ):
                continue
            if folded == ZWNJ and not previous.isalpha():
                continue
            text.append(folded)
            origin.append(index)
    while text and text[-1] in (" ", ZWNJ):
        text.pop(), origin.pop()
    return Normalised("".join(text), tuple(origin), len(source))
