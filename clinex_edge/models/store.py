"""The models on this machine: a folder each in the data folder, with an entry that says what its bytes must be.

A model counts as installed once its entry is written, which happens last; so what was cut off or altered never becomes one.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clinex_edge import paths
from clinex_edge.atomic import write_private
from clinex_edge.errors import ModelError, OutputError
from clinex_edge.models.fingerprint import hash_file

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # what Windows opens whatever the folder
_ENTRY = "entry.json"
_SCHEMA = 1
_PATIENCE = 1.0  # seconds without a word


@dataclass(frozen=True)
class Installed:
    """A model file with the size and sha256 that it had when it was checked. `origin` says where it came from; `spec` holds what
    a registry's entry would (roles, profile, licence, …)."""

    name: str
    path: Path
    size: int  # bytes
    sha256: str
    origin: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


def is_name(name: str) -> bool:
    """Whether `name` can name a model, and so a folder, on every system."""
    return bool(_NAME.fullmatch(name)) and not name.endswith(".") and not _DEVICE.fullmatch(name)


def folder(name: str) -> Path:
    """Where a model's file and entry lie."""
    return paths.data_dir() / "models" / name


def installed() -> dict[str, Installed]:
    """All models with an entry, by name. An entry that cannot be read is none."""
    found: dict[str, Installed] = {}
    with contextlib.suppress(OSError):
        for entry in sorted((paths.data_dir() / "models").glob(f"*/{_ENTRY}")):
            if model := _read(entry):
                found[model.name] = model
    return found


def lost(known: set[str]) -> list[str]:
    """Names of models of which something is here, but neither an entry that can be read nor one in the registry."""
    try:
        return sorted(path.name for path in (paths.data_dir() / "models").iterdir() if stated(path.name) and path.name not in known)
    except OSError:
        return []


def get(name: str) -> Installed | None:
    return _read(folder(name) / _ENTRY) if is_name(name) else None


def has(name: str, sha256: str, size: int) -> bool:
    """Whether exactly this file is installed, as far as the entry and the file's size tell."""
    model = get(name)
    return model is not None and model.sha256 == sha256 and model.path.is_file() and model.path.stat().st_size == model.size == size


def draft(name: str, file: str, sha256: str) -> Path:
    """Where a file is put together before it is a model's; for other bytes it is another place."""
    return folder(name) / f"{file}.{sha256[:12]}.part"


def stated(name: str) -> bool:
    """Whether there is anything of a model: the start of a download, or one that was installed, even if it is damaged now."""
    return is_name(name) and folder(name).is_dir()


def _read(entry: Path) -> Installed | None:
    try:
        data = json.loads(entry.read_text(encoding="utf-8"))
        if data.pop("schema") != _SCHEMA or data["name"] != entry.parent.name or not is_name(data["name"]):
            return None
        return Installed(**{**data, "path": entry.parent / data["path"]})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(model: Installed) -> None:
    """Make `model` an installed one, in place of an older one. Its file lies in its folder or, added in place, elsewhere.

    Raises OutputError.
    """
    before = get(model.name)
    path = model.path.name if model.path.parent == folder(model.name) else str(model.path)
    text = json.dumps({"schema": _SCHEMA, **asdict(model), "path": path}, indent=1)
    with told(folder(model.name)):
        write_private(folder(model.name) / _ENTRY, text + "\n")
        if before and before.path != model.path and before.path.parent == folder(model.name):
            before.path.unlink(missing_ok=True)


def remove(name: str) -> int:
    """Delete a model's folder; a file that was added in place stays. Returns the bytes freed. Raises OutputError."""
    freed = 0
    with told(folder(name)), locked(name):
        (folder(name) / _ENTRY).unlink(missing_ok=True)
        freed = sum(path.stat().st_size for path in folder(name).glob("*") if path.is_file())
        shutil.rmtree(folder(name), ignore_errors=True)
    return freed


@contextlib.contextmanager
def locked(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Wait until no other process changes this model, then keep others waiting. `waiting` is called where it takes a while.

    Raises OutputError.
    """
    from filelock import FileLock, Timeout

    with told(folder(name).parent):
        folder(name).parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder(name).parent / f".{name}.lock")
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            waiting()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def need_space(where: Path, size: int) -> None:
    """Raises OutputError where fewer than `size` bytes are free on the disk of `where`."""
    existing = next(path for path in (where, *where.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise OutputError(
            f"{size / 1e6:,.0f} MB are needed in {where}; {free / 1e6:,.0f} MB are free.",
            "Free some space, or choose another disk (CLINEX_HOME moves all of clinex-edge's folders).",
        )


def check_bytes(name: str, path: Path, sha256: str) -> None:
    """Raises ModelError, saying what differs, where a model's bytes are not those that were checked once."""
    check_size(name, path)
    try:
        digest = hash_file(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check its permissions and the disk.") from error
    if digest != sha256:
        raise ModelError(f"{path} has sha256 {digest}; it should have {sha256}.", _get_again(name))


def check_size(name: str, path: Path) -> None:
    """Raises ModelError where a model's file has another size than when it was checked in, and OSError."""
    model = get(name)
    if model and (size := path.stat().st_size) != model.size:
        raise ModelError(f"{path} has {size:,} bytes; {model.size:,} were checked in.", _get_again(name))


def _get_again(name: str) -> str:
    return f"Get it again: clinex-edge models rm {name}, then models pull, import or add."


@contextlib.contextmanager
def told(where: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError about `where`."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"{where} cannot be changed: {why}.", "Check the folder's permissions and the disk.") from error
