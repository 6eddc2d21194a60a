"""Chat messages to tokens, with the model's own template, and no way for text to become a control token."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from clinex_edge.errors import ModelError

Message = tuple[str, str]  # (role, content); roles: system, user, assistant

# Contents stand in the template as these private-use marks while it is rendered.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")
_FIXED_DATE = "01 Jan 2026"  # some templates print today's date, which would change answers from day to day


class ChatTemplate:
    """The Jinja template of a model's metadata.

    Templates without a system role (Gemma 2) get the system message folded into the first user turn.
    """

    def __init__(self, template: str, bos: str, eos: str):
        from jinja2 import TemplateError
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        try:
            self._render = Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)
        except TemplateError as error:
            raise ModelError(f"The model's chat template is broken: {error}.", "Use another GGUF of this model.") from error

    def tokens(self, messages: Sequence[Message], tokenize: Callable[[str, bool], list[int]], is_control: Callable[[int], bool],
               detokenize: Callable[[list[int]], str]) -> list[int]:  # fmt: skip
        """Token ids of a prompt that asks for an answer to `messages`.

        Template text is tokenised with control tokens on, contents with them off; plain text on both sides of a
        content is tokenised together with it, as a user's own words would be.
        """
        pieces = self._pieces(messages)
        ids: list[int] = []
        text = ""  # plain text not yet tokenised
        for number, piece in enumerate(pieces):
            if number % 2:
                text += messages[int(piece)][1]
                continue
            tokens = tokenize(piece, True) if piece else []
            control = [i for i, t in enumerate(tokens) if is_control(t)]
            if not control:
                text += piece
                continue
            text += detokenize(tokens[: control[0]])
            ids += tokenize(text, False) if text else []
            ids += tokens[control[0] : control[-1] + 1]
            text = detokenize(tokens[control[-1] + 1 :])
        return ids + (tokenize(text, False) if text else [])

    def _pieces(self, messages: Sequence[Message]) -> list[str]:
        """Template text and indices of messages, taking turns, template text first and last."""
        indexed = [(role, _MARK.format(i)) for i, (role, _) in enumerate(messages)]
        try:
            rendered = self._rendered(indexed)
        except Exception:
            rendered = ""
        if not all(mark in rendered for _, mark in indexed):
            if indexed[0][0] != "system" or len(indexed) < 2:
                raise ModelError("The model's chat template does not accept these messages.", "Use an instruction-tuned model.")
            folded = [("user", f"{indexed[0][1]}\n\n{indexed[1][1]}"), *indexed[2:]]
            try:
                rendered = self._rendered(folded)
            except Exception as error:
                raise ModelError(f"The model's chat template fails: {error}.", "Use an instruction-tuned model.") from error
        return _MARKS.split(rendered)

    def _rendered(self, messages: Sequence[Message]) -> str:
        payload: Any = [{"role": role, "content": content} for role, content in messages]
        return str(self._render(messages=payload, date_string=_FIXED_DATE).prompt)
