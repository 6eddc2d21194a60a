"""Whether a model file may be loaded into this process."""

import contextlib
import json

from clinex_edge import paths
from clinex_edge.atomic import write_private
from clinex_edge.llama.machine import build_info
from clinex_edge.llama.trial import try_out
from clinex_edge.models import store
from clinex_edge.models.registry import ModelSpec, vouched


def vet(spec: ModelSpec, sha256: str) -> None:
    """Try a file out in a process of its own, once for each file and build of llama.cpp; those that a registry or the Hub vouches
    for are not tried. `sha256` is that of the file. Raises ModelError where it cannot be used."""
    installed = store.get(spec.name)
    from_hub = installed is not None and installed.sha256 == sha256 and installed.origin.get("kind") == "hub"
    if from_hub or sha256 in vouched():
        return
    memory = paths.cache_dir() / "tried.json"
    tried: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        tried = list(json.loads(memory.read_text(encoding="utf-8")))
    key = f"{sha256} {build_info()}"
    if key in tried:
        return
    try_out(spec.path)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        write_private(memory, json.dumps([*tried[-200:], key], indent=1))
