"""Plain-text files into documents. A file that is no text gives an InputError that says what to do."""

import sys
from codecs import getincrementaldecoder
from pathlib import Path

from clinex_edge.documents import Document
from clinex_edge.documents.document import MAX_CHARACTERS
from clinex_edge.errors import InputError, unknown_name

ENCODINGS = ("utf-8", "utf-16", "windows-1256")
_MAX_BYTES = 4 * MAX_CHARACTERS
_HEAD = 65536  # bytes that tell text from something else


def read_document(path: str, encoding: str = "utf-8", language: str | None = None) -> Document:
    """Read one file, or standard input for "-". Raises InputError, and UsageError for an unknown encoding or language."""
    check_encoding(encoding)
    name = "standard input" if path == "-" else path
    text = _decode(_bytes(path), encoding.lower(), name)
    try:
        return Document.from_text(text, short_name(path), "-" if path == "-" else Path(path).name, language)
    except InputError as error:
        raise InputError(f"{name}: {error}", error.hint) from None


def short_name(path: str) -> str:
    """A file's name up to its first dot (all of it where it starts with one); "stdin" for "-"."""
    return "stdin" if path == "-" else Path(path).name.split(".")[0] or Path(path).name


def check_encoding(encoding: str) -> None:
    """Raises UsageError for one that is not known."""
    if encoding.lower() not in ENCODINGS:
        raise unknown_name("encoding", encoding, list(ENCODINGS))


def codec(encoding: str) -> str:
    """What Python calls an encoding, so that a byte-order mark is no text."""
    return {"utf-8": "utf-8-sig"}.get(encoding, encoding)


def check_is_text(data: bytes, encoding: str, name: str) -> None:
    """Raises InputError where a file that begins with `data` cannot be text in this encoding."""
    if encoding == "utf-8" and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{name} is UTF-16, not UTF-8.", "Read it with: --encoding utf-16")
    if encoding != "utf-16" and _is_binary(data[:_HEAD]):
        raise _binary(name, encoding)
    if _is_utf8_in_spite_of(encoding, data[:_HEAD]):
        raise InputError(f"{name} is UTF-8, not {encoding.upper()}.", "Read it with: --encoding utf-8")


def wrong_encoding(name: str, encoding: str, place: str) -> InputError:
    """The error for bytes that do not fit an encoding; `place` says where."""
    return InputError(f"{name} is not {encoding.upper()} text ({place} does not fit).", f"Name its encoding: {_others(encoding)}")


def _binary(name: str, encoding: str) -> InputError:
    return InputError(f"{name} is a binary file, not text.", f"Save it as plain UTF-8 text. If it is text: {_others(encoding)}")


def _others(encoding: str) -> str:
    return ", ".join(f"--encoding {other}" for other in ENCODINGS if other != encoding)


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
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str | Path, error: OSError) -> InputError:
    """The error for a path that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"There is no file {path}.", f"The current folder is {Path.cwd()}.")
    return InputError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.")


def _decode(data: bytes, encoding: str, name: str) -> str:
    if len(data) > _MAX_BYTES:
        raise InputError(
            f"{name} is larger than {_MAX_BYTES // 1_000_000} MB.", "Is it an archive of many calls? Give each call a file of its own."
        )
    check_is_text(data, encoding, name)
    if encoding != "utf-16" and b"\0" in data[:_HEAD]:
        raise _binary(name, encoding)
    try:
        return data.decode(codec(encoding))
    except UnicodeDecodeError as error:
        raise wrong_encoding(name, encoding, f"byte {error.start + 1}") from None


def _is_binary(head: bytes) -> bool:
    """More than one control byte in twenty."""
    return sum(byte < 32 and byte not in b"\t\n\r\f\v\x1b" for byte in head) * 20 > len(head)


def _is_utf8_in_spite_of(encoding: str, head: bytes) -> bool:
    """Whether bytes that another encoding would turn into strange letters, and not refuse, make sense as UTF-8."""
    if encoding == "utf-8" or head[:2] in (b"\xff\xfe", b"\xfe\xff") or _is_binary(head):
        return False
    try:
        getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return encoding == "utf-16" or not head.isascii()
