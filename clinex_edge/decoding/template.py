"""The fixed shape of an answer: literal text and slots where the model decides, and the same shape as GBNF."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clinex_edge.errors import TaskError
from clinex_edge.tasks.task import Profile


@dataclass(frozen=True)
class Slot:
    """A place where the model decides for one field; `choices` are (yes, no), with the space before them if there is one."""

    field: str
    choices: tuple[str, str]


@dataclass(frozen=True)
class Line:
    """One field's part of an answer: `before` the slot, the slot, and `after` it."""

    before: str
    slot: Slot
    after: str


@dataclass(frozen=True)
class Template:
    """One line for each field."""

    lines: tuple[Line, ...]

    @classmethod
    def compile(cls, profile: Profile, fields: Sequence[str]) -> "Template":
        """The answer in which the profile's line stands once for each field."""
        before, after = profile.line.split("{value}")
        gap = before[len(before.rstrip()) :]
        choices = (gap + profile.yes, gap + profile.no)
        labelled = {f: before.rstrip().replace("{label}", profile.labels[f]) for f in fields}
        return cls(tuple(Line(labelled[f], Slot(f, choices), after) for f in fields))

    @property
    def pieces(self) -> list[str | Slot]:
        """Literals and slots, taking turns; white space behind the last line is left out."""
        pieces: list[str | Slot] = []
        pending = ""
        for line in self.lines:
            pieces += [pending + line.before, line.slot]
            pending = line.after
        return [*pieces, pending.rstrip()] if pending.rstrip() else pieces

    def alone(self) -> "list[Template]":
        """A template for each field as if it were the only one."""
        return [Template((line,)) for line in self.lines]

    def gbnf(self) -> str:
        """The template as a llama.cpp grammar."""
        parts = (f"({' | '.join(map(_quoted, p.choices))})" if isinstance(p, Slot) else _quoted(p) for p in self.pieces)
        return f"root ::= {' '.join(parts)}\n"


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


@dataclass(frozen=True)
class TokenSlot:
    """A slot in tokens: `forced` come before the decision, then the tokens of one of `choices` (yes, no).

    The choices differ in their first token, so one look at the logits decides.
    """

    field: str
    forced: tuple[int, ...]
    choices: tuple[tuple[int, ...], tuple[int, ...]]


def compile_tokens(template: Template, tokenize: Callable[[str], list[int]]) -> list[TokenSlot]:
    """Token ids of a template, split as the tokenizer itself would write the text.

    Each slot is tokenised in its surroundings with either choice; what both have in common is forced text, what
    differs is the choice. Raises TaskError where a choice cannot be told from the other by its first token.
    """
    result: list[TokenSlot] = []
    text, taken = "", 0  # taken: how many tokens of the current literal belong to the choice before it
    for index, piece in enumerate(template.pieces):
        if isinstance(piece, str):
            text = piece
            continue
        following = template.pieces[index + 1] if index + 1 < len(template.pieces) else ""
        assert isinstance(following, str)
        yes, no = (tokenize(text + choice + following) for choice in piece.choices)
        start = 0
        while start < min(len(yes), len(no)) and yes[start] == no[start]:
            start += 1
        end, literal = 0, len(tokenize(following))
        while end < min(literal, len(yes) - start - 1, len(no) - start - 1) and yes[-1 - end] == no[-1 - end]:
            end += 1
        choices = tuple(yes[start : len(yes) - end]), tuple(no[start : len(no) - end])
        if not all(choices) or taken > start:
            raise TaskError(
                f"This model's tokenizer cannot tell '{piece.choices[0].strip()}' from '{piece.choices[1].strip()}' by one token.",
                "Choose other words for yes and no, or another line, in the prompt profile.",
            )
        result.append(TokenSlot(piece.field, tuple(yes[taken:start]), choices))
        taken = literal - end
    for choice in (0, 1):
        tokens = [t for slot in result for t in (*slot.forced, *slot.choices[choice])]
        whole = tokenize("".join(p if isinstance(p, str) else p.choices[choice] for p in template.pieces))
        if tokens != whole[: len(tokens)]:
            raise TaskError(
                "This model's tokenizer joins the answer's values with the text around them.",
                "Choose another line in the prompt profile.",
            )
    return result
