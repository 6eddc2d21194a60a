"""How much memory a model will need, and how much there is."""

import llama_cpp
import psutil

from clinex_edge.errors import NotEnoughMemoryError
from clinex_edge.llama.gguf import GgufHeader

_WORKING = 64 * 2**20  # bytes; buffers that do not grow with the model
_F16 = 2  # bytes of a value in the KV cache


def needed(header: GgufHeader, ctx_size: int, batch: int, gpu_layers: int = 0) -> int:
    """Bytes of main memory at the peak: weights, KV cache, and the logits of one batch of `batch` tokens.

    Layers on a GPU take none.
    """
    cache = ctx_size * header.kv_values * _F16
    working = _WORKING + 4 * batch * header.vocabulary
    if gpu_layers and llama_cpp.llama_supports_gpu_offload():
        layers = header.layers + 1
        on_cpu = 1 - min(gpu_layers if gpu_layers > 0 else layers, layers) / layers
        return int((header.size + cache) * on_cpu) + working
    return header.size + cache + working


def available() -> int:
    """Bytes of main memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)


def check(header: GgufHeader, ctx_size: int, batch: int, gpu_layers: int = 0) -> None:
    """Raises NotEnoughMemoryError, with advice, where the model would not fit."""
    need, free = needed(header, ctx_size, batch, gpu_layers), available()
    if need <= free:
        return
    fits = ctx_size - (need - free) // max(1, header.kv_values * _F16)
    if fits >= ctx_size // 8:
        advice = f"Close other programs, or give a smaller --ctx-size (about {int(fits) // 256 * 256} fits)."
    else:
        advice = "Close other programs, or use a smaller model."
    raise NotEnoughMemoryError(f"{header.path.name} needs about {_gigabytes(need)} of memory; {_gigabytes(free)} is free.", advice)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
