"""Files that are whole or absent, and readable by their owner only."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
