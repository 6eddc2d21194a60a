"""Plain-text files into documents. A file that is no text gives an InputError that says what to do."""

import sys
from pathlib import Path

from clinex_edge.documents import Document
from clinex_edge.documents.document import MAX_CHARACTERS
from clinex_edge.errors import InputError, unknown_name

ENCODINGS = ("utf-8", "utf-16", "windows-1256")
_MAX_BYTES = 4 * MAX_CHARACTERS


def read_document(path: str, encoding: str = "utf-8", language: str | None = None) -> Document:
    """Read one file, or standard input for "-". Raises InputError, and UsageError for an unknown encoding or language."""
    if encoding.lower() not in ENCODINGS:
        raise unknown_name("encoding", encoding, list(ENCODINGS))
    name = "standard input" if path == "-" else path
    text = _decode(_bytes(path), encoding.lower(), name)
    try:
        return Document.from_text(text, short_name(path), "-" if path == "-" else Path(path).name, language)
    except InputError as error:
        raise InputError(f"{name}: {error}", error.hint) from None


def short_name(path: str) -> str:
    """A file's name up to its first dot (all of it where it starts with one); "stdin" for "-"."""
    return "stdin" if path == "-" else Path(path).name.split(".")[0] or Path(path).name


def _bytes(path: str) -> bytes:
    if path == "-":
        if sys.stdin is None:
            raise InputError("Standard input is closed.", "Name a file instead of -.")
        return sys.stdin.buffer.read(_MAX_BYTES + 1)
    try:
        with open(path, "rb") as stream:
            return stream.read(_MAX_BYTES + 1)
    except IsADirectoryError:
        raise InputError(
            f"{path} is a folder.", f"Name the files in it, for example: clinex-edge extract {path.rstrip('/')}/*.txt"
        ) from None
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.", f"The current folder is {Path.cwd()}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error


def _decode(data: bytes, encoding: str, name: str) -> str:
    if len(data) > _MAX_BYTES:
        raise InputError(
            f"{name} is larger than {_MAX_BYTES // 1_000_000} MB.", "Is it an archive of many calls? Give each call a file of its own."
        )
    others = ", ".join(f"--encoding {e}" for e in ENCODINGS if e != encoding)
    if encoding == "utf-8" and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{name} is UTF-16, not UTF-8.", "Read it with: --encoding utf-16")
    if encoding != "utf-16" and _is_binary(data):
        raise InputError(f"{name} is a binary file, not text.", f"Save it as plain UTF-8 text. If it is text: {others}")
    try:
        return data.decode({"utf-8": "utf-8-sig"}.get(encoding, encoding))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not {encoding.upper()} text (byte {error.start + 1} does not fit).", f"Name its encoding: {others}"
        ) from None


def _is_binary(data: bytes) -> bool:
    """NUL bytes, or more than one control byte in twenty among the first 64 kB."""
    head = data[:65536]
    control = sum(byte < 32 and byte not in b"\t\n\r\f\v\x1b" for byte in head)
    return b"\0" in head or control * 20 > len(head)
