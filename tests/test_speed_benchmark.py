"""The speed benchmark: how it counts and divides, and, opt-in, the shape models and what they show about each tokenizer family."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.speed import report, together
from benchmarks.speed.timing import Sample, measure, peak_memory
from benchmarks.speed.variants import VARIANTS, Variant, by_model, guessing, spread
from benchmarks.speed.ways import _branches, _chain, right_answers
from benchmarks.speed.workload import TURNS, YES, Workload, documents, persian_calls
from clinex_edge.decoding import Template, compile_tokens
from clinex_edge.decoding.decision import decide
from clinex_edge.decoding.decoders import free, gbnf, independent, joint, written
from clinex_edge.decoding.template import TokenSlot
from clinex_edge.errors import ContextError
from clinex_edge.llama.model import Entry, LoadOptions, Model, common_length
from clinex_edge.pipeline.extract import Extractor
from clinex_edge.tasks import Task, load_task

NEAR_TIE = 0.05  # logits of different batch shapes differ by rounding
CANONICAL = {"json": 100, "template": 60}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("palliative-call")


@pytest.fixture(scope="module")
def template(task: Task) -> Template:
    return Template.compile(task.profile("compact", "en"), task.field_ids)


def prompts(model: Model, task: Task, count: int, profile: str = "compact") -> list[list[int]]:
    """Prompts with the first two turns of `count` calls."""
    calls = [call.turns[:2] for call in persian_calls(count)]
    asked = task.profile(profile, "en")
    return [model.chat_tokens(task.messages(asked, "\n".join(turn.en for turn in turns))) for turns in calls]


# --- counting ------------------------------------------------------------------------------------------------------


def test_a_way_that_goes_token_by_token_is_charged_the_right_answers_length() -> None:
    sample = Sample(seconds=10, generation=6, steps=3)  # a prompt of 4 s, 2 s a token
    assert sample.charged(5) == pytest.approx(14)
    assert sample.charged(0) == 10


def test_canonical_answers_have_two_yes() -> None:
    texts: list[str] = []
    counted = Workload().canonical_tokens(lambda text: [ord(c) for c in texts.append(text) or text])
    assert counted == {"json": len(texts[0]), "template": len(texts[1])}
    assert sum(json.loads(texts[0]).values()) == 2
    assert texts[1].count("yes") == 2
    assert texts[1].count("no") == 11


def test_the_time_after_the_prompt_is_counted_by_token(demo: Model, task: Task, template: Template) -> None:
    (prompt,) = prompts(demo, task, 1)
    demo.rewind(0)
    before = demo.counters.generated
    sample = measure(lambda: list(free(demo, [prompt], template)))
    assert sample.steps == demo.counters.generated - before > 20
    assert 0 < sample.generation < sample.seconds
    assert 0 < sample.native < sample.seconds
    assert peak_memory() > 20e6


def test_documents_are_of_the_length_asked_for() -> None:
    lines = documents(2, lambda text: [0] * (len(text) // 4))
    assert all(185 <= len("\n".join(call)) // 4 <= 215 for call in lines)
    assert lines[0] != lines[1]
    assert [len(call.turns) for call in persian_calls(2)] == [TURNS] * 2


# --- the report ----------------------------------------------------------------------------------------------------


def made_up() -> dict[str, list[Sample]]:
    """Ways that take 1 s (ours) or 2 s and 0.1 s a token."""
    one = [Sample(1.0, native=0.98), Sample(1.1, native=1.08), Sample(0.9, native=0.88)]
    slow = [Sample(2 + 40 * 0.1, 40 * 0.1, 40)] * 3
    ours = dict.fromkeys(("joint", "independent", "floor_joint", "floor_independent", "cold_joint"), one)
    return {**ours, **dict.fromkeys(("schema", "grammar", "cold_schema"), slow)}


def test_ratios_are_of_charged_medians() -> None:
    ratios = report.ratios(made_up(), CANONICAL, [100e6, 120e6])
    assert ratios["warm_joint_vs_schema"] == pytest.approx(12)
    assert ratios["warm_independent_vs_grammar"] == pytest.approx(8)
    assert ratios["independent_vs_floor"] == 1
    assert ratios["python_share"] == pytest.approx(0.02)
    assert ratios["memory_over_mb"] == 120
    assert ratios["warm_joint_vs_server"] is None
    assert set(ratios) < set(report.TARGETS)


def test_translation_is_compared_by_tokens_a_second() -> None:
    samples = {"translation_parallel": [Sample(10, steps=300)], "translation_serial": [Sample(20, steps=200)]}
    assert report.ratios(samples, {}, []) == {"translation_parallel_vs_serial": 3}


def test_documents_together_are_compared_with_the_same_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "BATCH", 2)
    samples = together.pipeline(3, LoadOptions(threads=1))
    assert {name: len(values) for name, values in samples.items()} == {"embedded_together": 3, "embedded_one_by_one": 3}
    assert all(sample.seconds > 0.01 for values in samples.values() for sample in values)
    made_up = {"notes_together": [Sample(1.0)], "notes_one_by_one": [Sample(1.2)]}
    assert report.ratios(made_up, {}, []) == {"notes_together_vs_one_by_one": 1.2}
    assert list(report.ratios(samples, {}, [])) == ["embedded_together_vs_one_by_one"]
    assert report.TARGETS["notes_together_vs_one_by_one"].verdict(1.2) == ""


def result(shape: str, machine: str = "one") -> dict:
    seconds = report.seconds(made_up(), CANONICAL)
    run = {"date": "2026-01-01", "settings": {"rounds": 3}, "canonical": CANONICAL, "seconds": seconds}
    ratios = {shape: report.ratios(made_up(), CANONICAL, [400e6])}
    return {"machine": machine, "versions": {}, "shapes": {shape: run}, "ratios": ratios}


def test_the_table_says_what_was_reached() -> None:
    text = report.markdown(result("qwen2.5-1.5b"))
    assert "| later documents, joint over (a) | ≥ 2.6 | 12.0 | reached |" in text
    assert "| peak memory over model file and KV cache, MB | ≤ 300 | 400.0 | not reached |" in text
    assert "| later documents, joint over (b) | ≥ 1.8 | not measured |  |" in text
    assert "json 100" in text


def test_other_shapes_of_the_same_machine_are_kept() -> None:
    both = report.merged(result("a"), result("b"))
    assert list(both["shapes"]) == list(both["ratios"]) == ["a", "b"]
    assert list(report.merged(result("a", "another"), result("b"))["shapes"]) == ["b"]
    assert report.merged({}, result("b")) == result("b")


def test_json_table_and_chart_are_written_together(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("matplotlib")
    from benchmarks.speed.__main__ import write

    write(result("a"), tmp_path / "speed.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.json", "speed.md", "speed.png"]
    assert json.loads((tmp_path / "speed.json").read_text()) == result("a")


# --- variants and floor, on the embedded model ---------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS.values())
def test_guessing_gives_the_answers_of_joint(demo: Model, task: Task, template: Template, variant: Variant) -> None:
    slots = compile_tokens(template, demo.tokenize)
    for prompt in prompts(demo, task, 12):
        (expected,) = joint(demo, [prompt], template)
        found = guessing(demo, prompt, slots, variant, by_model)
        assert found == [d.yes for d in expected.values()] or any(abs(d.gap or 0) < NEAR_TIE for d in expected.values())


@pytest.mark.parametrize("variant", VARIANTS.values())
@pytest.mark.parametrize("count", [0, 1, 4, 13])
def test_decisions_can_be_given(demo: Model, task: Task, template: Template, variant: Variant, count: int) -> None:
    slots = compile_tokens(template, demo.tokenize)
    (prompt,) = prompts(demo, task, 1)
    found = guessing(demo, prompt, slots, variant, spread(count, slots) if count else lambda slot, logits: False)
    assert sum(found) == count


def test_the_right_answer_can_be_given_to_joint(demo: Model, task: Task, template: Template) -> None:
    (prompt,) = prompts(demo, task, 1)
    with right_answers():
        (found,) = joint(demo, [prompt], template)
    assert {field for field, decision in found.items() if decision.yes} == YES
    (own,) = joint(demo, [prompt], template)
    assert {field for field, decision in own.items() if decision.yes} != YES


def test_the_floor_computes_what_the_decoders_compute(demo: Model, task: Task, template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[Entry]] = []
    submit = demo.submit
    monkeypatch.setattr(demo, "submit", lambda entries: (batches.append(list(entries)), submit(entries))[1])
    one, two = prompts(demo, task, 2)
    at = common_length([one, two])
    demo.hold(one[:at])
    batches.clear()
    list(independent(demo, [two], template))
    assert batches == [_branches(two[at:], at, [compile_tokens(single, demo.tokenize)[0].forced for single in template.alone()])]
    batches.clear()
    list(joint(demo, [two], template))
    slots = compile_tokens(template, demo.tokenize)
    nothing = written(slots, [False] * len(slots))[0]
    assert len(batches[0]) == len(_chain([*two[at:], *nothing], at))  # all that a call without a yes needs


# --- shape models: every tokenizer family for real -----------------------------------------------------------------

SHAPES = ["qwen2.5-1.5b", "qwen2.5-7b", "llama-3.2-3b", "llama-3.1-8b", "gemma-3-1b", "aya-expanse-8b"]
RANDOM_TIE = 0.1  # the same for random weights, in standard deviations of the logits
MARKS = (
    "<|im_start|> <|im_end|> <|endoftext|> <|eot_id|> <|start_header_id|> <|end_header_id|> <|begin_of_text|> <start_of_turn> <end_of_turn>"
    " <bos> <eos> <BOS_TOKEN> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|>"
)


@pytest.fixture(scope="module", params=SHAPES)
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A model of true width and two layers."""
    pytest.importorskip("gguf")
    from benchmarks.speed.shapes import shape_file
    from benchmarks.speed.source import llama_cpp_source

    given = os.environ.get("LLAMA_CPP_SOURCE")
    source = llama_cpp_source(Path(given) if given else tmp_path_factory.getbasetemp())
    path = shape_file(request.param, tmp_path_factory.mktemp("shapes"), source, layers=2)
    model = Model(path, LoadOptions(ctx_size=4096))
    yield model
    model.close()
    path.unlink()


@pytest.mark.shapes
def test_shape_prompts_render(shaped: Model, task: Task) -> None:
    for language in ("en", "fa"):
        profile = task.profile("full", language)
        ids = shaped.chat_tokens(task.messages(profile, "Nurse: سلام؟ Does it hurt?"))
        text = shaped.detokenize(ids)
        assert "Nurse: سلام؟ Does it hurt?" in text
        assert text.count(profile.demonstrations[0].document.strip()) == 1
        assert any(map(shaped.is_control, ids))
        assert shaped.is_end(ids[-1]) is False


@pytest.mark.shapes
def test_control_tokens_in_a_document_stay_plain_text(shaped: Model, task: Task) -> None:
    profile = task.profile("full", "en")
    marks = {ids[0] for mark in MARKS.split() if len(ids := shaped.tokenize(mark, special=True)) == 1}
    assert len(marks) >= 3

    def used(document: str) -> list[int]:
        return [token for token in shaped.chat_tokens(task.messages(profile, document)) if token in marks]

    assert used("Nurse: " + MARKS) == used("Nurse: hello")
    assert MARKS in shaped.detokenize(shaped.chat_tokens(task.messages(profile, "Nurse: " + MARKS)))


@pytest.mark.shapes
@pytest.mark.parametrize("language", ["en", "fa"])
def test_one_token_decides_in_the_full_templates(shaped: Model, task: Task, language: str) -> None:
    template = Template.compile(task.profile("full", language), task.field_ids)
    slots = compile_tokens(template, shaped.tokenize)
    assert [slot.field for slot in slots] == task.field_ids
    assert all(slot.forced and slot.choices[0][0] != slot.choices[1][0] for slot in slots)
    for single in template.alone():
        assert compile_tokens(single, shaped.tokenize)


@pytest.mark.shapes
def test_joint_equals_one_token_at_a_time_and_the_grammar_is_understood(shaped: Model, task: Task) -> None:
    """Random weights make `gbnf` spell the labels in other tokens, so its answers are others; but it must answer all fields."""
    template = Template.compile(task.profile("full", "en"), task.field_ids)
    slots = compile_tokens(template, shaped.tokenize)
    first, *rest = prompts(shaped, task, 3, "full")
    assert all(decision.yes is not None for decision in next(gbnf(shaped, [first], template)).values())
    for prompt in rest:
        deviation = float(shaped.prefill(prompt).std())
        expected = one_token_at_a_time(shaped, prompt, slots)
        for decision, gap in zip(next(joint(shaped, [prompt], template)).values(), expected, strict=True):
            assert decision.gap == pytest.approx(gap, abs=RANDOM_TIE * deviation)
            if decision.yes != (gap > 0):
                break  # a near-tie: later answers are conditioned on it


def one_token_at_a_time(model: Model, prompt: list[int], slots: list[TokenSlot]) -> list[float]:
    """The gaps that `joint` should find."""
    logits, gaps = model.prefill(prompt), []
    for slot in slots:
        for token in slot.forced:
            logits = model.extend([token])
        decision = decide(logits, slot.choices[0][0], slot.choices[1][0])
        gaps.append(decision.gap or 0.0)
        for token in slot.choices[0 if decision.yes else 1]:
            logits = model.extend([token])
    return gaps


@pytest.mark.shapes
def test_a_context_too_small_for_the_full_prompt_is_named(shaped: Model, task: Task) -> None:
    small = Model(shaped.header.path, LoadOptions(ctx_size=512))
    try:
        with pytest.raises(ContextError, match="512 tokens"):
            Extractor(small, task, "full", "en", "joint")
    finally:
        small.close()
