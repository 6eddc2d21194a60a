"""The four ways to fill a template. Each yields one Decision for each field of each prompt.

A decoder starts from what sequence 0 holds and leaves it there, so its answers do not depend on earlier ones. Prompts whose
answers take one pass over the weights each take it together.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Literal

from clinex_edge.decoding.decision import Decision, decide, p_from_gap
from clinex_edge.decoding.template import Template, TokenSlot, compile_tokens
from clinex_edge.errors import unknown_name
from clinex_edge.llama.branches import Branch, Prompt, side_by_side
from clinex_edge.llama.model import MAX_BRANCHES, GrammarSampler, Logits, Model, Run, common_length

Decisions = dict[str, Decision]
Decoder = Callable[[Model, Sequence[Prompt], Template], Iterator[Decisions]]

MAX_FREE_TOKENS = 512


def joint(model: Model, prompts: Sequence[Prompt], template: Template) -> Iterator[Decisions]:
    """The answer that `gbnf` gives, without sampling: all slots are guessed and computed in one batch with the prompt's end.

    What the model says at each slot is the next guess for it; all up to the first wrong guess is final. So an answer takes as
    many batches as earlier answers change later ones, often one or two. It is Jacobi decoding (Santilli et al., ACL 2023).
    """
    slots = compile_tokens(template, model.tokenize)
    for group in side_by_side(model, prompts, room_for(slots)):
        with model.branches(len(group)) as sequences:
            answers = [_Guessed(Branch(model, *pair), slots) for pair in zip(sequences, group, strict=True)]
            while unfinished := [answer for answer in answers if len(answer.decisions) < len(slots)]:
                rows = model.compute([answer.guess() for answer in unfinished])
                for answer in unfinished:
                    answer.learn(rows)
        yield from ({slot.field: d for slot, d in zip(slots, answer.decisions, strict=True)} for answer in answers)


class _Guessed:
    """An answer of which the first `decisions` are final and the others guessed."""

    def __init__(self, branch: Branch, slots: list[TokenSlot]):
        self.branch, self.slots = branch, slots
        self.guesses = [False] * len(slots)
        self.decisions: list[Decision] = []

    @property
    def _open(self) -> slice:
        """The slots to decide next. Where a model cannot go back, it is one."""
        first = len(self.decisions)
        return slice(first, first + 1 if self.branch.model.is_recurrent else len(self.slots))

    def guess(self) -> Run:
        """The computation of the guessed answer, for the logits at all open slots."""
        answer, ends = written(self.slots[: self._open.stop], self.guesses)
        return self.branch.run(answer, ends[self._open])

    def learn(self, rows: Iterator[Logits]) -> None:
        """Take what the model says at the open slots."""
        chosen = self._open
        found = [decided(slot, next(rows)) for slot in self.slots[chosen]]
        said = [bool(decision.yes) for decision in found]
        self.decisions += found[: common_length([said, self.guesses[chosen]]) + 1]
        self.guesses[chosen] = said


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


def decided(slot: TokenSlot, logits: Logits) -> Decision:
    return decide(logits, slot.choices[0][0], slot.choices[1][0])


def independent(model: Model, prompts: Sequence[Prompt], template: Template) -> Iterator[Decisions]:
    """Each slot as a branch of its own right after the document, all in one batch; no answer sees another."""
    if len(template.lines) > MAX_BRANCHES:
        parts = (template.lines[:MAX_BRANCHES], template.lines[MAX_BRANCHES:])
        yield from ({**a, **b} for a, b in zip(*(independent(model, prompts, Template(part)) for part in parts), strict=True))
        return
    slots = [compile_tokens(single, model.tokenize)[0] for single in template.alone()]
    for group in side_by_side(model, prompts, room_for(slots), len(slots)):
        with model.branches(len(slots) * len(group)) as sequences:
            runs: list[Run] = []
            for number, prompt in enumerate(group):
                own = tuple(sequences[number * len(slots) : (number + 1) * len(slots)])
                runs += _stem(model, prompt, own)
                runs += [
                    Run(slot.forced, len(prompt), (sequence,), {len(slot.forced) - 1}) for slot, sequence in zip(slots, own, strict=True)
                ]
            rows = model.compute(runs)
            answers = [{slot.field: decided(slot, next(rows)) for slot in slots} for _ in group]
        yield from answers


def _stem(model: Model, prompt: Prompt, sequences: tuple[int, ...]) -> list[Run]:
    """What to compute so that all `sequences` hold `prompt`."""
    start = len(model.held)
    if not model.is_recurrent:
        return [Run(prompt[start:], start, sequences)]
    # Such a memory takes no token for several sequences.
    list(model.compute([Run(prompt[start:], start, sequences[:1])]))
    for sequence in sequences[1:]:
        model.share(sequences[0], sequence)
    return []


def gbnf(model: Model, prompts: Sequence[Prompt], template: Template) -> Iterator[Decisions]:
    """llama.cpp's own grammar sampler before a greedy choice, token by token."""
    longest = sum(len(p) if isinstance(p, str) else max(map(len, p.choices)) for p in template.pieces)
    for prompt in prompts:
        with model.grammar_sampler(template.gbnf()) as sampler:
            yield _generated(model, prompt, template, 4 * longest, sampler)


def free(model: Model, prompts: Sequence[Prompt], template: Template) -> Iterator[Decisions]:
    """Plain greedy text, parsed afterwards. A field whose line is absent or holds no known choice is unanswered."""
    for prompt in prompts:
        yield _generated(model, prompt, template, MAX_FREE_TOKENS)


def _generated(model: Model, prompt: Prompt, template: Template, most: int, sampler: GrammarSampler | None = None) -> Decisions:
    """The answers in a text of at most `most` tokens, each of them the likeliest, or the likeliest that `sampler` allows."""
    ((prompt,),) = side_by_side(model, [prompt], 0)
    text = _Generated(model, template)
    with model.branches(1) as (sequence,):
        branch = Branch(model, sequence, prompt)
        while len(text.tokens) < min(most, model.ctx_size - len(prompt)):
            (logits,) = model.compute([branch.run(text.tokens, [len(text.tokens) - 1])])
            token = sampler.sample() if sampler else int(logits.argmax())
            if model.is_end(token):
                break
            text.add(token, logits)
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
    """Text generated token by token, from which the answers are read. Of its logits only those that may weigh a choice are kept."""

    def __init__(self, model: Model, template: Template):
        self.model, self.template = model, template
        self.tokens: list[int] = []
        self._logits: list[dict[int, float]] = []  # that each token was chosen from
        choices = {choice for line in template.lines for choice in line.slot.choices}
        self._kept = {model.tokenize(form)[0] for choice in choices for form in (choice, choice.strip(), " " + choice.strip())}

    def add(self, token: int, logits: Logits) -> None:
        self.tokens.append(token)
        self._logits.append({kept: float(logits[kept]) for kept in {*self._kept, token}})

    def decisions(self) -> Decisions:
        """A field is answered where its own label is directly followed by one of its choices, and by no other elsewhere."""
        text = b"".join(map(self.model.piece, self.tokens)).decode("utf-8", "surrogateescape")
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
        ends = list(accumulate(len(self.model.piece(token)) for token in self.tokens))
        step = next(i for i, end in enumerate(ends) if end > at)
        token, logits = self.tokens[step], self._logits[step]
        piece = self.model.piece(token)
        lead = piece[: at - (ends[step] - len(piece))].decode("utf-8", "replace")
        other = self.model.tokenize(lead + (no if is_yes else yes))[0]
        if other not in logits:
            other = self.model.tokenize(" " + (no if is_yes else yes))[0]
        gap = logits[token] - logits[other]
        return Decision(is_yes, p_from_gap(gap if is_yes else -gap), gap if is_yes else -gap)
