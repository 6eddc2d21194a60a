"""Where things lie. `CLINEX_HOME` puts the personal folders under one folder of the user's choice."""

import os
from pathlib import Path

APP = "clinex-edge"
_PACKAGE = Path(__file__).parent


def _personal(kind: str) -> Path:
    if home := os.environ.get("CLINEX_HOME"):
        return Path(home).expanduser() / kind
    import platformdirs

    return Path(getattr(platformdirs, f"user_{kind}_path")(APP, appauthor=False))


def config_dir() -> Path:
    """The user's own `models.toml` and `prompts/`, which override the built-in ones by name."""
    return _personal("config")


def data_dir() -> Path:
    """Models. They survive a cleaning of the cache."""
    return _personal("data")


def cache_dir() -> Path:
    """What can be computed again. Never patient text."""
    return _personal("cache")


def builtin(name: str) -> Path:
    """A data file of the project: inside an installed package, or at the top of a source checkout."""
    for folder in (_PACKAGE / "data", _PACKAGE.parent):
        if (folder / name).exists():
            return folder / name
    return _PACKAGE / "data" / name


def state_dir() -> Path:
    """What was found out about this machine, such as tunings. Never patient text."""
    return _personal("state")
