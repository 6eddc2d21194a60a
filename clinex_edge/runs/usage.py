"""What a process has used of the machine so far."""

import sys
import time
from pathlib import Path


def used() -> dict[str, float]:
    """CPU seconds of all threads of this process, and the most main memory that it has held (bytes, mapped files among them)."""
    return {"cpu_s": round(time.process_time(), 3), "peak_bytes": _peak()}


def _peak() -> int:
    if sys.platform == "linux":  # what getrusage says there includes the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
