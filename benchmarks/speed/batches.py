"""Tokens a second by size of batch and order of weights, behind a prefix of 900 tokens.

    python -m benchmarks.speed.batches MODEL.gguf

"one text" is a prompt of that many tokens; "16 texts" is one more token for each of 16 sequences, as in translation.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks.speed.workload import CONTEXT
from clinex_edge.llama.model import LoadOptions, Model, Run, Tuning

SIZES = (1, 4, 8, 16, 32, 64, 200)
TOGETHER = (4, 8, 16, 32)
PREFIX = 900


@click.command(help=__doc__)
@click.argument("path", metavar="MODEL", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def main(path: Path, threads: int | None, rounds: int) -> None:
    click.echo("\t".join(["weights", *(f"one text of {size}" for size in SIZES), *(f"{count} texts" for count in TOGETHER)]))
    for repack in (True, False):
        model = Model(path, LoadOptions(CONTEXT, threads, 0, Tuning(repack=repack)))
        click.echo("\t".join(["repacked" if repack else "as in the file", *(f"{pace:.1f}" for pace in _paces(model, rounds))]))
        model.close()


def _paces(model: Model, rounds: int) -> list[float]:
    tokens = [i * 7919 % model.n_vocab for i in range(PREFIX)]
    model.prefill(tokens)
    alone = [_pace(model, size, rounds, partial(model.extend, tokens[:size])) for size in SIZES]
    return [*alone, *(_pace(model, count, rounds, partial(_together, model, tokens[0], count)) for count in TOGETHER)]


def _pace(model: Model, size: int, rounds: int, run: Callable[[], object]) -> float:
    """Median tokens a second."""
    seconds = []
    for _ in range(rounds + 1):
        model.rewind(PREFIX)
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return size / float(np.median(seconds[1:]))


def _together(model: Model, token: int, count: int) -> None:
    with model.branches(count) as sequences:
        list(model.compute([Run([token], PREFIX, (sequence,), {0}) for sequence in sequences]))


if __name__ == "__main__":
    main()
