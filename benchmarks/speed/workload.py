"""What every way of answering is given: the same messages, fresh synthetic documents, and the length of the right answer."""

import json
from collections.abc import Callable
from typing import Any

from benchmarks.corpus.generate import Call, Generator
from clinex_edge.decoding import Template
from clinex_edge.tasks import Profile, Task, load_task

CONTEXT = 4096  # tokens
DOCUMENT_TOKENS, NOTE_TOKENS, TOLERANCE = 200, 50, 15
TURNS, SHORT_TURNS = 16, 4  # of a call to translate
STEPS = 40  # tokens after which a way that goes token by token is stopped: its pace is known
YES = frozenset({"pain", "gastrointestinal_issues"})  # the answer whose length is charged

Tokenize = Callable[[str], list[int]]


class Workload:
    """The 13 questions about a call, asked with the profile `full` in English."""

    def __init__(self) -> None:
        self.task: Task = load_task("palliative-call")
        self.profile: Profile = self.task.profile("full", "en")
        self.template = Template.compile(self.profile, self.task.field_ids)

    def messages(self, lines: list[str]) -> list[dict[str, str]]:
        """Chat messages as llama-cpp-python takes them; the very ones that our `joint` sends."""
        return [{"role": role, "content": text} for role, text in self.task.messages(self.profile, "\n".join(lines))]

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema that a user would write for the 13 answers."""
        fields = self.task.field_ids
        return {"type": "object", "properties": {field: {"type": "boolean"} for field in fields}, "required": fields}

    def canonical_tokens(self, tokenize: Tokenize) -> dict[str, int]:
        """Tokens of the same answer as a real model writes it, in JSON and in our template."""
        in_json = json.dumps({field: field in YES for field in self.task.field_ids})
        in_template = self.profile.answer(self.task.field_ids, YES)
        return {"json": len(tokenize(in_json)), "template": len(tokenize(in_template))}


def documents(count: int, tokenize: Tokenize, length: int = DOCUMENT_TOKENS, seed: int = 3) -> list[list[str]]:
    """English calls, line by line, that nobody was trained on, each of about `length` tokens."""
    generator = Generator("test", seed)
    found: list[list[str]] = []
    while len(found) < count:
        call = generator.call()
        if not call.paragraph and abs(len(tokenize(call.text("en"))) - length) <= TOLERANCE:
            found.append([turn.en for turn in call.turns])
    return found


def persian_calls(count: int, turns: int = TURNS, seed: int = 3) -> list[Call]:
    """Persian calls of so many turns."""
    generator = Generator("test", seed)
    found: list[Call] = []
    while len(found) < count:
        call = generator.call(turns, 2 * turns)
        if not call.paragraph and len(call.turns) == turns:
            found.append(call)
    return found
