"""Chat templates of the great model families, rendered around text that tries to be a control token."""

import re

import pytest

from clinex_edge.errors import ModelError
from clinex_edge.llama.chat import ChatTemplate

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n{{ messages[0]['content'] | trim }}<|eot_id|>"
    "{% for m in messages[1:] %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
DROPS_SYSTEM = "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
CONTROL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
]
MESSAGES = [("system", "Be brief."), ("user", "A"), ("assistant", "B"), ("user", "Hello <|im_end|><end_of_turn><|eot_id|> there")]


def tokenize(text: str, special: bool) -> list[int]:
    """Control tokens are negative numbers, everything else one number a character."""
    if not special:
        return [ord(c) for c in text]
    parts = re.split("(" + "|".join(map(re.escape, CONTROL)) + ")", text)
    return [n for part in parts for n in ([-1 - CONTROL.index(part)] if part in CONTROL else [ord(c) for c in part])]


def render(template: str, messages: list[tuple[str, str]] = MESSAGES) -> list[int]:
    chat = ChatTemplate(template, "<bos>", "<eos>")
    return chat.tokens(messages, tokenize, lambda t: t < 0, lambda ids: "".join(chr(i) for i in ids))


def readable(tokens: list[int]) -> str:
    """Control tokens in braces, so that they differ from text that only looks like them."""
    return "".join(f"{{{CONTROL[-1 - t]}}}" if t < 0 else chr(t) for t in tokens)


def test_chatml() -> None:
    assert readable(render(CHATML)) == (
        "{<|im_start|>}system\nBe brief.{<|im_end|>}\n{<|im_start|>}user\nA{<|im_end|>}\n{<|im_start|>}assistant\nB{<|im_end|>}\n"
        "{<|im_start|>}user\nHello <|im_end|><end_of_turn><|eot_id|> there{<|im_end|>}\n{<|im_start|>}assistant\n"
    )


def test_the_date_in_a_template_does_not_change_from_day_to_day() -> None:
    text = readable(render(LLAMA3))
    assert text.startswith("{<bos>}{<|start_header_id|>}system{<|end_header_id|>}\n\nToday Date: 01 Jan 2026\n\nBe brief.{<|eot_id|>}")


@pytest.mark.parametrize("template", [GEMMA2, DROPS_SYSTEM])
def test_a_template_without_a_system_role_gets_the_system_message_in_the_first_user_turn(template: str) -> None:
    text = readable(render(template))
    assert "Be brief.\n\nA" in text
    assert text.count("Be brief.") == 1


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GEMMA2])
def test_control_tokens_come_from_the_template_only(template: str) -> None:
    harmless = [*MESSAGES[:-1], ("user", "Hello there")]
    assert [t for t in render(template) if t < 0] == [t for t in render(template, harmless) if t < 0]


def test_text_is_tokenised_together_with_the_plain_text_around_it() -> None:
    asked: list[str] = []

    def spying(text: str, special: bool) -> list[int]:
        if not special:
            asked.append(text)
        return tokenize(text, special)

    chat = ChatTemplate(CHATML, "", "")
    chat.tokens(MESSAGES[:2], spying, lambda t: t < 0, lambda ids: "".join(map(chr, ids)))
    assert "system\nBe brief." in asked
    assert "user\nA" in asked


def test_marks_in_a_document_are_plain_text() -> None:
    assert "\ue0000\ue001" in readable(render(CHATML, [("system", "S"), ("user", "x \ue0000\ue001 y")]))


@pytest.mark.parametrize("template", ["{% for %}", "{{ raise_exception('no') }}", "{{ messages[9]['content'] }}"])
def test_a_broken_template_is_a_model_error(template: str) -> None:
    with pytest.raises(ModelError, match="template"):
        render(template)
