"""Bundles: a folder that carries models to a machine that has never seen the internet.

Its manifest says which bytes each part must have, and is written last. A bundle that arrives is foreign: nothing of it is placed
before everything that is wanted of it has been checked.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from clinex_edge import __version__, paths
from clinex_edge.errors import BundleError, ModelError, OutputError, UsageError, unknown_name
from clinex_edge.llama.gguf import read_header
from clinex_edge.models import store, wheels
from clinex_edge.models.fingerprint import hash_file
from clinex_edge.models.registry import ModelSpec, entry_of, find, parse
from clinex_edge.models.store import Installed

PART_BYTES = 4_000_000_000  # FAT32 holds files of at most 4 GiB - 1
_SCHEMA = 1
_MANIFEST, _README, _LICENCES, _WHEELS = "manifest.json", "README.txt", "LICENCES.txt", "wheels"
_MANIFEST_BYTES = 10_000_000  # that of a hundred models is a hundredth of this
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # what Windows opens whatever the folder
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # could drive a terminal, or is no text
_AGAIN = "Copy the bundle again, or run its 'clinex-edge models export' again over there: it writes only what is missing or damaged."
_TITLE = "A bundle of models for clinex-edge."
_README_TEXT = f"""{_TITLE}

On a machine with clinex-edge, with or without internet:

    clinex-edge models import THIS_FOLDER

checks every file and installs the models; names after the folder choose some of them. LICENCES.txt says what you agree to.

A folder "{_WHEELS}", if there is one, holds clinex-edge itself. It serves machines with the same operating system, Python version and
processor features as the machine that made it:

    python -m pip install --no-index --find-links THIS_FOLDER/{_WHEELS} "clinex-edge[files]"

{_MANIFEST} names every part with its size in bytes and its sha256. Where it is missing the export was cut off; run the same export
again and it goes on.
"""
_KEPT = ("repo", "file", "revision")  # of a model's origin, from bundle to bundle
_T = TypeVar("_T")
Told = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A file of a bundle; `size` in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Packed:
    """A model in a bundle: the file that its parts make, its registry row, where it came from and what using it demands."""

    name: str
    file: str
    size: int  # bytes
    sha256: str
    parts: tuple[Part, ...]
    spec: dict[str, Any]
    origin: dict[str, str]
    licence: str
    licence_url: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds."""

    models: tuple[Packed, ...] = ()
    wheels: tuple[Part, ...] = ()


def _quiet(text: str) -> None: ...


def export(names: Sequence[str], folder: Path, with_wheels: bool = False, told: Told = _quiet) -> list[Packed]:
    """Write models into the bundle `folder`, which is made, gone on with, or added to. Whole parts in it are not written again.

    `told` hears about each long step. Raises UsageError for an unknown name, ModelError for a model that is missing or not the one
    that was checked in, BundleError for a damaged manifest, and OutputError where the folder is no bundle or cannot be written.
    """
    specs = {spec.name: spec for spec in map(find, names)}
    for spec in specs.values():
        spec.require()
        if not _is_model(spec.name):
            raise UsageError(f"'{spec.name}' cannot name a model.", f"Register it first: clinex-edge models add {spec.path} --name NAME")
    with store.told(folder):
        before = _begun(folder)
        packed = []
        for spec in specs.values():
            told(f"Hashing {spec.name} ({spec.path.stat().st_size / 1e6:,.0f} MB).")
            packed.append(_measured(spec))
        parts = [part for model in packed for part in model.parts]
        for part in parts:
            _draft_of(folder / part.name).unlink(missing_ok=True)
        missing = sum(part.size for part in parts if not _has_size(folder / part.name, part))
        store.need_space(folder, missing + (wheels.BYTES if with_wheels else 0))
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / _README, _README_TEXT)
        for model in packed:
            told(f"Writing {model.name}: {len(model.parts)} part(s).")
            _write_parts(specs[model.name].path, model, folder)
        if with_wheels:
            told("Making wheels for machines with this system, this Python version and this processor's features.")
            _make_wheels(folder / _WHEELS)
        kept = [model for model in before.models if model.name not in specs]
        manifest = Manifest((*kept, *packed), _listed(folder / _WHEELS) if with_wheels else before.wheels)
        _write(folder / _LICENCES, _licences(manifest.models))
        _write(folder / _MANIFEST, _text(manifest))
        for name in {p.name for m in before.models for p in m.parts} - {p.name for m in manifest.models for p in m.parts}:
            (folder / name).unlink(missing_ok=True)
    return packed


def install(folder: Path, names: Sequence[str] = (), told: Told = _quiet) -> list[Installed]:
    """Install a bundle's models: all, or those named. One that is installed already, byte for byte, is left alone.

    `told` hears about each long step. Raises UsageError for a name that the bundle lacks, BundleError, with nothing placed, where
    anything about the bundle is wrong, and OutputError where a model cannot be kept.
    """
    manifest = read(folder)
    _refuse_links(folder)
    by_name = {model.name: model for model in manifest.models}
    for name in names:
        if name not in by_name:
            raise unknown_name("model in this bundle", name, list(by_name))
    wanted = [by_name[name] for name in dict.fromkeys(names or by_name)]
    missing = [model for model in wanted if not _is_here(model)]
    loose = [(folder / _WHEELS / wheel.name, wheel) for wheel in manifest.wheels]
    for path, part in [*loose, *((folder / part.name, part) for model in missing for part in model.parts)]:
        _check_size(path, part)
    with store.told(paths.data_dir()):
        begun = sum(_draft(model).stat().st_size for model in missing if _draft(model).exists())
        store.need_space(paths.data_dir(), sum(model.size for model in missing) - begun)
        for path, wheel in loose:
            _check_digest(path, wheel)
        for model in missing:
            told(f"Checking {model.name} ({model.size / 1e6:,.0f} MB).")
            _check_parts(folder, model)
        with contextlib.ExitStack() as locks:
            for model in sorted(missing, key=lambda model: model.name):
                locks.enter_context(store.locked(model.name))
            missing = [model for model in missing if not _is_here(model)]
            _draft_all(folder, missing, told)
            for model in missing:
                _place(folder, model)
    return [there for model in wanted if (there := store.get(model.name))]


def read(folder: Path) -> Manifest:
    """The manifest of the bundle `folder`; its parts are not looked at. Raises BundleError."""
    path = folder / _MANIFEST
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder.", "A bundle is the folder that 'clinex-edge models export' wrote: give its path.")
    if path.is_symlink() or not path.is_file():
        raise BundleError(
            f"{folder} has no {_MANIFEST} that is an ordinary file.",
            "Give the folder that 'clinex-edge models export' wrote. If the export was cut off, run it again over there: it goes on.",
        )
    try:
        if path.stat().st_size > _MANIFEST_BYTES:
            raise ValueError(f"it is larger than {_MANIFEST_BYTES:,} bytes")
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        why = error if isinstance(error, ValueError) else type(error).__name__
        raise BundleError(
            f"{path} is no manifest of a bundle: {why}.",
            f"Nothing was placed. Copy the bundle again, or delete its {_MANIFEST} and export all of its models to it again.",
        ) from error


# --- the manifest --------------------------------------------------------------------------------------------------


def _parse(text: str) -> Manifest:
    """Raises ValueError, TypeError or RecursionError for what no export writes, BundleError for another schema."""
    data = json.loads(text)
    schema = _get(data, "schema", int)
    if schema != _SCHEMA:
        raise BundleError(
            f"The bundle has schema {schema}; this clinex-edge reads schema {_SCHEMA}.",
            "Bring both machines to the same clinex-edge version.",
        )
    if not _is_tame(data):
        raise ValueError("it holds control characters, or numbers of more than 64 bits")
    models = tuple(map(_model, _get(data, "models", list)))
    found = tuple(map(_part, _get(data, "wheels", list)))
    if not models:
        raise ValueError("it names no model")
    parts = [part for model in models for part in model.parts]
    for what, rows in (("model", models), ("part", parts), ("wheel", found)):
        name, times = max(Counter(row.name.lower() for row in rows).items(), key=itemgetter(1), default=("", 0))
        if times > 1:
            raise ValueError(f"it names the {what} '{name}' twice")
    return Manifest(models, found)


def _model(row: Any) -> Packed:
    name, file, spec, origin = _get(row, "name", str), _get(row, "file", str), _get(row, "spec", dict), _get(row, "origin", dict)
    if not _is_model(name):
        raise ValueError(f"'{name[:80]}' cannot name a model")
    if not _is_file(file) or not file.lower().endswith(".gguf"):
        raise ValueError(f"'{file[:80]}' is not the plain name of a .gguf file")
    parts = tuple(map(_part, _get(row, "parts", list)))
    size = _get(row, "size", int)
    if sum(part.size for part in parts) != size:
        raise ValueError(f"the parts of '{name}' have {sum(part.size for part in parts):,} bytes together; the model has {size:,}")
    if not all(isinstance(value, str) for value in origin.values()):
        raise ValueError(f"the origin of '{name}' must hold texts")
    spec = entry_of(parse(name, {**spec, "file": file}, Path()))
    return Packed(name, file, size, _digest(row), parts, spec, origin, _get(row, "licence", str), _get(row, "licence_url", str))


def _part(row: Any) -> Part:
    name, size = _get(row, "name", str), _get(row, "size", int)
    if not _is_file(name):
        raise ValueError(f"'{name[:80]}' is not the plain name of a file")
    if size < 1:
        raise ValueError(f"'{name}' has {size:,} bytes")
    return Part(name, size, _digest(row))


def _digest(row: Any) -> str:
    if not _SHA256.fullmatch(digest := _get(row, "sha256", str)):
        raise ValueError(f"'{digest[:80]}' is no sha256")
    return digest


def _get(row: Any, key: str, kind: type[_T]) -> _T:
    value = row.get(key) if isinstance(row, dict) else None
    if type(value) is not kind:
        words: dict[type, str] = {int: "number", str: "text", list: "list", dict: "table"}
        raise ValueError(f"'{key}' must be a {words[kind]}")
    return value


def _is_model(name: str) -> bool:
    return store.is_name(name) and _is_file(name)


def _is_file(name: str) -> bool:
    """Whether `name` is that of a file in this very folder on every system."""
    return bool(_FILE.fullmatch(name)) and not name.endswith(".") and not _DEVICE.fullmatch(name)


def _is_tame(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_tame(key) and _is_tame(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_tame, value))
    if isinstance(value, str):
        return not _UNSHOWABLE.search(value)
    return not isinstance(value, int | float) or abs(value) < 2**63


def _text(manifest: Manifest) -> str:
    """What `_parse` accepts."""
    head = {"schema": _SCHEMA, "created": datetime.now(timezone.utc).date().isoformat(), "clinex_edge": __version__}
    text = json.dumps({**head, **asdict(manifest)}, indent=1)
    try:
        _parse(text)
    except (ValueError, TypeError) as error:
        raise ModelError(f"The bundle cannot be described: {error}.", "Correct this in your models.toml and export again.") from error
    return text + "\n"


# --- export --------------------------------------------------------------------------------------------------------


def _begun(folder: Path) -> Manifest:
    """What a bundle to be written holds already. Raises OutputError for anything else than a bundle, an export cut off, or nothing."""
    if not folder.exists():
        return Manifest()
    if (folder / _MANIFEST).exists():
        return read(folder)
    with contextlib.suppress(OSError, ValueError):
        if (folder / _README).read_text(encoding="utf-8").startswith(_TITLE):
            return Manifest()
    if not folder.is_dir() or any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty and no bundle.", "Name a new folder with --to, or a bundle to add to.")
    return Manifest()


def _measured(spec: ModelSpec) -> Packed:
    """Raises ModelError where the file is no whole GGUF, or not the one with the sha256 that is known."""
    header = read_header(spec.path)
    whole, parts = hashlib.sha256(), []
    with spec.path.open("rb") as file:
        for number, start in enumerate(range(0, header.size, PART_BYTES), 1):
            size, digest = min(PART_BYTES, header.size - start), hashlib.sha256()
            for chunk in _chunks(file, size):
                whole.update(chunk)
                digest.update(chunk)
            parts.append(Part(f"{spec.name}.gguf.{number:03}", size, digest.hexdigest()))
    if spec.sha256 not in (None, whole.hexdigest()):
        raise ModelError(
            f"{spec.path} has sha256 {whole.hexdigest()}; it should have {spec.sha256}. Nothing was exported.",
            f"Get it again: clinex-edge models rm {spec.name}, then models pull, import or add.",
        )
    file_name = spec.path.name if _is_file(spec.path.name) and spec.path.suffix.lower() == ".gguf" else f"{spec.name}.gguf"
    facts = spec.facts or {}
    licence = _UNSHOWABLE.sub("", str(facts.get("licence") or header.metadata.get("general.license", "not stated")))
    url = str(facts.get("licence_url", "not stated"))
    return Packed(spec.name, file_name, header.size, whole.hexdigest(), tuple(parts), entry_of(spec), _origin(spec), licence, url)


def _origin(spec: ModelSpec) -> dict[str, str]:
    """Nothing that tells of this machine."""
    if model := store.get(spec.name):
        return {key: str(model.origin[key]) for key in ("kind", *_KEPT) if key in model.origin}
    if spec.source:
        return {"kind": "hub", "repo": spec.source.repo, "file": spec.source.file, "revision": spec.source.revision}
    return {"kind": "file", "file": spec.path.name}


def _write_parts(path: Path, model: Packed, folder: Path) -> None:
    """Raises ModelError where the file is no longer what was measured."""
    with path.open("rb") as source:
        for number, part in enumerate(model.parts):
            target = folder / part.name
            if _has_size(target, part) and hash_file(target) == part.sha256:
                continue
            source.seek(number * PART_BYTES)
            digest = hashlib.sha256()
            with _replaced(target) as file:
                for chunk in _chunks(source, part.size):
                    digest.update(chunk)
                    file.write(chunk)
                if digest.hexdigest() != part.sha256:
                    raise ModelError(f"{path} changed while it was exported.", "Run the same command again when nothing else writes it.")


def _make_wheels(folder: Path) -> None:
    """Replace `folder` once the new wheels are complete."""
    draft = _draft_of(folder)
    shutil.rmtree(draft, ignore_errors=True)
    wheels.make(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def _listed(folder: Path) -> tuple[Part, ...]:
    return tuple(Part(path.name, path.stat().st_size, hash_file(path)) for path in sorted(folder.glob("*.whl")))


def _licences(models: Sequence[Packed]) -> str:
    lines = ["Licences of the models in this bundle. Using a model means agreeing to its licence.", ""]
    for model in models:
        lines += [
            model.spec.get("title", model.name),
            f"  name     {model.name}",
            f"  licence  {model.licence}",
            f"  address  {model.licence_url}",
        ]
        lines += [f"  notice   {model.spec['notice']}"] if "notice" in model.spec else []
        lines.append("")
    return "\n".join(lines)


def _has_size(path: Path, part: Part) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == part.size


def _draft_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _write(path: Path, text: str) -> None:
    with _replaced(path) as file:
        file.write(text.encode("utf-8"))


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is on the disk; readable by whoever gets the disk, unlike those of `atomic`."""
    draft = _draft_of(path)
    draft.unlink(missing_ok=True)
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


# --- import --------------------------------------------------------------------------------------------------------


def _refuse_links(folder: Path) -> None:
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(path := Path(root) / name):
                raise BundleError(f"{path} is a link; a bundle holds files only. Nothing was placed.", _AGAIN)


def _is_here(model: Packed) -> bool:
    return store.has(model.name, model.sha256, model.size)


def _check_size(path: Path, part: Part) -> None:
    try:
        state = path.lstat()
    except OSError:
        raise BundleError(f"{path} is missing. Nothing was placed.", _AGAIN) from None
    if not stat.S_ISREG(state.st_mode):
        raise BundleError(f"{path} is no ordinary file. Nothing was placed.", _AGAIN)
    if state.st_size != part.size:
        raise BundleError(f"{path} has {state.st_size:,} bytes; {part.size:,} were exported. Nothing was placed.", _AGAIN)


def _check_parts(folder: Path, model: Packed) -> None:
    whole = hashlib.sha256()
    for part in model.parts:
        _check_digest(folder / part.name, part, whole.update)
    if whole.hexdigest() != model.sha256:
        raise BundleError(
            f"The parts of '{model.name}' in {folder} make a file with sha256 {whole.hexdigest()}; it should have {model.sha256}. "
            "Nothing was placed.",
            _AGAIN,
        )


def _check_digest(path: Path, part: Part, also: Callable[[bytes], None] = lambda chunk: None) -> None:
    digest = hashlib.sha256()
    for chunk in _bytes(path):
        digest.update(chunk)
        also(chunk)
    if digest.hexdigest() != part.sha256:
        raise BundleError(f"{path} has sha256 {digest.hexdigest()}; it should have {part.sha256}. Nothing was placed.", _AGAIN)


def _draft_all(folder: Path, models: Sequence[Packed], told: Told) -> None:
    """Join the parts of all models beside their places. Raises BundleError, and leaves nothing, where one is no model."""
    try:
        for model in models:
            told(f"Copying {model.name} ({model.size / 1e6:,.0f} MB).")
            _join(folder, model)
            try:
                read_header(_draft(model))
            except ModelError as error:
                raise BundleError(f"'{model.name}' in {folder} is no whole model. {error} Nothing was placed.", _AGAIN) from error
    except BundleError:
        for model in models:
            _draft(model).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                store.folder(model.name).rmdir()
        raise


def _join(folder: Path, model: Packed) -> None:
    """A draft that an interrupted import left whole is used as it is."""
    draft = _draft(model)
    if draft.exists() and draft.stat().st_size == model.size and hash_file(draft) == model.sha256:
        return
    digest = hashlib.sha256()
    draft.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("wb") as file:
        for part in model.parts:
            for chunk in _bytes(folder / part.name):
                digest.update(chunk)
                file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != model.sha256:
        raise BundleError(f"'{model.name}' in {folder} changed while it was copied. Nothing was placed.", _AGAIN)


def _place(folder: Path, model: Packed) -> None:
    target = store.folder(model.name) / model.file
    _draft(model).replace(target)
    origin = {"kind": "bundle", "bundle": folder.resolve().name} | {key: model.origin[key] for key in _KEPT if key in model.origin}
    store.write(Installed(model.name, target, model.size, model.sha256, origin, model.spec))
    for old in target.parent.glob("*.part"):
        old.unlink()


def _draft(model: Packed) -> Path:
    return store.draft(model.name, model.file, model.sha256)


# --- bytes ---------------------------------------------------------------------------------------------------------


def _chunks(file: BinaryIO, count: int) -> Iterator[bytes]:
    """The next `count` bytes, or those that are left."""
    while count and (chunk := file.read(min(count, 2**20))):
        count -= len(chunk)
        yield chunk


def _bytes(path: Path) -> Iterator[bytes]:
    """Raises BundleError where the bundle's disk fails."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(2**20):
                yield chunk
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}. Nothing was placed.", _AGAIN) from error
