"""Registers a GGUF file that arrived by other means than the Hub or a bundle."""

import re
import shutil
from pathlib import Path

from clinex_edge.atomic import replaced_privately
from clinex_edge.errors import OutputError, UsageError
from clinex_edge.llama.gguf import read_header
from clinex_edge.models import store
from clinex_edge.models.fingerprint import hash_file
from clinex_edge.models.registry import ModelSpec, entry_of, known
from clinex_edge.models.store import Installed


def add(file: Path, name: str | None = None, copy: bool = False) -> tuple[Installed, bool | None]:
    """Install `file` under `name`, where it lies or as a copy in the data folder.

    Also whether it is the file that the registry names, None where the registry names none.
    Raises ModelError where it is no whole GGUF, UsageError where the name will not do, OutputError where it cannot be kept.
    """
    file = file.expanduser().resolve()
    header = read_header(file)
    name = name or re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")[:64]
    if not store.is_name(name):
        raise UsageError(f"'{name}' cannot name a model.", "Give --name of small letters, digits, dots, dashes and underscores.")
    spec = next((spec for spec in known() if spec.name == name), ModelSpec(name, file))
    if spec.source is None and store.get(name) is None and spec.path != file:
        raise UsageError(f"'{name}' is the name of another model ({spec.path}).", "Give another --name.")
    with store.locked(name):
        digest = hash_file(file)
        there = store.get(name)
        if there and there.sha256 != digest:
            raise UsageError(
                f"'{name}' is the name of another file already ({there.path}).",
                f"Give another --name, or first: clinex-edge models rm {name}",
            )
        target = store.folder(name) / file.name if copy else file
        if copy and target != file:
            store.need_space(target.parent, header.size)
            _copy(file, target, digest)
        model = Installed(name, target, header.size, digest, {"kind": "file", "file": file.name}, entry_of(spec))
        store.write(model)
    return model, None if spec.source is None or spec.source.sha256 is None else digest == spec.source.sha256


def _copy(file: Path, target: Path, sha256: str) -> None:
    try:
        with replaced_privately(target) as draft:
            shutil.copyfile(file, draft)
            if hash_file(draft) != sha256:
                raise OutputError(f"The copy of {file} is not like it.", "The medium or the disk is failing: try another one.")
    except OSError as error:
        raise OutputError(f"{file} cannot be copied to {target}: {error.strerror}.", "Check the disk and its permissions.") from error
