"""Computed prompt prefixes kept on disk, so that a constant prompt is computed once per model and machine.

A file holds llama.cpp's state of one sequence behind its own sha256. Only constant text is ever given to this store,
never a document. A cache that cannot be read or written costs time, nothing else.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from clinex_edge import paths
from clinex_edge.atomic import write_private_bytes

_MAGIC = b"clinex-edge prefix 1\n"
_SUFFIX = ".prefix"
DEFAULT_LIMIT = 2 * 2**30


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

    def read(self, key: str) -> bytes | None:
        """The state saved under `key`, or None where there is none; a damaged file is deleted."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        head = len(_MAGIC) + 32
        if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(content[head:]).digest() != content[len(_MAGIC) : head]:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return content[head:]

    def write(self, key: str, state: bytes) -> None:
        """Save a state in one step; two processes may do so at once. What does not fit the limit is not saved."""
        if len(state) > self.limit:
            return
        with contextlib.suppress(OSError, MemoryError):
            write_private_bytes(self._path(key), _MAGIC + hashlib.sha256(state).digest() + state)
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
        for draft in self.folder.glob(".*.part"):  # of a process that was killed
            draft.unlink(missing_ok=True)
        return freed

    def _shrink(self) -> None:
        kept = 0
        for entry in self.entries():
            kept += entry.size
            if kept > self.limit:
                with contextlib.suppress(OSError):
                    entry.path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"


def prefix_store() -> PrefixStore:
    """The store in this user's cache folder."""
    return PrefixStore(paths.cache_dir() / "prefixes")
