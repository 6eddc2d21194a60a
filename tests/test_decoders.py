"""The decoders on the embedded model."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.corpus.generate import Generator
from clinex_edge.decoding import DECODERS, Template, compile_tokens
from clinex_edge.decoding.decoders import free, gbnf, independent, joint
from clinex_edge.llama.model import LoadOptions, Model
from clinex_edge.models.registry import find
from clinex_edge.pipeline.extract import Extractor
from clinex_edge.tasks import Task, load_task

NEAR_TIE = 0.05  # logits of different batch shapes differ by rounding; below this gap either answer is right


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("palliative-call")


def windows_of_calls(model: Model, task: Task, language: str, count: int) -> list[tuple[int, list[int]]]:
    """The number of each of `count` fresh held-out calls with the prompt of each of its windows of two turns."""
    profile = task.profile("compact", language)
    generator = Generator("test", seed=11)
    result = []
    for number in range(count):
        lines = [getattr(turn, language) for turn in generator.call().turns]
        texts = ["\n".join(lines[i : i + 2]) for i in range(max(1, len(lines) - 1))]
        result += [(number, model.chat_tokens(task.messages(profile, text))) for text in texts]
    return result


def prompts(model: Model, task: Task, language: str, count: int) -> list[list[int]]:
    """The prompt of the first window of each of `count` calls."""
    return list({number: prompt for number, prompt in reversed(windows_of_calls(model, task, language, count))}.values())


@pytest.mark.parametrize("language", ["fa", "en"])
@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_joint_gives_the_answers_of_gbnf_on_200_documents(demo: Model, task: Task, language: str, every: int) -> None:
    """Every third window of each, or all of them."""
    template = Template.compile(task.profile("compact", language), task.field_ids)
    exceptions = []
    for number, prompt in windows_of_calls(demo, task, language, 200)[::every]:
        ours, reference = joint(demo, prompt, template), gbnf(demo, prompt, template)
        for field in task.field_ids:
            if ours[field].yes != reference[field].yes:
                exceptions.append((number, field, ours[field].gap))
                break  # later answers are conditioned on this one
            assert ours[field].p_yes == pytest.approx(reference[field].p_yes, abs=0.05)
    assert all(gap is not None and abs(gap) < NEAR_TIE for _, _, gap in exceptions), exceptions
    assert len(exceptions) <= 5, exceptions


def test_joint_computes_a_batch_more_only_where_a_guess_was_wrong(demo: Model, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    template = Template.compile(task.profile("compact", "en"), task.field_ids)
    batches: list[int] = []
    score = demo.score
    monkeypatch.setattr(demo, "score", lambda *args: (batches.append(len(args[2])), score(*args))[1])
    seen = set()
    for prompt in prompts(demo, task, "en", 60):
        batches.clear()
        yes = [decision.yes for decision in joint(demo, prompt, template).values()]
        assert batches[0] == len(yes)
        assert batches[1:2] == ([len(yes) - yes.index(True) - 1] if True in yes[:-1] else [])
        seen.add((sum(map(bool, yes)), len(batches)))
    assert (0, 1) in seen
    assert (2, 2) in seen or (3, 2) in seen  # later guesses come from the batch before


def test_joint_decides_one_by_one_where_a_model_cannot_go_back(demo: Model, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    template = Template.compile(task.profile("compact", "fa"), task.field_ids)
    for prompt in prompts(demo, task, "fa", 5):
        expected = joint(demo, prompt, template)
        with monkeypatch.context() as patched:
            patched.setattr(Model, "is_recurrent", True)
            found = joint(demo, prompt, template)
        assert [d.gap for d in found.values()] == pytest.approx([d.gap for d in expected.values()], abs=0.1)


def test_free_agrees_with_joint_where_it_answers(demo: Model, task: Task) -> None:
    template = Template.compile(task.profile("compact", "en"), task.field_ids)
    answered = agreed = 0
    for prompt in prompts(demo, task, "en", 40):
        plain, constrained = free(demo, prompt, template), joint(demo, prompt, template)
        for field in task.field_ids:
            if plain[field].yes is not None:
                answered += 1
                agreed += plain[field].yes == constrained[field].yes
    assert answered > 400
    assert agreed >= 0.98 * answered


def test_independent_branches_equal_each_field_asked_alone(demo: Model, task: Task) -> None:
    template = Template.compile(task.profile("compact", "fa"), task.field_ids)
    for prompt in prompts(demo, task, "fa", 10):
        together = independent(demo, prompt, template)
        for single in template.alone():
            (field, alone), *_ = joint(demo, prompt, single).items()
            assert together[field].gap == pytest.approx(alone.gap, abs=0.1)


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_answer_carries_the_softmax_of_its_choices(demo: Model, task: Task, decoder: str) -> None:
    template = Template.compile(task.profile("compact", "en"), task.field_ids)
    for prompt in prompts(demo, task, "en", 5):
        for decision in DECODERS[decoder](demo, prompt, template).values():
            if decision.yes is not None:
                assert decision.p_yes is not None and decision.gap is not None
                assert decision.p_yes == pytest.approx(1 / (1 + math.exp(-decision.gap)))
                assert decision.yes == (decision.p_yes >= 0.5)


def test_p_yes_comes_from_the_logits_at_the_slot(demo: Model, task: Task) -> None:
    template = Template.compile(task.profile("compact", "en"), task.field_ids[:1])
    (slot,) = compile_tokens(template, demo.tokenize)
    (prompt,) = prompts(demo, task, "en", 1)
    decision = joint(demo, prompt, template)[slot.field]
    demo.rewind(0)
    logits = demo.prefill([*prompt, *slot.forced]).astype(np.float64)
    yes, no = (np.exp(logits[choice[0]]) for choice in slot.choices)
    assert decision.p_yes == pytest.approx(yes / (yes + no), abs=0.01)


class Scripted:
    """A stand-in whose greedy text is fixed in advance, one character a token."""

    ctx_size = 4096
    END = 0

    def __init__(self, text: str):
        self.text, self.at = text, 0

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        return [ord(c) for c in text]

    def piece(self, token: int) -> bytes:
        return chr(token).encode()

    def is_end(self, token: int) -> bool:
        return token == self.END

    def _logits(self) -> np.ndarray:
        logits = np.zeros(2000, np.float32)
        logits[ord(self.text[self.at]) if self.at < len(self.text) else self.END] = 5.0
        self.at += 1
        return logits

    def prefill(self, prompt: Sequence[int], room: int = 0) -> np.ndarray:
        return self._logits()

    def extend(self, tokens: Sequence[int]) -> np.ndarray:
        return self._logits()


@pytest.mark.parametrize(
    ("text", "pain", "fever"),
    [
        ("Pain: yes\nFever: no", True, False),
        ("Sure! Here you go:\nPain: no\nFever: YES\n", False, True),
        ("Pain:\nFever: yes", None, True),  # the study's parser would read the fever's value as the pain's
        ("Pain: yes", True, None),
        ("Pain: maybe\nFever: nothing", None, None),
        ("Pain: yes\nPain: no\nFever: no", None, False),
        ("Painful: yes\nFever: no", None, False),
        ("", None, None),
    ],
)
def test_free_text_is_parsed_without_borrowing_values(task: Task, text: str, pain: bool | None, fever: bool | None) -> None:
    from dataclasses import replace

    profile = replace(task.profile("compact", "en"), line="{label}: {value}\n", labels={"pain": "Pain", "fever": "Fever"})
    decisions = free(Scripted(text), [1], Template.compile(profile, ["pain", "fever"]))  # type: ignore[arg-type]
    assert (decisions["pain"].yes, decisions["fever"].yes) == (pain, fever)
    assert all((d.reason is None) == (d.yes is not None) for d in decisions.values())


def test_a_context_too_small_for_the_prompt_says_what_to_do(task: Task) -> None:
    from clinex_edge.errors import ContextError

    model = Model(find(None, "extractor").path, LoadOptions(ctx_size=40))
    try:
        with pytest.raises(ContextError, match="40 tokens"):
            Extractor(model, task, "compact", "en", "joint")
    finally:
        model.close()
