"""The sha256 of a model file, remembered by size and time of change so that gigabytes are hashed once."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from clinex_edge import paths
from clinex_edge.atomic import write_private
from clinex_edge.llama.gguf import read_header

_REMEMBER_FROM = 64 * 2**20  # smaller files are hashed faster than looked up


def sha256_of(path: Path) -> str:
    """Hex digest of the file's bytes. Raises ModelError where there is no such file."""
    if not path.is_file():
        read_header(path)  # says what is wrong
    state = path.stat()
    memory = paths.cache_dir() / "fingerprints.json"
    key, stamp = str(path.resolve()), [state.st_size, state.st_mtime_ns]
    known: dict[str, list[Any]] = {}
    if state.st_size >= _REMEMBER_FROM:
        try:
            known = json.loads(memory.read_text(encoding="utf-8"))
            if known[key][:2] == stamp:
                return str(known[key][2])
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            pass
    digest = hash_file(path)
    if state.st_size >= _REMEMBER_FROM:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
            write_private(memory, json.dumps({**known, key: [*stamp, digest]}))
    return digest


def hash_file(path: Path) -> str:
    """Hex digest of a file's bytes, read now. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
