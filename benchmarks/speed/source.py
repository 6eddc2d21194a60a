"""llama.cpp's own sources, as they lie in the source distribution of the installed llama-cpp-python.

They hold real tokenizers without weights, real chat templates, and the server that we are compared with.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

_LEFT_OUT = ("BUILD_SHARED_LIBS", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_APP", "LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI",
             "LLAMA_OPENSSL")  # fmt: skip


def llama_cpp_source(folder: Path) -> Path:
    """The folder of llama.cpp's sources, unpacked in `folder` from the archive there, which pip fetches where it is missing.

    Raises CalledProcessError where pip fails.
    """
    name = f"llama_cpp_python-{version('llama-cpp-python')}"
    if not (folder / name).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / f"{name}.tar.gz"
        if not archive.exists():
            package, wanted = "llama-cpp-python", f"llama-cpp-python=={version('llama-cpp-python')}"
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", package, "--dest", str(folder), wanted]
            subprocess.run(pip, check=True)  # noqa: S603  (our own words only)
        with tempfile.TemporaryDirectory(dir=folder) as draft, tarfile.open(archive) as packed:
            packed.extractall(draft, filter="data")
            (Path(draft) / name).replace(folder / name)
    return folder / name / "vendor/llama.cpp"


def build_server(source: Path, folder: Path) -> Path:
    """The llama-server of these sources, built for this machine in `folder`: a long compile the first time.

    Raises CalledProcessError where cmake or the compiler fails.
    """
    build = folder / f"llama-server-{version('llama-cpp-python')}"
    options = ["-DCMAKE_BUILD_TYPE=Release", *(f"-D{name}=OFF" for name in _LEFT_OUT)]
    subprocess.run(["cmake", "-S", str(source), "-B", str(build), *options], check=True)  # noqa: S603, S607
    target = ["--config", "Release", "--target", "llama-server", "--parallel", str(os.cpu_count() or 1)]
    subprocess.run(["cmake", "--build", str(build), *target], check=True)  # noqa: S603, S607
    return next(path for path in (build / "bin").rglob("llama-server*") if path.is_file())
