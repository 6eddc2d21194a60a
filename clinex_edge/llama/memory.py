"""How much memory a model will need, before it is loaded, and how many of its layers a GPU holds."""

import llama_cpp

from clinex_edge.errors import NotEnoughMemoryError
from clinex_edge.llama import machine
from clinex_edge.llama.gguf import GgufHeader

_WORKING = 64 * 2**20  # bytes; buffers that do not grow with the model
_F16 = 2  # bytes of a value in the KV cache
_GPU_SHARE = 0.9  # of the free memory; the rest is for the driver and the screen


def needed(header: GgufHeader, ctx_size: int, batch: int, gpu_layers: int = 0) -> int:
    """Bytes of main memory at the peak: weights, KV cache, and the logits of one batch of `batch` tokens.

    Layers on a GPU take none.
    """
    working = _WORKING + 4 * batch * header.vocabulary
    if not llama_cpp.llama_supports_gpu_offload():
        gpu_layers = 0
    layers = header.layers + 1  # and the output
    on_cpu = 1 - min(gpu_layers if gpu_layers >= 0 else layers, layers) / layers
    return int((header.size + ctx_size * header.kv_values * _F16) * on_cpu) + working


def layers_for_gpu(header: GgufHeader, ctx_size: int, batch: int) -> int:
    """How many layers fit the GPUs of this machine, the output counted as one."""
    layers = header.layers + 1
    room = _GPU_SHARE * machine.free_gpu_memory() - _WORKING - 4 * batch * header.vocabulary
    a_layer = (header.size + ctx_size * header.kv_values * _F16) / layers
    return max(0, min(layers, int(room / a_layer)))


def check(header: GgufHeader, ctx_size: int, batch: int, gpu_layers: int = 0) -> None:
    """Raises NotEnoughMemoryError, with advice, where the model would not fit."""
    need, free = needed(header, ctx_size, batch, gpu_layers), machine.free_memory()
    if need <= free:
        return
    fits = ctx_size - (need - free) // max(1, header.kv_values * _F16)
    if fits >= max(256, ctx_size // 8):
        advice = f"Close other programs, or give a smaller --ctx-size (about {fits // 256 * 256} fits)."
    else:
        advice = "Close other programs, or use a smaller model."
    raise NotEnoughMemoryError(f"{header.path.name} needs about {_gigabytes(need)} of memory; {_gigabytes(free)} is free.", advice)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
