"""The text of .docx and .pdf files: all of it, or an error."""

import posixpath
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import XMLParser, fromstring
from zipfile import ZipFile

from clinex_edge.errors import InputError
from clinex_edge.files.archive import check_archive
from clinex_edge.files.optional import library
from clinex_edge.files.read import unreadable

_UNPACKED = 100_000_000  # bytes
_SAVE = "Open it in its own program and save it as plain text."
_OCR = "A scanned page is a picture: run text recognition (OCR) over it first."

_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_LEFT_OUT = {"pPr", "rPr", "sectPr", "tblPr", "trPr", "tcPr", "del", "moveFrom", "Fallback"}
_EMBEDDED = {"altChunk", "subDoc"}


def text_of(path: Path) -> str:
    """All text of a document. Raises InputError where the file is damaged, or holds text that cannot be had.

    Of a .docx that is paragraphs, tables (cells separated by tabs), text boxes and notes at its feet, with changes accepted, without
    page headers and footers. Of a .pdf the text layer; a page that is a picture and a form that is filled in are errors.
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
    library("pdfminer", "pdfminer.six", path)
    from clinex_edge.files.pdf import text_of_pdf

    return text_of_pdf(path)


_READERS: dict[str, Callable[[Path], str]] = {".docx": _docx, ".docm": _docx, ".pdf": _pdf}
SUFFIXES = tuple(_READERS)
