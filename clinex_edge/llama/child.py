"""Processes of our own that touch llama.cpp, so that it can end them and nothing else."""

import os
import sys


def environment() -> dict[str, str]:
    """This process's variables for a child that runs the same code, without a debugger's report where llama.cpp aborts."""
    return {**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
