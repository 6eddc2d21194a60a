"""Optional libraries that read a file's format."""

import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from clinex_edge.errors import InputError

_SILENCE = logging.NullHandler()  # a logger without any handler writes to stderr


def library(module: str, package: str, path: str | Path) -> Any:
    """Import a module, and keep it from writing to stderr: its warnings could quote a document. Raises InputError where it is missing."""
    try:
        imported = import_module(module)
    except ImportError as error:
        raise InputError(f"{path}: {package} is not installed.", "pip install 'clinex-edge[files]'") from error
    name = module.partition(".")[0]
    warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
    logging.getLogger(name).addHandler(_SILENCE)
    return imported
