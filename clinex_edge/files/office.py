"""The text of .docx and .pdf files: all of it, or an error."""

import logging
import posixpath
import re
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import XMLParser, fromstring
from zipfile import ZipFile

from clinex_edge.documents.document import MAX_CHARACTERS
from clinex_edge.documents.language import share_of_persian
from clinex_edge.errors import InputError
from clinex_edge.files.archive import check_archive
from clinex_edge.files.library import library
from clinex_edge.files.read import unreadable

_UNPACKED = 100_000_000  # bytes
_PDF = 200_000_000  # bytes
_PDF_UNPACKED = 1_000_000_000  # bytes
_PIECE = 1 << 20
_SAVE = "Open it in its own program and save it as plain text."
_SAVE_WORD = "Open it in Word and save it as .docx, or copy its text into a plain text file."
_OCR = "A scanned page is a picture: run text recognition (OCR) over it first."
_PRINT = "Open it, print it into a new PDF, and read that one; or save it as plain text."

_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_LEFT_OUT = {"pPr", "rPr", "sectPr", "tblPr", "trPr", "tcPr", "del", "moveFrom", "Fallback"}
_EMBEDDED = {"altChunk", "subDoc"}
_FEW_LETTERS = 100
_FEW_PERSIAN = 0.02  # of the letters: a name in an English letter
_SCAN = 700_000  # pixels: a page of paper at 90 to the inch
_PAINTING = set(b"f F f* B B* b b* s S sh Do Tj TJ ' \"".split()) | {b"INLINE IMAGE"}
_DEEPEST = 5  # forms in forms


def text_of(path: Path) -> str:
    """All text of a document. Raises InputError where the file is damaged, or holds text that cannot be had.

    Of a .docx that is paragraphs, tables (cells separated by tabs), text boxes and notes at its feet, with changes accepted, without
    page headers and footers. Of a .pdf the text layer; an error are a page that is a picture, a form that is filled in, and Persian.
    """
    try:
        text = _READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes a library do
        if isinstance(error, OSError) and error.strerror:
            raise unreadable(path, error) from error
        # A library's own words are left out: they could quote the document.
        raise InputError(f"{path} is damaged, or not what its name says ({type(error).__name__}).", _SAVE) from None
    if not text.strip():
        raise InputError(f"{path} holds no text.", _OCR)
    return text


def _docx(path: Path) -> str:
    check_archive(path, _UNPACKED)
    with ZipFile(path) as archive:
        relations = fromstring(archive.read("_rels/.rels"))  # noqa: S314 - expat limits what entities may grow to
        main = next(r.get("Target", "") for r in relations if r.get("Type", "").endswith("/officeDocument")).lstrip("/")
        notes = [posixpath.join(posixpath.dirname(main), name) for name in ("footnotes.xml", "endnotes.xml")]
        parts = [main, *(name for name in notes if name in archive.namelist())]
        return "".join(_words(path, archive.read(part)) for part in parts)


def _words(path: Path, markup: bytes) -> str:
    parser = XMLParser(target=_Words(path))  # noqa: S314
    parser.feed(markup)
    return str(parser.close())


class _Words:
    """Collects the text of WordprocessingML while a parser goes through it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pieces: list[str] = []
        self._left_out = 0  # elements around this one that are left out, counting from the first
        self._in_text = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if name in _EMBEDDED:
            raise InputError(f"{self._path} has another document embedded in it.", _SAVE)
        if self._left_out or name in _LEFT_OUT:
            self._left_out += 1
        elif name in _MARKS:
            self._pieces.append(_MARKS[name])
        self._in_text = name == "t" and not self._left_out

    def data(self, text: str) -> None:
        if self._in_text:
            self._pieces.append(text)

    def end(self, tag: str) -> None:
        self._in_text = False
        if self._left_out:
            self._left_out -= 1
            return
        match tag.rpartition("}")[2]:
            case "p":
                self._pieces.append("\n")
            case "tc":
                self._close_with("\t", "\n")
            case "tr":
                self._close_with("\n", "\t")

    def close(self) -> str:
        return "".join(self._pieces)

    def _close_with(self, mark: str, instead_of: str) -> None:
        if self._pieces and self._pieces[-1] == instead_of:
            self._pieces.pop()
        self._pieces.append(mark)


def _pdf(path: Path) -> str:
    pypdf = library("pypdf", "pypdf", path)
    if path.stat().st_size > _PDF:
        raise InputError(f"{path} is larger than {_PDF // 1_000_000} MB.", _SAVE)
    with _complaints("pypdf") as complaints:
        data = path.read_bytes()
        _check_streams(data, path)
        reader = pypdf.PdfReader(BytesIO(data), strict=True)
        if reader.is_encrypted:
            raise InputError(f"{path} is protected by a password or against copying.", _PRINT)
        if "/XFA" in _resolved(reader.root_object.get("/AcroForm", {})):
            raise InputError(f"{path} is a form that only some programs can show.", _PRINT)
        pages: list[str] = []
        for number, page in enumerate(reader.pages, 1):
            pages.append(_page_text(page, f"{path}, page {number}"))
            if sum(map(len, pages)) > MAX_CHARACTERS:
                break
        if reader.root_object["/Pages"]["/Count"] != len(reader.pages):
            raise InputError(f"{path} is damaged: it should have another number of pages.", _SAVE)
    if complaints:
        raise InputError(f"{path} is damaged, or made in a way that may hide some of its text.", _PRINT)
    return "\n".join(pages)


def _check_streams(data: bytes, path: Path) -> None:
    """Compare every compressed stream with its checksum, which pypdf passes over. Raises InputError, and zlib.error."""
    left = _PDF_UNPACKED
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
                raise InputError(f"{path} would be larger than {_PDF_UNPACKED // 1_000_000} MB unpacked.", _SAVE)


def _page_text(page: Any, name: str) -> str:
    """Raises InputError where the page shows text that is not in its text layer."""
    annotations = [_resolved(annotation) for annotation in _resolved(page.get("/Annots", []))]
    if any(_is_written_on(annotation) for annotation in annotations):
        raise InputError(f"{name} has text in fields or in notes on top of it.", _PRINT)
    text = str(page.extract_text())
    letters = sum(character.isalpha() for character in text)
    if letters < _FEW_LETTERS:
        contents = page.get_contents()
        operations = [] if contents is None else contents.operations
        if not letters and (contents is None or any(operator in _PAINTING for _, operator in operations)):
            raise InputError(f"{name} is not blank, but holds no text.", _OCR)
        drawn = {operands[0] for operands, operator in operations if operator == b"Do"}
        if _pixels(page.get("/Resources", {}), drawn) > _SCAN:
            raise InputError(f"{name} seems to be a scanned picture with few words of text ({letters} letters).", _OCR)
    if share_of_persian(text) > _FEW_PERSIAN:
        raise InputError(f"{name} is in Persian, whose words a PDF gives in no certain order.", _SAVE_WORD)
    strange = sum(not (character.isspace() or _is_readable(character)) for character in text)
    if strange * 20 > len(text):
        raise InputError(f"{name} does not say which letters it shows.", _PRINT)
    return text


def _is_written_on(annotation: Any) -> bool:
    """Whether it is a field that was filled in, or text typed on top of the page."""
    while annotation.get("/Subtype") == "/Widget" and "/V" not in annotation and "/Parent" in annotation:
        annotation = {"/Subtype": "/Widget", **_resolved(annotation["/Parent"])}
    value = _resolved(annotation.get("/V"))
    return annotation.get("/Subtype") == "/FreeText" or (isinstance(value, str | list) and bool(value) and not str(value).startswith("/"))


def _pixels(resources: Any, drawn: Container[str] | None = None, depth: int = 0) -> int:
    """Of all pictures among the resources of a page or form, or of those that are drawn."""
    found = 0
    for name, reference in _resolved(_resolved(resources).get("/XObject", {})).items():
        shown = _resolved(reference)
        if drawn is not None and name not in drawn:
            continue
        if shown.get("/Subtype") == "/Image":
            found += int(shown["/Width"]) * int(shown["/Height"])
        elif depth < _DEEPEST:
            found += _pixels(shown.get("/Resources", {}), depth=depth + 1)
    return found


def _is_readable(character: str) -> bool:
    """Latin and Arabic letters and the signs that go with them; other scripts come from fonts that name no letters."""
    return (" " <= character <= "\u024f" and not "\x7f" <= character <= "\x9f") or any(
        first <= character <= last for first, last in (("\u0600", "\u08ff"), ("\u2000", "\u27bf"), ("\ufb00", "\ufefc"))
    )


def _resolved(value: Any) -> Any:
    return value.get_object() if hasattr(value, "get_object") else value


@contextmanager
def _complaints(name: str) -> Iterator[list[int]]:
    """What a library logs as a warning or worse while the block runs: the level of each."""
    found: list[int] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.levelno)

    collector = Collector(logging.WARNING)
    logging.getLogger(name).addHandler(collector)
    try:
        yield found
    finally:
        logging.getLogger(name).removeHandler(collector)


_READERS: dict[str, Callable[[Path], str]] = {".docx": _docx, ".docm": _docx, ".pdf": _pdf}
SUFFIXES = tuple(_READERS)
