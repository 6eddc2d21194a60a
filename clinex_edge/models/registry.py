"""Which models exist: `models.toml` of the project, then the user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinex_edge import _toml, paths
from clinex_edge.errors import ModelError, unknown_name

ROLES = ("translator", "extractor")


@dataclass(frozen=True)
class ModelSpec:
    """Where a model lies and how it is asked."""

    name: str
    path: Path
    roles: tuple[str, ...] = ROLES
    profile: str = "full"
    translation_profile: str = "full"
    ctx_size: int | None = None
    threads: int | None = None
    notice: str = ""


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


def _with_role(specs: dict[str, ModelSpec], role: str) -> str:
    return ", ".join(s.name for s in specs.values() if role in s.roles)


def _read() -> tuple[dict[str, ModelSpec], dict[str, str]]:
    specs: dict[str, ModelSpec] = {}
    defaults: dict[str, str] = {}
    for path in (paths.builtin("models.toml"), paths.config_dir() / "models.toml"):
        if not path.is_file():
            continue
        try:
            data = _toml.loads(path.read_text(encoding="utf-8"))
            defaults |= dict(data.get("defaults", {}))
            specs |= {name: _spec(path, name, row) for name, row in data.get("models", {}).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is broken: {error}.", "Compare it with the models.toml of the project.") from error
    return specs, defaults


_KINDS: dict[str, type] = {"profile": str, "translation_profile": str, "ctx_size": int, "threads": int, "notice": str}


def _spec(registry: Path, name: str, row: dict[str, Any]) -> ModelSpec:
    """Raises ValueError saying what is wrong in an entry."""
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        raise ValueError(f"models.{name} needs a 'file'")
    roles = row.get("roles", list(ROLES))
    if not isinstance(roles, list) or not roles or not set(roles) <= set(ROLES):
        raise ValueError(f"models.{name}.roles must be a list of {' and '.join(ROLES)}")
    known = {key: row[key] for key in _KINDS if key in row}
    for key, value in known.items():
        if type(value) is not _KINDS[key] or (isinstance(value, int) and value < 1):
            raise ValueError(f"models.{name}.{key} must be a {'number' if _KINDS[key] is int else 'text'}")
    path = Path(row["file"]).expanduser()
    if not path.is_absolute():
        beside = registry.parent / path.name  # in an installed package the model lies beside the registry
        path = registry.parent / path
        path = path if path.exists() or not beside.exists() else beside
    return ModelSpec(name, path, tuple(roles), **known)
