"""Which models exist: `models.toml` of the project, then the user's own, then what was added by `models add` or a bundle."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clinex_edge import _toml, paths
from clinex_edge.errors import ModelError, unknown_name
from clinex_edge.models import store

ROLES = ("translator", "extractor")
MAX_THREADS = 512  # llama.cpp crashes with more


@dataclass(frozen=True)
class Source:
    """A file on the Hugging Face Hub at one commit; `size` in bytes and `sha256` as public sources state them."""

    repo: str
    file: str
    revision: str = "main"
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class ModelSpec:
    """Where a model lies and how it is asked. `facts` are for people: parameters, licence, published figures and the like."""

    name: str
    path: Path
    roles: tuple[str, ...] = ROLES
    profile: str = "full"
    translation_profile: str = "full"
    ctx_size: int | None = None
    threads: int | None = None
    notice: str = ""
    title: str = ""
    sha256: str | None = None  # of the file, where it is known
    source: Source | None = None
    facts: dict[str, Any] | None = None

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """Names of what no public document confirms."""
        return tuple(map(str, (self.facts or {}).get("unconfirmed", ())))

    def require(self) -> None:
        """Raises ModelError, saying how to get it, where the file is not on this machine."""
        if self.path.exists():
            return
        if self.source is None:
            raise ModelError(f"There is no model file {self.path}.", "Check the path, or leave --model out.")
        raise ModelError(
            f"The model '{self.name}' is not on this machine (looked for {self.path}).",
            f"With internet: clinex-edge models pull {self.name}. Without: clinex-edge models import BUNDLE, or "
            f"clinex-edge models add FILE --name {self.name}",
        )


def find(name: str | None, role: str | None = None) -> ModelSpec:
    """The model of that name, the GGUF file of that path, or the default for `role` (without a name or a role: the extractor).

    Raises UsageError for an unknown name and ModelError for a broken registry or a model that cannot play the role.
    """
    specs, defaults = _read()
    if name is None:
        name = defaults[role or "extractor"]
    if name in specs:
        if role and role not in specs[name].roles:
            raise ModelError(f"The model '{name}' is no {role}.", f"{role.capitalize()}s: {_with_role(specs, role)}.")
        return specs[name]
    if name.endswith(".gguf") or "/" in name or "\\" in name:
        path = Path(name).expanduser()
        return ModelSpec(path.stem, path)
    error = unknown_name("model", name, list(specs))
    error.hint += " Or give the path of a .gguf file."
    raise error


def known() -> list[ModelSpec]:
    """All models, in the order of the registry. Raises ModelError for a broken registry."""
    return list(_read()[0].values())


def vouched() -> set[str]:
    """The sha256 of every file that a `models.toml` states. Raises ModelError for a broken registry."""
    return {spec.sha256 for spec in _registries()[0].values() if spec.sha256}


def _with_role(specs: dict[str, ModelSpec], role: str) -> str:
    return ", ".join(s.name for s in specs.values() if role in s.roles)


def _read() -> tuple[dict[str, ModelSpec], dict[str, str]]:
    """The registries, and what is installed."""
    specs, defaults = _registries()
    for name, model in store.installed().items():
        with contextlib.suppress(ValueError, TypeError):  # an entry that says nonsense is none; `models verify` tells
            spec = specs.get(name) or parse(name, {**model.spec, "file": str(model.path)}, model.path.parent)
            specs[name] = replace(spec, path=model.path, sha256=model.sha256)
    return specs, defaults


def _registries() -> tuple[dict[str, ModelSpec], dict[str, str]]:
    specs: dict[str, ModelSpec] = {}
    defaults: dict[str, str] = {}
    for path in (paths.builtin("models.toml"), paths.config_dir() / "models.toml"):
        if not path.is_file():
            continue
        try:
            data = _toml.loads(path.read_text(encoding="utf-8"))
            defaults |= dict(data.get("defaults", {}))
            specs |= {name: parse(name, row, path.parent) for name, row in data.get("models", {}).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is broken: {error}.", "Compare it with the models.toml of the project.") from error
    return specs, defaults


_KINDS: dict[str, type] = {
    "profile": str, "translation_profile": str, "ctx_size": int, "threads": int, "notice": str, "title": str, "sha256": str,
}  # fmt: skip
_SOURCE: dict[str, type] = {"repo": str, "revision": str, "size": int}
FACTS: dict[str, type] = {
    "parameters": str, "quantization": str, "context": int, "memory": int, "licence": str, "licence_url": str, "gated": bool,
    "published": dict, "alternatives": list, "unconfirmed": list,
}  # fmt: skip


def parse(name: str, row: dict[str, Any], folder: Path) -> ModelSpec:
    """An entry of a registry that lies in `folder`. Raises ValueError saying what is wrong."""
    if not store.is_name(name):
        raise ValueError(f"models.{name}: a name is made of small letters, digits, dots, dashes and underscores")
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        raise ValueError(f"models.{name} needs a 'file'")
    roles = row.get("roles", list(ROLES))
    if not isinstance(roles, list) or not roles or not set(roles) <= set(ROLES):
        raise ValueError(f"models.{name}.roles must be a list of {' and '.join(ROLES)}")
    kinds = {**_KINDS, **_SOURCE, **FACTS}
    for key, value in row.items():
        if key in kinds and (type(value) is not kinds[key] or (type(value) is int and value < 1)):
            words = {int: "number", str: "text", bool: "true or false", list: "list", dict: "table"}
            raise ValueError(f"models.{name}.{key} must be a {words[kinds[key]]}")
    if row.get("threads", 1) > MAX_THREADS:
        raise ValueError(f"models.{name}.threads is at most {MAX_THREADS}")
    asked = {key: row[key] for key in _KINDS if key in row}
    if "sha256" in asked:
        asked["sha256"] = asked["sha256"].lower()  # as Windows does not print it
    facts = {key: row[key] for key in FACTS if key in row}
    if "repo" in row:
        source = Source(row["repo"], row["file"], row.get("revision", "main"), row.get("size"), asked.get("sha256"))
        path = store.folder(name) / Path(row["file"]).name
        return ModelSpec(name, path, tuple(roles), **asked, source=source, facts=facts)
    path = Path(row["file"]).expanduser()
    if not path.is_absolute():
        beside = folder / path.name  # in an installed package the model lies beside the registry
        path = folder / path
        path = path if path.exists() or not beside.exists() else beside
    return ModelSpec(name, path, tuple(roles), **asked, facts=facts)


def entry_of(spec: ModelSpec) -> dict[str, Any]:
    """What an entry keeps of a model's registry row, so that it needs no registry later."""
    kept = {key: getattr(spec, key) for key in ("profile", "translation_profile", "notice", "title") if getattr(spec, key)}
    numbers = {key: getattr(spec, key) for key in ("ctx_size", "threads") if getattr(spec, key)}
    return {"roles": list(spec.roles), **kept, **numbers, **(spec.facts or {})}
