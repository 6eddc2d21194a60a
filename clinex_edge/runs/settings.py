"""What an extraction was asked to do: enough to do the same again, on this machine or another."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from clinex_edge.files.sources import Reading, Source, sources
from clinex_edge.models.fingerprint import sha256_of
from clinex_edge.models.registry import ModelSpec, find
from clinex_edge.tasks import load_task, load_translation


@dataclass(frozen=True)
class Loading:
    """How the models are loaded; this may differ when a run goes on."""

    threads: int | None = None
    gpu_layers: int | None = None


@dataclass(frozen=True)
class Settings:
    """The arguments of `clinex-edge extract`. Paths are absolute; `shard` is (i, n), the i-th of n parts, or None for the whole.

    `translations` is the folder of a run whose translations are taken where it has them.
    """

    paths: tuple[str, ...]
    reading: Reading = Reading()  # noqa: RUF009  (frozen)
    shard: tuple[int, int] | None = None
    model: str | None = None
    translator: str | None = None
    task: str = "palliative-call"
    decoder: str = "joint"
    translate: bool = True
    ctx_size: int | None = None
    loading: Loading = Loading()
    translations: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "paths": list(self.paths), "shard": list(self.shard) if self.shard else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        shard = values["shard"]
        nested = {"reading": Reading(**values["reading"]), "loading": Loading(**values["loading"])}
        return cls(**{**values, **nested, "paths": tuple(values["paths"]), "shard": (shard[0], shard[1]) if shard else None})

    def sources(self, told: Callable[[str], None] = lambda text: None) -> Iterator[Source]:
        """The documents of this shard, in order. Raises UsageError as `files.sources` does."""
        for source in sources(self.paths, self.reading, told):
            if self.shard is None or _part(source.id, self.shard[1]) == self.shard[0]:
                yield source

    def models(self) -> dict[str, ModelSpec]:
        """The models by role. Raises UsageError for an unknown name, ModelError for a broken registry."""
        roles = {"extractor": self.model} | ({"translator": self.translator} if self.translate else {})
        return {role: find(name, role) for role, name in roles.items()}

    def fingerprints(self) -> dict[str, str]:
        """The sha256 of everything that decides the answers. Raises what `models` does, ModelError for a missing one, and TaskError."""
        models = self.models()
        found = {"task": load_task(self.task).sha256}
        for role, spec in models.items():
            spec.require()
            found[role] = sha256_of(spec.path)
        if self.translate:
            found["translation"] = load_translation(models["translator"].translation_profile).sha256
        return found


def _part(identifier: str, parts: int) -> int:
    """Which of so many parts (from 1) a document belongs to: by its id alone, so that documents that are added move no other."""
    digest = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % parts + 1
