"""Damages a model file in many ways and tries each: python -m tests.mutants FILE SEED COUNT, on a file that may be changed.

Prints counts as JSON. Each file that our own check of the header lets through is loaded in a forked process, as
clinex_edge.llama.trial does in a new one.
"""

import json
import os
import random
import resource
import sys
import warnings
from collections import Counter
from pathlib import Path

from clinex_edge.errors import ClinexError, ModelError
from clinex_edge.llama import gguf, trial

_OTHER, _REFUSED, _FINE = 1, 3, 0


def header_length(content):
    """Bytes before the tensors' data."""
    reader = gguf._Reader(_Counting(content), len(content))
    reader.bytes(4)
    gguf._parse(reader)
    return reader.file.tell()


class _Counting:
    def __init__(self, content):
        self.content, self.at = content, 0

    def read(self, count):
        self.at += count
        return self.content[self.at - count : self.at]

    def tell(self):
        return self.at


def mutation(header, rng):
    """A place in the header, mostly outside the vocabulary, and other bytes for it: a flipped bit, or a hostile number."""
    regions = [range(min(2000, len(header))), range(max(0, len(header) - 6000), len(header)), range(len(header))]
    at = rng.choice(rng.choices(regions, (4, 4, 2))[0])
    if rng.random() < 0.5:
        return at, bytes([header[at] ^ (1 << rng.randrange(8))])
    number = rng.choice([0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1])
    return at, number.to_bytes(8, "little")[: min(rng.choice([1, 4, 8]), len(header) - at)]


def outcome(path):
    """What happens to a process that uses this file."""
    try:
        gguf._read.__wrapped__(path, path.stat().st_size, 0)
    except ModelError:
        return "refused by us"
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        try:
            trial.attempt(path)
        except ClinexError:
            os._exit(_REFUSED)
        except BaseException:
            os._exit(_OTHER)
        os._exit(_FINE)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return {_FINE: "fine", _REFUSED: "refused by llama.cpp"}.get(os.WEXITSTATUS(status), "another exception")


def main(path, seed, count):
    os.environ["GGML_NO_BACKTRACE"] = "1"
    warnings.simplefilter("ignore")
    content = path.read_bytes()
    header = content[: header_length(content)]
    rng = random.Random(seed)
    outcomes, killers = Counter(), []
    for _ in range(count):
        if rng.random() < 0.1:
            os.truncate(path, rng.randrange(len(content)))
            found, where = outcome(path), "cut"
            path.write_bytes(content)
        else:
            at, other = mutation(header, rng)
            _write(path, at, other)
            found, where = outcome(path), (at, other.hex())
            _write(path, at, content[at : at + len(other)])
        outcomes[found] += 1
        if found.startswith("signal"):
            killers.append((found, where))
    print(json.dumps({"outcomes": outcomes, "killers": killers}))


def _write(path, at, data):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
