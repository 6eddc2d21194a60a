"""What this machine computes with: processor, cores, memory, GPUs."""

import ctypes
import os
import platform
from pathlib import Path

import llama_cpp
import psutil
from llama_cpp import _ggml

_GPU = 1  # enum ggml_backend_dev_type: a GPU with memory of its own


def physical_cores() -> int:
    """Cores that this process may use; those that share one count once."""
    return min(psutil.cpu_count(logical=False) or logical_cores(), logical_cores())


def logical_cores() -> int:
    """Threads that can run at once in this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def repacking_pays(quantization: str) -> bool:
    """Whether llama.cpp reads a prompt faster once a model's weights are in another order.

    K-quants on processors with AVX-512 VNNI are better left alone: llama.cpp's tiled kernels for the file's own order are faster
    there than the kernels for the other (not with AVX2: measured, see docs/architecture.md).
    """
    return not ("_K" in quantization and "AVX512_VNNI = 1" in build_info())


def free_memory() -> int:
    """Bytes of main memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)


def free_gpu_memory() -> int:
    """Bytes free on all GPUs that this build of llama.cpp can use; 0 where there is none."""
    if not llama_cpp.llama_supports_gpu_offload():
        return 0
    ggml = _ggml.libggml
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]
    ggml.ggml_backend_dev_memory.restype = None
    total = 0
    for index in range(ggml.ggml_backend_dev_count()):
        device, free, size = ggml.ggml_backend_dev_get(index), ctypes.c_size_t(), ctypes.c_size_t()
        if ggml.ggml_backend_dev_type(device) == _GPU:
            ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(size))
            total += free.value
    return total


def description() -> str:
    """One line that tells machines of another speed apart; names no host and no user."""
    return f"{cpu_name()}, {physical_cores()} cores, {logical_cores()} threads, {build_info()}"


def build_info() -> str:
    """The version of llama-cpp-python and the CPU features that its llama.cpp was built to use."""
    return f"llama-cpp-python {llama_cpp.__version__}; {llama_cpp.llama_print_system_info().decode().strip()}"


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
