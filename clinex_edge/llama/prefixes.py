"""Computed prompt prefixes kept on disk, so that a constant prompt is computed once per model and machine.

A file is llama.cpp's own session file of one sequence, followed by its sha256; llama.cpp writes and reads it itself, so no copy
of it is held in memory. Only constant text is ever given to this store, never a document. A cache that cannot be read
or written costs time, nothing else.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clinex_edge import paths
from clinex_edge.atomic import replaced_privately

DEFAULT_LIMIT = 2 * 2**30  # bytes
_SUFFIX = ".prefix"
_DIGEST = 32  # bytes of the sha256 behind the state
_ABANDONED = 3600  # seconds after which a draft belongs to a process that was killed


@dataclass(frozen=True)
class SavedPrefix:
    """One file of the store; `last_used` in seconds since the epoch."""

    path: Path
    size: int
    last_used: float


class PrefixStore:
    """The states in `folder`, together at most `limit` bytes; the least recently used go first."""

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT):
        self.folder, self.limit = folder, limit

    def load(self, key: str, load: Callable[[Path], bool]) -> bool:
        """Give the file saved under `key` to `load`; False where there is none, where it is damaged, or where `load` refuses it.

        A file that is of no use is deleted.
        """
        path = self._path(key)
        try:
            if not (_is_whole(path) and load(path)):
                path.unlink()
                return False
        except OSError:
            return False
        with contextlib.suppress(OSError):
            os.utime(path)
        return True

    def save(self, key: str, size: int, save: Callable[[Path], bool]) -> None:
        """Keep the about `size` bytes that `save` writes to the path it is given, in one step; two processes may do so at once.

        What does not fit the limit, or cannot be written, is not kept.
        """
        if size > self.limit:
            return
        with contextlib.suppress(OSError), replaced_privately(self._path(key)) as draft:
            if not save(draft):
                raise OSError("llama.cpp could not write its state")
            digest = _sha256(draft, draft.stat().st_size)
            with draft.open("ab") as file:
                file.write(digest)
        self._shrink()

    def entries(self) -> list[SavedPrefix]:
        """What is saved, most recently used first."""
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.glob(f"*{_SUFFIX}"):
                with contextlib.suppress(OSError):  # another process may delete it meanwhile
                    state = path.stat()
                    found.append(SavedPrefix(path, state.st_size, state.st_mtime))
        return sorted(found, key=lambda entry: -entry.last_used)

    def clear(self) -> int:
        """Delete everything; returns the bytes freed. Raises OSError where a file cannot be deleted."""
        freed = 0
        for entry in self.entries():
            entry.path.unlink(missing_ok=True)
            freed += entry.size
        for draft in self.folder.glob(".*.part"):
            draft.unlink(missing_ok=True)
        return freed

    def _shrink(self) -> None:
        kept = 0
        for entry in self.entries():
            kept += entry.size
            if kept > self.limit:
                with contextlib.suppress(OSError):
                    entry.path.unlink()
        for draft in self.folder.glob(".*.part"):
            with contextlib.suppress(OSError):
                if time.time() - draft.stat().st_mtime > _ABANDONED:
                    draft.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"


def _is_whole(path: Path) -> bool:
    """Whether the digest at the end of a file is that of what stands before it. Raises OSError."""
    size = path.stat().st_size - _DIGEST
    with path.open("rb") as file:
        file.seek(max(size, 0))
        return size > 0 and file.read() == _sha256(path, size)


def _sha256(path: Path, count: int) -> bytes:
    """Digest of the first `count` bytes. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(min(2**20, count)):
            digest.update(chunk)
            count -= len(chunk)
    return digest.digest()


def prefix_store() -> PrefixStore:
    """The store in this user's cache folder."""
    return PrefixStore(paths.cache_dir() / "prefixes")
