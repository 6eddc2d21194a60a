"""Tries a model file in a process of its own.

llama.cpp trusts what a file says about itself: a damaged or hostile one whose header looks whole can still make it abort, or read
where it must not, and take the process along.
"""

import json
import subprocess
import sys
from pathlib import Path

from clinex_edge.errors import ClinexError, ModelError
from clinex_edge.llama.child import environment
from clinex_edge.offline import guarded

_REFUSED = 3  # exit status of the child where a ClinexError says why
_SECONDS = 900  # a big file on a slow disk
_CONTEXT = 256  # tokens


def try_out(path: Path) -> None:
    """Load the file in a child process, and compute a few tokens with it.

    Raises ModelError where that fails in any way, and NotEnoughMemoryError's message as a ModelError where memory is short.
    """
    command = [sys.executable, "-m", "clinex_edge.llama.trial", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, env=environment(), timeout=_SECONDS, check=False)  # noqa: S603  (our own module)
    except subprocess.TimeoutExpired:
        raise _unusable(path, f"llama.cpp was not done with it after {_SECONDS // 60} minutes") from None
    if done.returncode == 0:
        return
    if done.returncode == _REFUSED:
        raise ModelError(*json.loads(done.stdout))
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
    raise _unusable(path, f"llama.cpp failed on it ({how})")


def attempt(path: Path) -> None:
    """What the child does: everything that reads the file's own numbers. Raises ClinexError; may kill the process."""
    from clinex_edge.llama.model import LoadOptions, Model

    model = Model(path, LoadOptions(ctx_size=_CONTEXT, threads=1, gpu_layers=0))
    tokens = model.tokenize("A call. تماس")[: _CONTEXT // 4]
    if model.header.chat_template:
        tokens = [*model.chat_tokens([("user", "A call.")])[: _CONTEXT // 2], *tokens]
    model.detokenize(tokens)
    model.prefill(tokens or [0])
    model.close()


def _unusable(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} cannot be used: {why}.",
        "It was tried in a process of its own, so nothing else was harmed. The file is damaged, or newer than this llama-cpp-python: "
        "get it again from a source that you trust.",
    )


if __name__ == "__main__":
    try:
        with guarded():
            attempt(Path(sys.argv[1]))
    except ClinexError as error:
        print(json.dumps([str(error), error.hint]))
        sys.exit(_REFUSED)
