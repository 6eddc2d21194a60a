"""Many texts generated together equal the same texts generated alone."""

import json

import pytest

from clinex_edge.documents import Document
from clinex_edge.errors import ContextError
from clinex_edge.llama.batching import Generation, Job, generate
from clinex_edge.llama.model import LoadOptions, Model
from clinex_edge.models.registry import find
from tests.cli_runner import ROOT

TURNS = ["همراه: از دیشب تب داره", "پرستار: سلام، حالش چطوره؟", "همراه: نه، درد نداره ولی خیلی بی‌حاله", "ممنونم، خدانگهدار"]


def jobs(model: Model, turns: list[str], room: int = 40) -> list[Job]:
    return [Job(model.chat_tokens([("system", "translate"), ("user", turn)]), room) for turn in turns]


def results(model: Model, groups: list[list[Job]], parallel: int) -> dict[tuple[int, int], Generation]:
    return {(group, job): result for group, job, result in generate(model, groups, parallel)}


@pytest.mark.parametrize("parallel", [2, 3, 16])
def test_together_as_alone(demo: Model, parallel: int) -> None:
    groups = [jobs(demo, TURNS * 3), jobs(demo, TURNS[::-1])]
    alone = results(demo, groups, 1)
    together = results(demo, groups, parallel)
    assert alone.keys() == together.keys()
    for key, result in alone.items():
        assert result.tokens == together[key].tokens or min(result.margin, together[key].margin) < 0.1


def test_turns_of_real_documents_differ_only_at_near_ties(demo: Model) -> None:
    lines = (ROOT / "benchmarks/corpus/handwritten.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:20]]
    turns = [turn.for_model for row in rows for turn in Document.from_text(row["fa"], language="fa").turns]
    alone = results(demo, [jobs(demo, turns)], 1)
    together = results(demo, [jobs(demo, turns)], 16)
    ties = [min(alone[key].margin, together[key].margin) for key in alone if alone[key].tokens != together[key].tokens]
    assert len(ties) < 0.05 * len(turns), f"{len(ties)} of {len(turns)}"
    assert all(tie < 0.1 for tie in ties), ties


def test_an_answer_that_fills_its_room_is_cut(demo: Model) -> None:
    ((_, _, result),) = generate(demo, [jobs(demo, TURNS[:1], room=3)])
    assert len(result.tokens) == 3
    assert result.cut


def test_memory_stays_within_the_context() -> None:
    model = Model(find(None, "extractor").path, LoadOptions(ctx_size=256, threads=1))
    try:
        groups = [jobs(model, TURNS * 8, room=60)]
        assert len(results(model, groups, 16)) == 32
        with pytest.raises(ContextError):
            results(model, [jobs(model, TURNS, room=300)], 16)
        assert len(results(model, groups, 16)) == 32  # and the model goes on as before
    finally:
        model.close()


def test_what_is_left_unread_leaves_no_trace(demo: Model) -> None:
    next(generate(demo, [jobs(demo, TURNS)]))
    assert len(results(demo, [jobs(demo, TURNS)], 16)) == 4
