"""Runs the command line: inside the test's process where that will do, as a process of its own where it must be real."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from clinex_edge.cli.main import main

ROOT = Path(__file__).parent.parent


class Run(NamedTuple):
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def records(self):
        """The records of JSON Lines on stdout."""
        return [json.loads(line) for line in self.stdout.split("\n") if line]


def run(capsys, *args, stdin=b""):
    """Call `main` with these arguments and bytes on stdin."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clinex-edge", *_one_thread(args)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with pytest.raises(SystemExit) as leaving:
            main()
    return Run(leaving.value.code, *capsys.readouterr())


def command(*args):
    """The command line of `python -m clinex_edge`."""
    return [sys.executable, "-m", "clinex_edge", *_one_thread(args)]


def environment(**variables):
    """This process's environment, for a child; without gdb's report where llama.cpp aborts."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "GGML_NO_BACKTRACE": "1", **variables}


def spawn(*args, stdin=b"", env=None, **options):
    """Run `python -m clinex_edge`; `env` adds variables. What it prints must be UTF-8."""
    variables = environment(**env or {})
    done = subprocess.run(command(*args), input=stdin, capture_output=True, env=variables, timeout=300, check=False, **options)
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def _one_thread(args):
    """Threads that wait for busy cores would make the small model a hundred times slower."""
    first, *rest = map(str, args)
    return [first, "--threads", "1", *rest] if first in ("extract", "translate") else [first, *rest]
