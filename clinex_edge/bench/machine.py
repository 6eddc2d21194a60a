"""What a benchmark ran on, for its report."""

import platform
from typing import Any

from clinex_edge import __version__


def described() -> dict[str, Any]:
    """Processor, cores, memory (bytes), build and versions; names no host and no user."""
    from importlib.metadata import version

    import psutil

    from clinex_edge.llama import machine

    return {
        "processor": machine.cpu_name(),
        "cores": machine.physical_cores(),
        "threads": machine.logical_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu_memory_free_bytes": machine.free_gpu_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "build": machine.build_info(),
        "versions": {
            "clinex-edge": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("llama-cpp-python", "numpy", "pandas", "scikit-learn")},
        },
    }
