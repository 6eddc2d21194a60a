"""Prompts side by side: each in a sequence of its own, behind what sequence 0 holds. Nothing of them stays there."""

from collections.abc import Iterator, Sequence

from clinex_edge.llama.model import MAX_BRANCHES, Counters, Model, Run, common_length

Prompt = Sequence[int]  # tokens


class Branch:
    """A prompt and the answer behind it, in a sequence that begins with what sequence 0 holds."""

    def __init__(self, model: Model, sequence: int, prompt: Prompt):
        self.model, self.sequence, self.prompt = model, sequence, prompt
        self._held = list(model.held)

    def run(self, answer: Sequence[int], wanted: Sequence[int]) -> Run:
        """What to compute for the logits after the tokens at `wanted`, rising indices into `answer` (-1: the end of the prompt).

        What stands before the first and is held already is not computed again, what else is held is forgotten.
        """
        tokens = [*self.prompt, *answer]
        start = min(common_length([self._held, tokens]), len(self.prompt) + wanted[0])
        if start < len(self._held):
            self.model.forget(self.sequence, start)
        self._held = tokens
        self.model.counters += Counters(generated=len(tokens) - max(start, len(self.prompt)))
        return Run(tokens[start:], start, (self.sequence,), {len(self.prompt) + index - start for index in wanted})


def side_by_side(model: Model, prompts: Sequence[Prompt], room: int, branches: int = 1) -> Iterator[list[Prompt]]:
    """The prompts, in order, in groups that one pass over the weights serves: with `room` tokens and `branches` sequences for each.

    A prompt that is longer than that is alone, and so is any of a recurrent model. Sequence 0 keeps what all prompts begin with.
    """
    model.rewind(common_length([model.held, *(prompt[:-1] for prompt in prompts)]))
    shared = len(model.held)
    limit = min(model.ubatch, model.ctx_size - shared)
    group: list[Prompt] = []
    used = 0
    for prompt in prompts:
        size = len(prompt) - shared + room
        if group and (model.is_recurrent or used + size > limit or (len(group) + 1) * branches > MAX_BRANCHES):
            yield group
            group, used = [], 0
        model.count_prompt(len(prompt) - shared)
        group.append(prompt)
        used += size
    if group:
        yield group
