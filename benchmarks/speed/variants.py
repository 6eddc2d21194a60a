"""Ways to run the decoder `joint` with fewer, larger steps, for measurement only.

    python -m benchmarks.speed.variants MODEL.gguf

Seconds of a later document, by variant and number of yes. Guessing takes the following slots for "no" and computes them in the
same batch; what stands behind the first wrong guess is computed again. On random weights the decisions mean nothing, so a given
set of slots is yes whatever the model says, in all variants alike.
"""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.speed.ways import load
from benchmarks.speed.workload import CONTEXT, Workload, documents
from clinex_edge.decoding import compile_tokens, room_for
from clinex_edge.decoding.decision import decide
from clinex_edge.decoding.template import TokenSlot
from clinex_edge.errors import ContextError
from clinex_edge.llama.model import LoadOptions, Logits, Model, common_length

Judge = Callable[[TokenSlot, Logits], bool]  # whether a slot is yes
VARIANTS = {"literals batched": 0, "two slots guessed": 2, "all slots guessed": 99}  # slots guessed ahead


def guessing(model: Model, prompt: Sequence[int], slots: Sequence[TokenSlot], ahead: int, is_yes: Judge) -> list[bool]:
    """The decisions of `joint`; each batch holds the slot to decide and `ahead` more as if all were no.

    Raises ContextError where prompt and answer do not fit.
    """
    if len(prompt) + room_for(slots) > model.ctx_size:
        raise ContextError("The prompt and the answer do not fit the context.", model.room_advice)
    model.rewind(common_length([model.held, prompt[:-1]]))
    pending = list(prompt[len(model.held) :])
    decisions: list[bool] = []
    while len(decisions) < len(slots):
        tokens, ends = pending, []
        for slot in slots[len(decisions) :][: ahead + 1]:
            tokens = [*tokens, *slot.forced]
            ends.append(len(tokens) - 1)
            tokens = [*tokens, *slot.choices[1]]
        start, rows = len(model.held), _append(model, tokens[: ends[-1] + 1], ends)
        for end, row in zip(ends, rows, strict=True):
            slot = slots[len(decisions)]
            decisions.append(is_yes(slot, row))
            pending = list(slot.choices[0 if decisions[-1] else 1])
            if decisions[-1]:
                model.rewind(start + end + 1)
                break
    return decisions


def _append(model: Model, tokens: Sequence[int], wanted: Collection[int]) -> list[Logits]:
    """Append tokens to sequence 0; the logits after those at the indices `wanted`."""
    rows = []
    for first in range(0, len(tokens), model.batch_size):
        chunk, at = tokens[first : first + model.batch_size], len(model.held)
        model.submit([(token, at + i, (0,), first + i in wanted) for i, token in enumerate(chunk)])
        model.held += chunk
        rows += [model.logits(i) for i in range(len(chunk)) if first + i in wanted]
    return rows


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

    def prompt(lines: list[str]) -> list[int]:
        return model.chat_tokens(workload.task.messages(workload.profile, "\n".join(lines)))

    prompts = [prompt(lines) for lines in documents(rounds, model.tokenize)]
    prefix = common_length([*prompts, prompt(["0"])])
    model.prefill(prompts[0][:prefix])
    counts = (0, 1, 2, 4)
    click.echo("\t".join(["seconds", *(f"{count} yes" for count in counts)]))
    seconds: dict[tuple[str, int], list[float]] = {(variant, count): [] for variant in VARIANTS for count in counts}
    for tokens in prompts:
        for (variant, count), values in seconds.items():
            model.rewind(prefix)
            started = time.perf_counter()
            guessing(model, tokens, slots, VARIANTS[variant], spread(count, slots))
            values.append(time.perf_counter() - started)
    for variant in VARIANTS:
        click.echo("\t".join([variant, *(f"{np.median(seconds[variant, count]):.3f}" for count in counts)]))
    model.close()


if __name__ == "__main__":
    main()
