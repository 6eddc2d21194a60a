"""Text in reading order, from glyphs at their places on a page.

A page has no words and no order, only shapes. Lines follow one another as they were drawn; within a line, what is read first is found
from where it stands, by running Unicode's bidirectional algorithm (UAX 9) backwards.
"""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from clinex_edge.documents.language import detect
from clinex_edge.documents.normalise import ZWNJ

UNKNOWN = "\ufffd"

_SAME_LINE = 0.5  # these are parts of the font size
_SPACE = 0.15
_CELL = 1.0
_STEP = 0.05, 0.9  # from letter to letter down a slope
_SLOPING = 0.1  # of the pairs of letters
_TWICE = 0.08  # bold letters are sometimes made by showing them twice
_AT_AN_END = 0.1  # of the times that a shape is shown
_NEVER_JOINED_TO_THE_NEXT = set("ءآأؤإاةدذرزوٱۀڈڑژۇۆۈۋەٵ")
_BRACKETS = {**dict(zip("([{«", ")]}»", strict=True)), **dict(zip(")]}»", "([{«", strict=True))}
_ENDS_OF_SENTENCE = set(".:;,!?")
_OPENING = set("([{«")
_FREQUENT = ("از", "در", "را", "این", "است", "که", "با", "هم", "برای")
_LEFT_TO_RIGHT, _RIGHT_TO_LEFT, _NUMBER, _NEUTRAL = "L", "R", "N", ""
_KIND = {"L": _LEFT_TO_RIGHT, "R": _RIGHT_TO_LEFT, "AL": _RIGHT_TO_LEFT, "EN": _NUMBER, "AN": _NUMBER}


@dataclass(frozen=True)
class Glyph:
    """One shape: what it stands for (in the order of speech), and its place. Lengths are in points.

    Without a text it is a further part of the glyph that stands within it. `left` and `right` are measured along the line of text and
    `baseline` across it; `direction` is that of the line, a unit vector.
    """

    text: str
    shape: Hashable
    left: float
    right: float
    baseline: float
    size: float
    direction: tuple[float, float] = (1.0, 0.0)
    is_mirrored: bool = False  # where it is a bracket: read from the right

    @cached_property
    def middle(self) -> float:
        return (self.left + self.right) / 2

    @cached_property
    def kind(self) -> str:
        kinds = (_KIND.get(unicodedata.bidirectional(character), _NEUTRAL) for character in self.text)
        return next(filter(None, kinds), _NEUTRAL)


_Line = list[Glyph]


def reading_order(glyphs: Sequence[Glyph]) -> str:
    """The text of a page whose glyphs are given in the order in which they were drawn.

    Cells of a table are separated by tabs. Letters are plain ones, not presentation forms; where the shape of a Persian letter shows that
    it is not joined to the next one of its word, ZWNJ stands between them.
    """
    is_persian = detect("".join(glyph.text for glyph in glyphs)) == "fa"
    ordered = [glyph for line in _lines(glyphs) for glyph in _read(line, is_persian)]
    return "".join(_plain(glyph.text) for glyph in _parted(_facing(ordered))).removesuffix("\n")


def is_backwards(text: str) -> bool:
    """Whether Persian words are spelt from their ends more often than from their beginnings."""
    words = Counter(text.split())
    return sum(words[word[::-1]] for word in _FREQUENT) > sum(words[word] for word in _FREQUENT)


def is_sloping(glyphs: Sequence[Glyph]) -> bool:
    """Whether Persian words run down a slope, as they do in Nastaliq, so that letters of one line are at different heights."""
    steps = [
        abs(one.baseline - other.baseline) / one.size
        for one, other in pairwise(glyphs)
        if one.kind == other.kind == _RIGHT_TO_LEFT and abs(one.middle - other.middle) < one.size
    ]
    return sum(_STEP[0] < step < _STEP[1] for step in steps) > _SLOPING * len(steps)


def _lines(glyphs: Sequence[Glyph]) -> Iterator[_Line]:
    line: _Line = []
    for glyph in glyphs:
        if line:
            near = _SAME_LINE * max(glyph.size, line[-1].size)
            if glyph.direction != line[-1].direction or abs(glyph.baseline - line[-1].baseline) > near:
                yield line
                line = []
        line.append(glyph)
    if line:
        yield line


def _read(line: _Line, on_persian_page: bool) -> Iterator[Glyph]:
    to_the_left = _is_from_right(line, on_persian_page)
    cells = _cells(line)
    for number, cell in enumerate(reversed(cells) if to_the_left else cells):
        if number:
            yield _sign("\t", cell[0])
        yield from _from_right(cell) if to_the_left else _from_left(cell)
    yield _sign("\n", line[-1])


def _is_from_right(line: _Line, on_persian_page: bool) -> bool:
    letters = Counter(glyph.kind for glyph in line)
    if letters[_RIGHT_TO_LEFT] or not on_persian_page:
        return on_persian_page or letters[_RIGHT_TO_LEFT] > letters[_LEFT_TO_RIGHT]
    return max(line, key=lambda glyph: glyph.middle).text not in _ENDS_OF_SENTENCE


def _cells(line: _Line) -> list[_Line]:
    """The glyphs from left to right, with spaces where they stand apart, in pieces that stand far apart."""
    cells: list[_Line] = []
    end = -math.inf
    for glyph in _placed(line):
        gap = (glyph.left - end) / glyph.size
        if gap > _CELL:
            cells.append([])
        elif gap > _SPACE and not (glyph.text.isspace() or cells[-1][-1].text.isspace()):
            cells[-1].append(_sign(" ", glyph))
        cells[-1].append(glyph)
        end = max(end, glyph.right)
    return cells


def _placed(line: _Line) -> _Line:
    """The glyphs from left to right, each once, with marks as parts of the letters that they stand on."""
    placed: _Line = []
    marks: _Line = []
    for glyph in sorted(line, key=lambda glyph: glyph.middle):
        if not glyph.text:
            if not any(glyph.left <= other.middle <= glyph.right for other in line if other.text):
                placed.append(replace(glyph, text=UNKNOWN))
        elif all(unicodedata.category(character) == "Mn" for character in glyph.text):
            marks.append(glyph)
        elif not any(_is_twice(glyph, other) for other in placed[-3:]):
            placed.append(glyph)
    for mark in marks if placed else ():
        at = min(range(len(placed)), key=lambda index: abs(placed[index].middle - mark.middle))
        placed[at] = replace(placed[at], text=placed[at].text + mark.text)
    return placed


def _is_twice(one: Glyph, other: Glyph) -> bool:
    return one.shape == other.shape and one.text == other.text and one.right > one.left and abs(one.left - other.left) < _TWICE * one.size


def _sign(text: str, at: Glyph) -> Glyph:
    return replace(at, text=text, shape=None)


# --- directions ----------------------------------------------------------------------------------------------------


def _from_left(line: _Line) -> _Line:
    """A line that is read from the left, whose Persian parts are turned round."""
    read: _Line = []
    for part in _parts(line, _LEFT_TO_RIGHT):
        inner = [at for at, glyph in enumerate(part) if glyph.kind == _RIGHT_TO_LEFT]
        start, end = (inner[0], inner[-1] + 1) if inner else (0, 0)
        read += [*part[:start], *_from_right(part[start:end]), *part[end:]]
    return read


def _from_right(line: _Line) -> _Line:
    """A line that is read from the right, in which numbers and Latin parts keep their direction."""
    pieces: list[_Line] = []
    parts = list(_parts(line, _RIGHT_TO_LEFT))
    for at, part in enumerate(parts):
        pieces += _pieces(part, after_persian=at + 1 < len(parts))
    return [
        replace(glyph, is_mirrored=True) if len(piece) == 1 and glyph.text in _BRACKETS else glyph
        for piece in reversed(pieces)
        for glyph in piece
    ]


def _parts(line: _Line, kind: str) -> Iterator[_Line]:
    """The line cut so that each glyph of this kind is a part of its own."""
    part: _Line = []
    for glyph in line:
        if glyph.kind == kind:
            if part:
                yield part
            yield [glyph]
            part = []
        else:
            part.append(glyph)
    if part:
        yield part


def _pieces(part: _Line, after_persian: bool) -> list[_Line]:
    """A part without Persian, from left to right, in pieces that are each read from the left."""
    pairs = _pairs([glyph.text for glyph in part])
    paired = {at for pair in pairs for at in pair}
    pieces: list[_Line] = []
    start = 0
    for at, glyph in enumerate(part):
        if glyph.text in _BRACKETS and at not in paired:  # its other one stands where Persian has it
            pieces += [*_latin(part[start:at], after_persian), [glyph]]
            start = at + 1
    return pieces + _latin(part[start:], after_persian)


def _latin(part: _Line, after_persian: bool) -> list[_Line]:
    """All from the left end to the rightmost Latin letter is one piece.

    A number on the right of that is ambiguous, as "Tramadol 50" and "50 mg" look alike within Persian. It goes behind a word that starts
    with a capital, as a name does, and before any other, as before a unit.
    """
    latin = [at for at, glyph in enumerate(part) if glyph.kind == _LEFT_TO_RIGHT]
    if not latin:
        return _numbers(part, after_persian)
    start = next(at for at, glyph in enumerate(part) if glyph.kind)
    end = _end_of_number(part, latin[-1] + 1, apart=_last_word(part[: latin[-1] + 1])[0].text[:1].isupper())
    for first, last in _pairs([glyph.text for glyph in part]):
        if first < end and last >= start:
            start, end = min(start, first), max(end, last + 1)
    return [*([glyph] for glyph in part[:start]), part[start:end], *_numbers(part[end:], after_persian)]


def _last_word(part: _Line) -> _Line:
    start = max((at + 1 for at, glyph in enumerate(part) if glyph.kind != _LEFT_TO_RIGHT), default=0)
    return part[start:]


def _end_of_number(part: _Line, start: int, apart: bool) -> int:
    """Where a number ends that begins here, or behind spaces and a bracket where it may stand `apart`; `start` where there is none."""
    end = start
    for at in range(start, len(part)):
        text = part[at].text
        if part[at].kind == _NUMBER:
            end = at + 1
        elif text not in ("-", ".", "/", ",", ":", "٫") and not (apart and end == start and (text.isspace() or text in _OPENING)):
            break
    return end


def _numbers(part: _Line, after_persian: bool) -> list[_Line]:
    """Numbers are pieces. Behind Persian a hyphen parts two of them, as it does for those who show the text."""
    within = ".,/:٫٬" if after_persian else ".,/:٫٬-+"
    pieces: list[_Line] = []
    for at, glyph in enumerate(part):
        if at and glyph.kind == _NUMBER and part[at - 1].kind == _NUMBER:
            pieces[-1].append(glyph)
        elif at > 1 and glyph.kind == part[at - 2].kind == _NUMBER and part[at - 1].text in within:
            joint = pieces.pop()
            pieces[-1] += [*joint, glyph]
        else:
            pieces.append([glyph])
    return pieces


# --- letters -------------------------------------------------------------------------------------------------------


def _facing(read: _Line) -> _Line:
    """Brackets as they were typed: some programs name those within Persian by what they look like."""
    signs = [glyph.text for glyph in read if glyph.is_mirrored]
    if len(_pairs([_BRACKETS[sign] for sign in signs])) <= len(_pairs(signs)):
        return read
    return [replace(glyph, text=_BRACKETS[glyph.text]) if glyph.is_mirrored else glyph for glyph in read]


def _pairs(signs: Sequence[str]) -> list[tuple[int, int]]:
    """Where brackets open and where they close again."""
    found: list[tuple[int, int]] = []
    waiting: list[int] = []
    for at, sign in enumerate(signs):
        if sign in _OPENING:
            waiting.append(at)
        elif waiting and _BRACKETS.get(sign) == signs[waiting[-1]]:
            found.append((waiting.pop(), at))
    return found


def _parted(read: _Line) -> Iterator[Glyph]:
    """ZWNJ between letters of which the one has the shape of a word's end and the other that of a beginning, though the word goes on."""
    shown: Counter[Hashable] = Counter()
    first: Counter[Hashable] = Counter()
    last: Counter[Hashable] = Counter()
    shapes: defaultdict[str, set[Hashable]] = defaultdict(set)
    for before, glyph, after in zip([None, *read], read, [*read[1:], None], strict=False):
        shown[glyph.shape] += 1
        first[glyph.shape] += not (before and _is_letter(before.text[-1]))
        last[glyph.shape] += not (after and _is_letter(after.text[0]))
        shapes[glyph.text].add(glyph.shape)

    def is_at_an_end(glyph: Glyph, ends: Counter[Hashable]) -> bool:
        return len(shapes[glyph.text]) > 1 and ends[glyph.shape] > _AT_AN_END * shown[glyph.shape]

    for glyph, after in zip(read, [*read[1:], None], strict=False):
        yield glyph
        if after and _is_letter(glyph.text[-1]) and _is_letter(after.text[0]) and _plain(glyph.text)[-1] not in _NEVER_JOINED_TO_THE_NEXT:
            form = unicodedata.decomposition(glyph.text[-1]).partition(" ")[0]
            if form in ("<final>", "<isolated>") or (not form and is_at_an_end(glyph, last) and is_at_an_end(after, first)):
                yield _sign(ZWNJ, glyph)


def _plain(text: str) -> str:
    """Without presentation forms."""
    return "".join(unicodedata.normalize("NFKC", sign).strip() if "\ufb50" <= sign <= "\ufefc" else sign for sign in text)


def _is_letter(character: str) -> bool:
    return character.isalpha() and unicodedata.bidirectional(character) == "AL"
