"""Which turns are read together. A document is never cut: what does not fit is read in overlapping windows of whole turns."""

from collections.abc import Sequence

from clinex_edge.errors import ContextError

Window = tuple[int, int]  # indices of turns, end exclusive


def windows(lengths: Sequence[int], budget: int, limit: int = 0, overlap: int = 1) -> list[Window]:
    """Cover turns of the given token `lengths` by windows of at most `budget` tokens and `limit` turns (0: any number).

    Neighbours share `overlap` turns where the budget allows, always fewer than they have.
    Raises ContextError, naming the turn, where one alone exceeds the budget.
    """
    for number, length in enumerate(lengths, 1):
        if length > budget:
            raise ContextError(
                f"Turn {number} needs {length} tokens, and the context leaves room for {max(budget, 0)}.",
                "Break the turn into lines, or give a larger --ctx-size.",
            )
    result: list[Window] = []
    first = 0
    while True:
        last, used = first, 0
        while last < len(lengths) and used + lengths[last] <= budget and (not limit or last - first < limit):
            used += lengths[last]
            last += 1
        result.append((first, last))
        if last == len(lengths):
            return result
        following = max(first + 1, last - overlap)
        while following < last and sum(lengths[following : last + 1]) > budget:
            following += 1  # the shared turns would leave no room for a new one
        first = following
