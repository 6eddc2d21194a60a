"""What a process has used of the machine so far."""

import sys
import time
from pathlib import Path


def used() -> dict[str, float]:
    """CPU seconds of all threads of this process, and the most main memory that it has held (bytes, mapped files among them)."""
    return {"cpu_s": round(time.process_time(), 3), "peak_bytes": _peak()}


def _peak() -> int:
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # What getrusage says on Linux includes the process that started this one, so it is the second choice.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    return 1024 * (kilobytes or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
