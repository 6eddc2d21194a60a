"""clinex-edge: what a patient call or clinical note contains, on your own machine.

from clinex_edge import Pipeline
with Pipeline() as pipeline:
    record = pipeline.extract("پرستار: درد دارید؟\nبیمار: بله، خیلی.")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Document", "LoadOptions", "Pipeline", "Record", "__version__"]

if TYPE_CHECKING:
    from clinex_edge.documents import Document
    from clinex_edge.llama.model import LoadOptions
    from clinex_edge.pipeline.pipeline import Pipeline
    from clinex_edge.pipeline.record import Record

_HOMES = {
    "Document": "clinex_edge.documents",
    "LoadOptions": "clinex_edge.llama.model",
    "Pipeline": "clinex_edge.pipeline.pipeline",
    "Record": "clinex_edge.pipeline.record",
}


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first used."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'clinex_edge' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
