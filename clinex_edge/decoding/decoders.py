"""The four ways to fill a template. Each returns one Decision for each field."""

import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

from clinex_edge.decoding.decision import Decision, decide, p_from_gap
from clinex_edge.decoding.template import Template, TokenSlot, compile_tokens
from clinex_edge.errors import unknown_name
from clinex_edge.llama.model import Logits, Model, common_length

Decisions = dict[str, Decision]
Decoder = Callable[[Model, Sequence[int], Template], Decisions]

MAX_FREE_TOKENS = 512


def joint(model: Model, prompt: Sequence[int], template: Template) -> Decisions:
    """The answer that `gbnf` gives, without sampling: all slots are guessed and computed in one batch with the prompt's end.

    What the model says at each slot is the next guess for it; all up to the first wrong guess is final. So an answer takes as
    many batches as earlier answers change later ones, often one or two. It is Jacobi decoding (Santilli et al., ACL 2023).
    """
    slots = compile_tokens(template, model.tokenize)
    model.begin(prompt, room_for(slots))
    guesses = [False] * len(slots)
    decisions: list[Decision] = []
    while len(decisions) < len(slots):
        first = len(decisions)
        last = first + 1 if model.is_recurrent else len(slots)
        answer, ends = written(slots[:last], guesses)
        rows = model.score(prompt, answer, ends[first:])
        found = [decide(row, slot.choices[0][0], slot.choices[1][0]) for slot, row in zip(slots[first:], rows, strict=False)]
        said = [bool(decision.yes) for decision in found]
        decisions += found[: common_length([said, guesses[first:]]) + 1]
        guesses[first:last] = said
    return {slot.field: decision for slot, decision in zip(slots, decisions, strict=True)}


def written(slots: Sequence[TokenSlot], guesses: Sequence[bool]) -> tuple[list[int], list[int]]:
    """The tokens of an answer up to its last decision, and the index of the token before each decision."""
    tokens: list[int] = []
    ends: list[int] = []
    choice: tuple[int, ...] = ()
    for slot, guess in zip(slots, guesses, strict=False):
        tokens += [*choice, *slot.forced]
        ends.append(len(tokens) - 1)
        choice = slot.choices[0 if guess else 1]
    return tokens, ends


def independent(model: Model, prompt: Sequence[int], template: Template) -> Decisions:
    """Each slot as a branch of its own right after the document, all in one batch; no answer sees another."""
    slots = [compile_tokens(single, model.tokenize)[0] for single in template.alone()]
    logits = model.branch(prompt, [slot.forced for slot in slots])
    return {s.field: decide(row, s.choices[0][0], s.choices[1][0]) for s, row in zip(slots, logits, strict=True)}


def gbnf(model: Model, prompt: Sequence[int], template: Template) -> Decisions:
    """llama.cpp's own grammar sampler before a greedy choice, token by token."""
    slots = compile_tokens(template, model.tokenize)
    logits = model.prefill(prompt, 2 * room_for(slots))
    longest = sum(len(p) if isinstance(p, str) else max(map(len, p.choices)) for p in template.pieces)
    text = _Generated(model, template)
    with model.grammar_sampler(template.gbnf()) as sampler:
        while len(text.steps) < 4 * longest:
            token = sampler.sample()
            if model.is_end(token):
                break
            text.add(token, logits)
            logits = model.extend([token])
    return text.decisions()


def free(model: Model, prompt: Sequence[int], template: Template) -> Decisions:
    """Plain greedy text, parsed afterwards. A field whose line is absent or holds no known choice is unanswered."""
    room = model.ctx_size - len(prompt)
    logits = model.prefill(prompt, min(room_for(compile_tokens(template, model.tokenize)), MAX_FREE_TOKENS))
    text = _Generated(model, template)
    while len(text.steps) < min(MAX_FREE_TOKENS, room):
        token = int(logits.argmax())
        if model.is_end(token):
            break
        text.add(token, logits)
        if len(text.steps) < min(MAX_FREE_TOKENS, room):
            logits = model.extend([token])
    return text.decisions()


DECODERS: dict[str, Decoder] = {"joint": joint, "independent": independent, "gbnf": gbnf, "free": free}


def get_decoder(name: str) -> Decoder:
    """Raises UsageError for an unknown name."""
    if name not in DECODERS:
        raise unknown_name("decoder", name, list(DECODERS))
    return DECODERS[name]


def prompt_order(decoder: str) -> Literal["fixed", "varied"]:
    """How a decoder's demonstrations show their fields: `independent` may ask any of them first."""
    return "varied" if decoder == "independent" else "fixed"


def room_for(slots: Sequence[TokenSlot]) -> int:
    """Tokens that an answer needs at most."""
    return sum(len(s.forced) + max(map(len, s.choices)) for s in slots)


class _Generated:
    """Text generated token by token, from which the answers are read. Of each step's logits only those that may weigh a choice are kept."""

    def __init__(self, model: Model, template: Template):
        self.model, self.template = model, template
        self.steps: list[tuple[int, dict[int, float]]] = []  # (token, logits it was chosen from)
        choices = {choice for line in template.lines for choice in line.slot.choices}
        self._kept = {model.tokenize(form)[0] for choice in choices for form in (choice, choice.strip(), " " + choice.strip())}

    def add(self, token: int, logits: Logits) -> None:
        self.steps.append((token, {kept: float(logits[kept]) for kept in {*self._kept, token}}))

    def decisions(self) -> Decisions:
        """A field is answered where its own label is directly followed by one of its choices, and by no other elsewhere."""
        text = b"".join(self.model.piece(token) for token, _ in self.steps).decode("utf-8", "surrogateescape")
        decisions: Decisions = {}
        for line in self.template.lines:
            yes, no = (choice.strip() for choice in line.slot.choices)
            pattern = rf"(?<!\S){re.escape(line.before.strip())}\s*({re.escape(yes)}|{re.escape(no)})(?!\w)"
            found = list(re.finditer(pattern, text, re.IGNORECASE))
            if not found:
                decision = Decision(None, None, reason="the model's text has no answer for this field")
            elif len({m[1].lower() for m in found}) > 1:
                decision = Decision(None, None, reason="the model's text contradicts itself")
            else:
                at = len(text[: found[0].start(1)].encode("utf-8", "surrogateescape"))
                decision = self._weigh(at, yes, no, is_yes=found[0][1].lower() == yes.lower())
            decisions[line.slot.field] = decision
        return decisions

    def _weigh(self, at: int, yes: str, no: str, is_yes: bool) -> Decision:
        """The choice written at byte `at`: the token that began it against the token that would have begun the other."""
        ends = list(accumulate(len(self.model.piece(token)) for token, _ in self.steps))
        step = next(i for i, end in enumerate(ends) if end > at)
        token, logits = self.steps[step]
        piece = self.model.piece(token)
        lead = piece[: at - (ends[step] - len(piece))].decode("utf-8", "replace")
        other = self.model.tokenize(lead + (no if is_yes else yes))[0]
        if other not in logits:
            other = self.model.tokenize(" " + (no if is_yes else yes))[0]
        gap = logits[token] - logits[other]
        return Decision(is_yes, p_from_gap(gap if is_yes else -gap), gap if is_yes else -gap)
