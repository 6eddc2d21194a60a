"""Whether this machine is ready for the work: its processor, memory, disk and folders, the guard, and the models.

llama-cpp-python is imported only once it is known to start here.
"""

import os
import platform
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from clinex_edge import __version__, paths
from clinex_edge.errors import ClinexError, ModelError, OfflineError
from clinex_edge.llama import features
from clinex_edge.llama.gguf import read_header
from clinex_edge.models import store
from clinex_edge.models.fingerprint import sha256_of
from clinex_edge.models.registry import ROLES, ModelSpec, find, known
from clinex_edge.offline import guarded

State = Literal["ok", "note", "warning", "problem"]

_PROBE = 20.0  # seconds for all models together
_BUSY = 20  # percent of the processor
_LITTLE_DISK = 1e9  # bytes
# Measured on a 1.0 GB file in Q4_K_M with 2 cores and AVX-512.
_SECONDS_A_GB, _CORES = 3.0, 2
_USEFUL_CORES = 8  # with more, the memory's speed is the limit
_RULE = (
    f"estimated: {_SECONDS_A_GB:.0f} s a GB of the model file on {_CORES} cores with AVX-512, in proportion to size and cores (up to "
    f"{_USEFUL_CORES}). All seconds are for the answers to an English call; a run's first call takes longer, and so does translating."
)


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it stands and what to do about it. `facts` says it to programs, in bytes and seconds."""

    topic: str
    state: State
    text: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def checkup(probe: bool = False, verify: bool = False) -> Iterator[Finding]:
    """Look at one thing after the other, all but the guard. `probe` measures the models for about 20 seconds, `verify` hashes them."""
    processor = _processor()
    yield processor
    starts = bool(processor.facts)
    if starts:
        yield from _machine()
    yield _disk()
    yield from (_folder(kind, path) for kind, path in _folders().items())
    if starts:
        yield from _models(probe and processor.state != "problem", verify)


def guard() -> Finding:
    """Whether the guard refuses a socket. To be called outside of it: a guard remembers what is refused in a nested one."""
    try:
        with guarded(), socket.socket(socket.AF_INET, socket.SOCK_STREAM):
            pass
    except OfflineError:
        return Finding("offline guard", "ok", "connections are refused; only 'models pull' opens one", facts={"refuses": True})
    text = "a connection to the internet was not refused"
    return Finding("offline guard", "problem", text, "Install clinex-edge again, and report this.", {"refuses": False})


def ticket(findings: Iterable[Finding]) -> dict[str, Any]:
    """Everything for a support ticket: no patient data, and no name of a user or a host (the home folder is "~")."""
    return {
        "schema": 1,
        "clinex_edge": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "findings": [_anonymous(asdict(finding)) for finding in findings],
    }


def _anonymous(value: Any) -> Any:
    """`value` without the home folder, and without folders named after a user or the host."""
    if isinstance(value, dict):
        return {key: _anonymous(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    home = os.path.expanduser("~")
    for folder in {home, os.path.realpath(home)} - {os.path.sep}:
        value = re.sub(rf"{re.escape(folder)}(?![\w.-])", "~", value)
    names = {os.environ.get(key, "") for key in ("LOGNAME", "USER", "USERNAME")} | {os.path.basename(home), *_host()}
    for name in names - {""}:
        value = re.sub(rf"(?<=[/\\]){re.escape(name)}(?=[/\\])", "…", value)
    return value


def _host() -> set[str]:
    return {platform.node(), platform.node().partition(".")[0]}


def _processor() -> Finding:
    try:
        used = features.used()
    except ModelError as error:
        return Finding("CPU features", "problem", str(error), error.hint)
    present = features.present()
    facts = {"used": sorted(used), "present": present and sorted(present)}
    fast = ", ".join(name for name in features.FAST if name in used) or "none of the fast ones"
    if present is None:
        return Finding("CPU features", "note", f"llama.cpp uses {fast}; what the processor has is not known", facts=facts)
    compile_here = f"Compile llama.cpp for this machine: {features.COMPILE}"
    if lacking := features.lacking(used, present):
        text = f"llama.cpp was compiled for {', '.join(lacking)}, which this processor lacks: it will stop with 'illegal instruction'"
        return Finding("CPU features", "problem", text, compile_here, facts)
    if unused := features.unused(used, present):
        text = f"the processor has {', '.join(unused)}, unused by this build of llama.cpp: models are slower than they could be"
        return Finding("CPU features", "warning", text, compile_here, facts)
    return Finding("CPU features", "ok", f"llama.cpp uses {fast}", facts=facts)


def _machine() -> Iterator[Finding]:
    from clinex_edge.llama import machine

    physical, logical = machine.physical_cores(), machine.logical_cores()
    facts = {"physical": physical, "logical": logical, "description": machine.description()}
    yield Finding("cores", "ok", f"{physical} physical, {logical} logical", facts=facts)
    free, total = machine.free_memory(), _total_memory()
    yield Finding("memory", "ok", f"{_size(free)} of {_size(total)} free", facts={"free": free, "total": total})
    if not features.offloads():
        yield Finding("GPU", "note", "none: this build of llama.cpp computes on the CPU only", facts={"usable": False})
    else:
        free = machine.free_gpu_memory()
        yield Finding("GPU", "ok" if free else "note", f"{_size(free)} of GPU memory free", facts={"usable": True, "free": free})


def _total_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _busy() -> float:
    """Percent of the processor that other programs use at the moment."""
    import psutil

    return float(psutil.cpu_percent(0.5))


def _disk() -> Finding:
    where = paths.data_dir()
    try:
        free = shutil.disk_usage(_existing(where)).free
    except OSError as error:
        return Finding("disk", "warning", f"{where}: {error.strerror}", "Check the disk, or choose another with CLINEX_HOME.")
    little = free < _LITTLE_DISK
    advice = "Free some space, or choose another disk: CLINEX_HOME moves all folders." if little else ""
    return Finding("disk", "warning" if little else "ok", f"{_size(free)} free for models", advice, {"free": free})


def _folders() -> dict[str, Path]:
    return {"config": paths.config_dir(), "data": paths.data_dir(), "cache": paths.cache_dir(), "state": paths.state_dir()}


def _folder(kind: str, path: Path) -> Finding:
    nearest = _existing(path)
    exists, writable = path.is_dir(), nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    facts = {"path": str(path), "exists": exists, "writable": writable}
    if writable:
        return Finding(f"{kind} folder", "ok", str(path) if exists else f"{path} (made when it is needed)", facts=facts)
    obstacle = f"Make {nearest} writable for this user" if nearest.is_dir() else f"Remove the file {nearest}"
    advice = f"{obstacle}, or choose other folders with CLINEX_HOME."
    return Finding(f"{kind} folder", "warning", f"{path} cannot be {'written to' if exists else 'made'}", advice, facts)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if os.path.exists(folder))


def _models(probe: bool, verify: bool) -> Iterator[Finding]:
    try:
        specs = known()
        defaults = {find(None, role).name for role in ROLES}
    except ClinexError as error:
        yield Finding("models", "problem", str(error), error.hint)
        return
    if probe and (busy := _busy()) > _BUSY:
        text = f"other programs use {busy:.0f} % of the processor: what is measured now comes out slower, often many times"
        yield Finding("load", "warning", text, "Probe again while the machine does nothing else.", {"percent": busy})
    deadline = time.monotonic() + _PROBE
    to_measure = sum(spec.path.is_file() for spec in specs) if probe else 0
    estimates = False
    for spec in specs:
        if spec.path.is_file():
            finding = _present(spec, verify, (deadline - time.monotonic()) / to_measure if to_measure else None)
            to_measure -= bool(to_measure)
        else:
            finding = _absent(spec, spec.name in defaults)
        estimates |= finding.facts.get("seconds_a_call") is not None and not finding.facts["measured"]
        yield finding
    for name in store.lost({spec.name for spec in specs}):
        yield Finding(name, "warning", "its entry cannot be read", f"clinex-edge models rm {name}, then models pull, import or add.")
    if estimates:
        yield Finding("speed", "note", _RULE, "" if probe else "Measure the models that are here: clinex-edge doctor --probe")


def _present(spec: ModelSpec, verify: bool, budget: float | None) -> Finding:
    """A model that is here; measured in about `budget` seconds where that is a number above 0."""
    from clinex_edge.llama.model import LoadOptions

    facts: dict[str, Any] = {"here": True, "path": str(spec.path)}
    try:
        facts["size"] = spec.path.stat().st_size
        checked = _check(spec, verify)
        facts |= _fit(LoadOptions(spec.ctx_size).memory(spec.path))
        facts |= _speed(spec, facts, budget)
    except ClinexError as error:
        return Finding(spec.name, "problem", str(error), error.hint, facts)
    except OSError as error:
        return Finding(spec.name, "problem", f"{spec.path}: {error.strerror}", "Check the file's permissions and the disk.", facts)
    text = f"here, {_size(facts['size'])}, {checked}; {_told(facts)}"
    if facts["fits"] == "never":
        return Finding(spec.name, "problem", text, "Give a smaller --ctx-size, use a smaller model, or add memory.", facts)
    if facts["fits"] == "later":
        return Finding(spec.name, "warning", text, "Close other programs before it is used.", facts)
    if spec.sha256 is None:
        return Finding(
            spec.name, "warning", text, f"Have it checked from now on: clinex-edge models add {spec.path} --name {spec.name}", facts
        )
    return Finding(spec.name, "ok", text, facts=facts)


def _check(spec: ModelSpec, verify: bool) -> str:
    """What was checked of a file. Raises ModelError where it is damaged or is not what was checked in, and OSError."""
    store.check_size(spec.name, spec.path)
    read_header(spec.path)
    if spec.sha256 is None:
        return "no sha256 known"
    if verify:
        store.check_bytes(spec.name, spec.path, spec.sha256)
        return "sha256 right"
    return "size right" if store.get(spec.name) else "whole"


def _absent(spec: ModelSpec, default: bool) -> Finding:
    facts: dict[str, Any] = {"here": False, "path": str(spec.path), "size": spec.source.size if spec.source else None}
    try:
        spec.require()
    except ModelError as error:
        if default or spec.source is None or store.get(spec.name):
            return Finding(spec.name, "problem", str(error), error.hint, facts)
    if memory := (spec.facts or {}).get("memory"):
        facts |= _fit(memory)
        facts |= _speed(spec, facts, None)
    if store.stated(spec.name):
        return Finding(spec.name, "warning", "here in part: fetching it was cut off", f"Go on: clinex-edge models pull {spec.name}", facts)
    return Finding(spec.name, "note", "; ".join(filter(None, ("not here", _told(facts)))), facts=facts)


def _fit(memory: int) -> dict[str, Any]:
    """Bytes that a model needs, and whether it fits "now", "later" (once other programs are closed) or "never"."""
    from clinex_edge.llama import machine

    fits = "now" if memory <= machine.free_memory() else "later" if memory <= _total_memory() else "never"
    return {"memory": memory, "fits": fits}


def _speed(spec: ModelSpec, facts: dict[str, Any], budget: float | None) -> dict[str, Any]:
    """Seconds a call, measured in about `budget` seconds or estimated. Raises ModelError where the model cannot be loaded."""
    from clinex_edge.llama import machine

    if facts["size"] is None or facts["fits"] == "never":
        return {}
    if budget is None or budget <= 0 or facts["fits"] != "now":
        cores = min(machine.physical_cores(), _USEFUL_CORES)
        return {"seconds_a_call": round(_SECONDS_A_GB * facts["size"] / 1e9 * _CORES / cores, 2), "measured": False}
    return {"seconds_a_call": round(_measure(spec, budget), 3), "measured": True}


def _measure(spec: ModelSpec, budget: float) -> float:
    from clinex_edge.llama.model import LoadOptions, Model, Tuning
    from clinex_edge.llama.probe import seconds_of_call
    from clinex_edge.models.tuned import remembered
    from clinex_edge.models.vetting import vet

    started = time.monotonic()
    sha256 = sha256_of(spec.path)
    vet(spec, sha256)
    tuning = remembered(sha256)
    model = Model(spec.path, LoadOptions(spec.ctx_size, None if tuning else spec.threads, tuning=tuning or Tuning()))
    try:
        return seconds_of_call(model, budget - (time.monotonic() - started))
    finally:
        model.close()


def _told(facts: dict[str, Any]) -> str:
    """Memory and speed in words."""
    if "memory" not in facts:
        return ""
    fit = {"now": "fits", "later": "more than is free now", "never": "more than this machine has"}[facts["fits"]]
    seconds = facts.get("seconds_a_call")
    if seconds is None:
        return f"needs {_size(facts['memory'])}: {fit}"
    pace = f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 0.1 else "under 0.1 s"
    return f"needs {_size(facts['memory'])}: {fit}; {pace} a call ({'measured' if facts['measured'] else 'estimated'})"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
