"""Windows of turns: cover everything, stay within budget and limit, share turns, move on."""

import itertools
import random

import pytest

from clinex_edge.errors import ContextError
from clinex_edge.pipeline.windows import windows


@pytest.mark.parametrize(
    ("lengths", "budget", "limit", "overlap", "expected"),
    [
        ([], 10, 0, 1, [(0, 0)]),
        ([5], 10, 0, 1, [(0, 1)]),
        ([10], 10, 0, 1, [(0, 1)]),
        ([1, 2, 3], 6, 0, 1, [(0, 3)]),
        ([1, 2, 3], 5, 0, 1, [(0, 2), (1, 3)]),
        ([1, 2, 3], 5, 0, 0, [(0, 2), (2, 3)]),
        ([1] * 5, 100, 2, 1, [(0, 2), (1, 3), (2, 4), (3, 5)]),
        ([1] * 5, 100, 2, 0, [(0, 2), (2, 4), (4, 5)]),
        ([1] * 5, 100, 3, 2, [(0, 3), (1, 4), (2, 5)]),
        ([1] * 5, 100, 5, 1, [(0, 5)]),
        ([1] * 3, 100, 1, 1, [(0, 1), (1, 2), (2, 3)]),
        ([1] * 6, 4, 0, 1, [(0, 4), (3, 6)]),
        ([4, 4, 4], 7, 0, 1, [(0, 1), (1, 2), (2, 3)]),
        ([1, 4, 4], 5, 0, 1, [(0, 2), (2, 3)]),  # sharing the second turn would leave no room for the third
        ([1, 2, 2, 3], 5, 0, 2, [(0, 3), (2, 4)]),  # both shared turns and the last would be too long
        ([1] * 4, 3, 0, 9, [(0, 3), (1, 4)]),  # fewer turns are shared than a window has
        ([0, 0, 0], 0, 0, 1, [(0, 3)]),
    ],
)
def test_windows_are_as_long_as_budget_and_limit_allow(lengths, budget, limit, overlap, expected):
    assert windows(lengths, budget, limit, overlap) == expected


def test_windows_keep_every_promise_on_random_turns():
    rng = random.Random(42)
    for _ in range(5000):
        budget = rng.randint(1, 40)
        lengths = [rng.randint(0, min(budget, rng.choice([2, 40]))) for _ in range(rng.randint(1, 30))]
        limit = rng.choice([0, 0, 1, 2, 3, 7])
        overlap = rng.choice([0, 1, 1, 2, 5])
        case = (lengths, budget, limit, overlap)
        result = windows(*case)
        covered = set()
        for first, last in result:
            assert first < last, case
            assert sum(lengths[first:last]) <= budget, case
            assert not limit or last - first <= limit, case
            covered.update(range(first, last))
        assert covered == set(range(len(lengths))), case
        assert result[0][0] == 0, case
        assert result[-1][1] == len(lengths), case
        for (first, last), (following, end) in itertools.pairwise(result):
            assert first < following <= last < end, case  # progress, no gap, and a new turn in each window
            assert last - following <= min(overlap, last - first - 1), case
            # a window ends only where the next turn does not fit
            assert sum(lengths[first : last + 1]) > budget or (limit and last - first == limit), case
            if last - following < min(overlap, last - first - 1):  # fewer turns are shared only where one more leaves no room
                assert sum(lengths[following - 1 : last + 1]) > budget, case


def test_a_window_shares_one_turn_with_its_neighbour_unless_told_otherwise():
    assert windows([1] * 5, 3) == windows([1] * 5, 3, 0, 1) == [(0, 3), (2, 5)]


@pytest.mark.parametrize(
    ("lengths", "budget", "number"),
    [([11], 10, 1), ([1, 2, 11, 3], 10, 3), ([11, 12], 10, 1), ([1], 0, 1), ([1], -5, 1)],
)
@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_turn_longer_than_the_budget_is_named(lengths, budget, number, limit):
    with pytest.raises(ContextError, match=f"Turn {number} needs {lengths[number - 1]} tokens.* room for {max(budget, 0)}") as caught:
        windows(lengths, budget, limit)
    assert caught.value.hint
