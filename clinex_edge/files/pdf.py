"""The text layer of .pdf files: all of it, or an error."""

import logging
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pdfminer import settings
from pdfminer.pdfdevice import PDFTextDevice
from pdfminer.pdfdocument import PDFDocument, PDFEncryptionError
from pdfminer.pdffont import PDFFont, PDFUnicodeNotDefined
from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
from pdfminer.pdfpage import PDFPage
from pdfminer.pdfparser import PDFParser, PDFSyntaxError
from pdfminer.pdftypes import PDFObjectNotFound, PDFStream, dict_value, list_value, resolve1
from pdfminer.psparser import PSLiteral
from pdfminer.utils import Matrix, decode_text

from clinex_edge.documents.document import MAX_CHARACTERS
from clinex_edge.documents.normalise import ZWNJ
from clinex_edge.errors import InputError
from clinex_edge.files.glyphs import UNKNOWN, Glyph, is_backwards, is_sloping, reading_order

settings.STRICT = True  # an error where it would guess

_BYTES = 200_000_000
_UNPACKED = 1_000_000_000  # bytes
_PIECE = 1 << 20
_FEW_LETTERS = 100
_SCAN = 700_000  # pixels: a page of paper at 90 to the inch
_MOST_DRAWN = 20_000  # pictures and forms on a page
_HARMLESS = ("color", "FontBBox", "CropBox")  # what pdfminer complains of though no text depends on it

_SAVE = "Open it in its own program and save it as plain text."
_OCR = "A scanned page is a picture: run text recognition (OCR) over it first."
_PRINT = "Open it, print it into a new PDF, and read that one; or save it as plain text."
_SAVE_WORD = "Open it in Word and save it as .docx, or copy its text into a plain text file."


def text_of_pdf(path: Path) -> str:
    """The text of all pages, lines in the order in which they were drawn.

    Raises InputError where a page shows text that its text layer does not hold (a picture, a field that was filled in) or does not
    hold in an order that can be found, and errors of pdfminer and zlib where the file is damaged.
    """
    if path.stat().st_size > _BYTES:
        raise InputError(f"{path} is larger than {_BYTES // 1_000_000} MB.", _SAVE)
    with _complaints() as complaints:
        data = path.read_bytes()
        _check_streams(data, path)
        document = _opened(data, path)
        pages: list[str] = []
        manager = _Resources()
        for number, page in enumerate(PDFPage.create_pages(document), 1):
            pages.append(_page_text(page, manager, f"{path}, page {number}"))
            if sum(map(len, pages)) > MAX_CHARACTERS:
                break
        else:
            if dict_value(document.catalog["Pages"])["Count"] != len(pages):
                raise InputError(f"{path} is damaged: it should have another number of pages.", _SAVE)
    if complaints:
        raise InputError(f"{path} is damaged, or made in a way that may hide some of its text.", _PRINT)
    text = "\n".join(pages)
    if is_backwards(text):
        raise InputError(f"{path} shows Persian words from their ends to their beginnings.", _SAVE_WORD)
    return text


def _opened(data: bytes, path: Path) -> PDFDocument:
    try:
        document = _Document(PDFParser(BytesIO(data)), fallback=False)
    except PDFEncryptionError:
        document = None
    if document is None or document.encryption:
        raise InputError(f"{path} is protected by a password or against copying.", _PRINT)
    if "XFA" in dict_value(document.catalog.get("AcroForm", {})):
        raise InputError(f"{path} is a form that only some programs can show.", _PRINT)
    return document


def _check_streams(data: bytes, path: Path) -> None:
    """Compare every compressed stream with its checksum, which pdfminer passes over. Raises InputError, and zlib.error."""
    left = _UNPACKED
    for stream in re.finditer(rb"stream\r?\n(?=[\x08-\x78])", data):
        start = stream.end()
        if data[start] & 15 != 8 or int.from_bytes(data[start : start + 2], "big") % 31:
            continue  # not compressed, or in another way
        unpacker, packed = zlib.decompressobj(), data[start : data.find(b"endstream", start)]
        while not unpacker.eof:
            piece = unpacker.decompress(packed, _PIECE)
            packed = unpacker.unconsumed_tail
            if not (piece or packed or unpacker.eof):
                raise zlib.error
            left -= len(piece)
            if left < 0:
                raise InputError(f"{path} would be larger than {_UNPACKED // 1_000_000} MB unpacked.", _SAVE)


def _page_text(page: PDFPage, manager: PDFResourceManager, name: str) -> str:
    """Raises InputError where the page shows text that is not in its text layer."""
    if any(_is_written_on(dict_value(annotation)) for annotation in list_value(page.annots or [])):
        raise InputError(f"{name} has text in fields or in notes on top of it.", _PRINT)
    shown = _Shown(manager, name)
    _Interpreter(manager, shown).process_page(page)
    if is_sloping(shown.glyphs):
        raise InputError(f"{name} is in Nastaliq, whose letters a PDF gives in no certain order.", _SAVE_WORD)
    text = reading_order(shown.glyphs)
    letters = sum(character.isalpha() for character in text)
    if not letters and (shown.is_painted or not page.contents):
        raise InputError(f"{name} is not blank, but holds no text.", _OCR)
    if letters < _FEW_LETTERS and shown.pixels > _SCAN:
        raise InputError(f"{name} seems to be a scanned picture with few words of text ({letters} letters).", _OCR)
    strange = sum(not (character.isspace() or _is_readable(character)) for character in text)
    if strange * 20 > len(text):
        raise InputError(f"{name} does not say which letters it shows.", _PRINT)
    return text


def _is_written_on(annotation: dict[Any, Any]) -> bool:
    """Whether it is a field that was filled in, or text typed on top of the page."""
    kind = getattr(annotation.get("Subtype"), "name", "")
    while kind == "Widget" and "V" not in annotation and "Parent" in annotation:
        annotation = dict_value(annotation["Parent"])
    value = resolve1(annotation.get("V"))
    return kind == "FreeText" or (isinstance(value, bytes | list | PDFStream) and bool(value))


def _is_readable(character: str) -> bool:
    """Latin and Arabic letters and the signs that go with them; other scripts come from fonts that name no letters."""
    return (" " <= character <= "\u024f" and not "\x7f" <= character <= "\x9f") or any(
        first <= character <= last for first, last in (("\u0600", "\u08ff"), ("\u2000", "\u27bf"), ("\ufb00", "\ufefc"))
    )


class _Document(PDFDocument):
    def getobj(self, objid: int) -> object:
        try:
            return super().getobj(objid)
        except PDFObjectNotFound:
            raise PDFSyntaxError from None  # which nobody takes for an object that is empty


class _Resources(PDFResourceManager):
    def get_font(self, objid: object, spec: Any) -> PDFFont:
        settings.STRICT = False  # which in fonts refuses what is allowed, such as references to names
        try:
            return super().get_font(objid, spec)
        finally:
            settings.STRICT = True


class _Interpreter(PDFPageInterpreter):
    device: "_Shown"

    def do_BDC(self, tag: Any, props: Any) -> None:
        if isinstance(props, PSLiteral):
            props = resolve1(dict_value(self.resources.get("Properties", {})).get(props.name))
        super().do_BDC(tag, props)

    def do_sh(self, name: object) -> None:
        self.device.is_painted = True


class _Shown(PDFTextDevice):
    """Collects what a page shows: glyphs in the order in which they are drawn, and whether there is anything else."""

    def __init__(self, manager: PDFResourceManager, name: str) -> None:
        super().__init__(manager)
        self.glyphs: list[Glyph] = []
        self.is_painted = False
        self.pixels = 0
        self._name = name
        self._drawn = 0
        self._tags: list[tuple[str | None, int]] = []  # what a span of glyphs stands for, and the first of them
        self._gap = ""  # a sign without a shape that stands before or after the next glyph

    def begin_figure(self, *_: object) -> None:
        self._drawn += 1
        if self._drawn > _MOST_DRAWN:
            raise InputError(f"{self._name} consists of more than {_MOST_DRAWN:,} drawings.", _PRINT)

    def paint_path(self, *_: object) -> None:
        self.is_painted = True

    def render_image(self, name: str, stream: PDFStream) -> None:
        self.is_painted = True
        self.pixels += int(resolve1(stream.get_any(("W", "Width")))) * int(resolve1(stream.get_any(("H", "Height"))))

    def begin_tag(self, tag: PSLiteral, props: Any = None) -> None:
        said = resolve1(props.get("ActualText")) if isinstance(props, dict) else None
        self._tags.append((decode_text(said) if isinstance(said, bytes) else None, len(self.glyphs)))

    def end_tag(self) -> None:
        said, start = self._tags.pop() if self._tags else (None, 0)
        if said is None:
            return
        span = self.glyphs[start:]
        if span and said:
            self.glyphs[start:] = [_joined(span, said)]
        elif said == ZWNJ:
            self._gap = said

    def render_char(
        self, matrix: Matrix, font: PDFFont, fontsize: float, scaling: float, rise: float, cid: int, ncs: object, graphicstate: object
    ) -> float:
        self.is_painted = True
        if len(self.glyphs) > MAX_CHARACTERS:
            raise InputError(f"{self._name} has more than {MAX_CHARACTERS:,} characters.", "Give each call a file of its own.")
        try:
            text = font.to_unichr(cid)
        except PDFUnicodeNotDefined:
            text = UNKNOWN
        advance = float(font.char_width(cid) * fontsize * scaling)
        self._add(_placed(text, (id(font), cid), matrix, advance, fontsize, rise))
        return advance

    def _add(self, glyph: Glyph) -> None:
        if self._gap and self.glyphs:
            before = self.glyphs[-1]
            if before.middle > glyph.middle:
                self.glyphs[-1] = _joined([before], before.text + self._gap)
            else:
                glyph = _joined([glyph], glyph.text + self._gap)
        self._gap = ""
        self.glyphs.append(glyph)


def _placed(text: str, shape: object, matrix: Matrix, advance: float, font_size: float, rise: float) -> Glyph:
    a, b, c, d, x, y = matrix
    x, y = x + c * rise, y + d * rise
    stretch = math.hypot(a, b) or 1.0
    along, up = a / stretch, b / stretch
    start = x * along + y * up
    end = start if text == ZWNJ else start + advance * stretch
    size = abs(font_size) * math.hypot(c, d) or 1.0
    return Glyph(text, shape, min(start, end), max(start, end), y * along - x * up, size, (round(along, 2), round(up, 2)))


def _joined(span: list[Glyph], text: str) -> Glyph:
    left, right = min(glyph.left for glyph in span), max(glyph.right for glyph in span)
    shape = tuple(glyph.shape for glyph in span)
    return Glyph(text, shape, left, left if text == ZWNJ else right, span[0].baseline, span[0].size, span[0].direction)


@contextmanager
def _complaints() -> Iterator[list[int]]:
    """What pdfminer logs as a warning or worse while the block runs, but for the harmless: the level of each."""
    found: list[int] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not any(word in str(record.msg) for word in _HARMLESS):
                found.append(record.levelno)

    collector = Collector(logging.WARNING)
    logging.getLogger("pdfminer").addHandler(collector)
    try:
        yield found
    finally:
        logging.getLogger("pdfminer").removeHandler(collector)
