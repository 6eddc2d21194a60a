"""A run in parts, each in a folder of its own, as the jobs of an array make them."""

import re
from pathlib import Path

from clinex_edge.errors import RunError
from clinex_edge.runs.journal import JOURNAL

Shard = tuple[int, int]  # (i, n): the i-th of n parts, from 1
_NAME = re.compile(r"shard-(\d+)-of-(\d+)")


def shard_folder(folder: Path, shard: Shard) -> Path:
    return folder / "shard-{}-of-{}".format(*shard)


def whole_of(folder: Path) -> Path:
    """The folder of the whole run that a folder is a shard of, or else itself."""
    return folder.parent if _NAME.fullmatch(folder.name) else folder


def parts(folder: Path) -> list[Path]:
    """The folder itself where it holds a run, else the shards in it, in order.

    Raises RunError where there are none, or shards of different divisions, whose documents would be there twice.
    """
    if (folder / JOURNAL).exists():
        return [folder]
    found = _shards(folder)
    if not found:
        raise RunError(f"{folder} holds no run.", "See: clinex-edge runs list")
    if len({n for _, n in found}) > 1:
        names = ", ".join(path.name for path in found.values())
        raise RunError(f"{folder} holds shards of different divisions ({names}).", "Name one of them, or move what does not belong there.")
    return list(found.values())


def missing_shards(folder: Path) -> list[Shard]:
    """The parts of a divided run that nobody has begun."""
    found = _shards(folder)
    return [(i, n) for n in {n for _, n in found} for i in range(1, n + 1) if (i, n) not in found]


def _shards(folder: Path) -> dict[Shard, Path]:
    found = {}
    for path in folder.glob(f"shard-*/{JOURNAL}"):
        if match := _NAME.fullmatch(path.parent.name):
            found[int(match[1]), int(match[2])] = path.parent
    return dict(sorted(found.items()))
