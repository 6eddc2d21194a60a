"""Files that are whole or absent, and readable by their owner only."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step (mode 600). Raises OSError; then what stood there before is untouched."""
    with replaced_privately(path) as draft:
        draft.write_bytes(text.encode("utf-8"))


@contextmanager
def replaced_privately(path: Path) -> Iterator[Path]:
    """An empty file (mode 600) that takes the place of `path` in one step when the block is left without an exception.

    Raises OSError; then, and where the block raises, what stood there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not an ordinary file")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, target)
        sync_folder(target.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def append_durably(file: BinaryIO, at: int, data: bytes) -> None:
    """Write `data` at `at`, the end of an unbuffered file, and wait until it is on the disk.

    What a failed attempt left behind `at` goes first. Raises OSError; the file then ends at `at`, as soon as the disk lets it.
    """
    try:
        file.truncate(at)
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(at)
        raise


def open_private(path: Path) -> BinaryIO:
    """Open a file (mode 600, made where there is none) for reading and appending, unbuffered. Raises OSError."""
    is_new = not path.exists()
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
    if is_new:
        sync_folder(path.parent)
    return file


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can tell."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
