"""The wheels of clinex-edge and of all that it needs, with what reads every kind of file, for a machine without a package index."""

import subprocess
import sys
from pathlib import Path

from clinex_edge import __version__
from clinex_edge.errors import OutputError

BYTES = 300_000_000  # more than they have taken so far
_STDERR = 2


def make(folder: Path) -> None:
    """Fill `folder` by pip, which fetches and compiles for this system, Python version and processor. Raises OutputError."""
    project = Path(__file__).parents[2]
    what = f"{project}[files]" if (project / "pyproject.toml").is_file() else f"clinex-edge[files]=={__version__}"
    command = [sys.executable, "-m", "pip", "wheel", "--wheel-dir", str(folder), what]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=_STDERR, check=False)  # noqa: S603  (no shell, no foreign text)
    if done.returncode or not any(folder.glob("clinex_edge-*.whl")):
        raise OutputError(
            f"pip could not make the wheels (exit status {done.returncode}); what it said stands above.",
            "It needs a package index (pip's own settings and HTTPS_PROXY apply) and a C++ compiler. Run the same command again to go on, "
            "or leave --wheels out.",
        )
