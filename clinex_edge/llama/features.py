"""The CPU features that this build of llama.cpp uses, and those that the processor has.

llama-cpp-python is asked in a process of its own: one that was built for another processor may end the process that loads it.
"""

import re
import signal
import subprocess
import sys
from pathlib import Path

from clinex_edge.errors import ModelError
from clinex_edge.llama.child import environment

COMPILE = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"

_CPUINFO = Path("/proc/cpuinfo")
_ILLEGAL_INSTRUCTION = (-signal.SIGILL, 0xC000001D)  # the latter on Windows
_ASK = "import llama_cpp; print(llama_cpp.llama_print_system_info().decode())"
# llama.cpp's name: those of Linux, any of which will do. AMX is left out: llama.cpp looks for it before it uses it.
_FLAGS = {
    "SSE3": ("pni", "sse3"), "SSSE3": ("ssse3",), "AVX": ("avx",), "AVX2": ("avx2",), "FMA": ("fma",), "F16C": ("f16c",), "BMI2": ("bmi2",),
    "AVX_VNNI": ("avx_vnni",), "AVX512": ("avx512f",), "AVX512_VBMI": ("avx512vbmi",), "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",), "NEON": ("asimd", "neon"), "DOTPROD": ("asimddp",), "MATMUL_INT8": ("i8mm",), "FP16_VA": ("asimdhp",),
    "SVE": ("sve",),
}  # fmt: skip
FAST = ("AVX2", "FMA", "F16C", "AVX_VNNI", "AVX512", "AVX512_VNNI", "NEON", "DOTPROD", "MATMUL_INT8")  # what a model's speed depends on


def used() -> set[str]:
    """The features that llama.cpp was built to use, by its own names. Raises ModelError where it cannot even say so."""
    command = [sys.executable, "-c", _ASK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120, check=False)  # noqa: S603  (our own line)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(
            f"llama.cpp cannot be asked ({type(error).__name__}).", "Try again; restart the machine if that does not help."
        ) from error
    if done.returncode in _ILLEGAL_INSTRUCTION:
        raise ModelError(
            "llama.cpp was compiled for another processor: it stops with 'illegal instruction'.", f"Compile it here: {COMPILE}"
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ModelError(f"llama.cpp does not start: {reason}", f"Install it again: {COMPILE}")
    return set(re.findall(r"(\w+) = 1\b", done.stdout))


def offloads() -> bool:
    """Whether this build of llama.cpp can compute on a GPU. Not to be asked where `used` fails."""
    import llama_cpp

    return bool(llama_cpp.llama_supports_gpu_offload())


def present() -> set[str] | None:
    """The features that the processor has, by llama.cpp's names; None where the system does not tell (only Linux does)."""
    try:
        listed = re.search(r"^(?:flags|Features)\s*:(.*)$", _CPUINFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    flags = set(listed[1].split()) if listed else set()
    return {name for name, spellings in _FLAGS.items() if flags.intersection(spellings)} or None


def unused(used: set[str], present: set[str]) -> list[str]:
    """What would make models faster here, were llama.cpp compiled for it."""
    return [name for name in FAST if name in present - used]


def lacking(used: set[str], present: set[str]) -> list[str]:
    """What llama.cpp uses though this processor cannot."""
    return [name for name in _FLAGS if name in used - present]
