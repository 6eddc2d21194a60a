"""What a decoder says about one slot."""

from dataclasses import dataclass

import numpy as np

from clinex_edge.llama.model import Logits


@dataclass(frozen=True)
class Decision:
    """`yes` is None where the answer is missing (`reason` says why). `p_yes` is a softmax over the allowed choices.

    `gap` is the difference of the two choices' logits (yes minus no): near zero means a near-tie.
    """

    yes: bool | None
    p_yes: float | None
    gap: float | None = None
    reason: str | None = None


def decide(logits: Logits, yes_token: int, no_token: int) -> Decision:
    """The likelier of two tokens; an exact tie goes to the lower token id, as in llama.cpp's greedy sampler."""
    gap = float(logits[yes_token]) - float(logits[no_token])
    yes = gap > 0 or (gap == 0 and yes_token < no_token)
    return Decision(yes, p_from_gap(gap), gap)


def p_from_gap(gap: float) -> float:
    """The softmax of two logits whose difference is `gap`."""
    return float(1 / (1 + np.exp(-gap))) if gap > -700 else 0.0
