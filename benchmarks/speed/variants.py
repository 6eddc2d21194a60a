"""Ways to run the decoder `joint`, for measurement only.

    python -m benchmarks.speed.variants MODEL.gguf

Seconds of a later document, by variant and number of yes. Guessed slots are computed in the same batch; what stands behind the
first wrong guess is computed again. Guesses begin as no; where they are kept, what the model said in one batch is the guess of the
next. On random weights the decisions mean nothing, so a given set of slots is yes whatever the model says, in all variants alike.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from benchmarks.speed.ways import load
from benchmarks.speed.workload import CONTEXT, Workload, documents
from clinex_edge.decoding import compile_tokens
from clinex_edge.decoding.decision import decide
from clinex_edge.decoding.decoders import written
from clinex_edge.decoding.template import TokenSlot
from clinex_edge.llama.branches import Branch
from clinex_edge.llama.model import LoadOptions, Logits, Model, common_length, constant_prefix

Judge = Callable[[TokenSlot, Logits], bool]  # whether a slot is yes


class Variant(NamedTuple):
    """How many slots behind the next are guessed, and whether guesses are kept from one batch to the next."""

    ahead: int
    kept: bool = False


VARIANTS = {
    "literals batched": Variant(0),
    "two slots guessed": Variant(2),
    "all slots guessed": Variant(99),
    "all slots guessed, guesses kept": Variant(99, kept=True),  # this is `joint`
}


def guessing(model: Model, prompt: Sequence[int], slots: Sequence[TokenSlot], variant: Variant, is_yes: Judge) -> list[bool]:
    """The decisions of `joint`."""
    guesses = [False] * len(slots)
    done = 0
    with model.branches(1) as (sequence,):
        branch = Branch(model, sequence, prompt)
        while done < len(slots):
            answer, ends = written(slots[: done + variant.ahead + 1], guesses)
            rows = model.compute([branch.run(answer, ends[done:])])
            said = [is_yes(slot, row) for slot, row in zip(slots[done:], rows, strict=False)]
            final = common_length([said, guesses[done:]]) + 1
            guessed = said if variant.kept else said[:final]
            guesses[done : done + len(guessed)] = guessed
            done += min(final, len(said))
    return guesses


def by_model(slot: TokenSlot, logits: Logits) -> bool:
    """The model's own decision, as in `joint`."""
    return bool(decide(logits, slot.choices[0][0], slot.choices[1][0]).yes)


def spread(count: int, slots: Sequence[TokenSlot]) -> Judge:
    """`count` slots, evenly spread, are yes."""
    yes = {slots[int((i + 0.5) * len(slots) / count)].field for i in range(count)}
    return lambda slot, logits: slot.field in yes


@click.command(help=__doc__)
@click.argument("path", metavar="MODEL", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def main(path: Path, threads: int | None, rounds: int) -> None:
    model, workload = load(path, LoadOptions(CONTEXT, threads)), Workload()
    slots = compile_tokens(workload.template, model.tokenize)

    def prompt(document: str) -> list[int]:
        return model.chat_tokens(workload.task.messages(workload.profile, document))

    prompts = [prompt("\n".join(lines)) for lines in documents(rounds, model.tokenize)]
    prefix = constant_prefix(prompt)
    model.hold(prefix)
    counts = (0, 1, 2, 4)
    click.echo("\t".join(["seconds", *(f"{count} yes" for count in counts)]))
    seconds: dict[tuple[str, int], list[float]] = {(name, count): [] for name in VARIANTS for count in counts}
    for tokens in prompts:
        for (name, count), values in seconds.items():
            started = time.perf_counter()
            guessing(model, tokens, slots, VARIANTS[name], spread(count, slots))
            values.append(time.perf_counter() - started)
    for name in VARIANTS:
        click.echo("\t".join([name, *(f"{np.median(seconds[name, count]):.3f}" for count in counts)]))
    model.close()


if __name__ == "__main__":
    main()
