"""The tunings found on this machine, remembered for each model file."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clinex_edge import paths
from clinex_edge.atomic import write_private
from clinex_edge.llama import machine
from clinex_edge.llama.model import KV_TYPES, Tuning


def remembered(sha256: str) -> Tuning | None:
    """The tuning of a model file on a machine like this one, or None where it was not tuned."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        tuning = Tuning(**_read()[machine.description()][sha256])
        if tuning.kv_type in KV_TYPES:
            return tuning
    return None


def remember(sha256: str, tuning: Tuning) -> None:
    """Raises OSError where the file cannot be written."""
    known = _read()
    known.setdefault(machine.description(), {})[sha256] = asdict(tuning)
    write_private(_file(), json.dumps(known, indent=1))


def forget(sha256: str) -> bool:
    """Go back to the defaults; False where there was nothing to forget. Raises OSError where the file cannot be written."""
    known = _read()
    if known.get(machine.description(), {}).pop(sha256, None) is None:
        return False
    write_private(_file(), json.dumps(known, indent=1))
    return True


def _file() -> Path:
    return paths.state_dir() / "tunings.json"


def _read() -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
