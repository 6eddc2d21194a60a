"""The prompt that asks for the English of one turn."""

import hashlib
from dataclasses import dataclass

from clinex_edge.tasks.task import Message


@dataclass(frozen=True)
class TranslationPrompt:
    """`turn` asks for a turn alone, `turn_in_document` (may be empty) with the whole document as context.

    A turn whose mean token log-probability lies below `min_mean_logprob` is doubtful.
    """

    profile: str
    system: str
    turn: str
    turn_in_document: str
    min_mean_logprob: float
    source: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def messages(self, turn: str, document: str | None = None) -> list[Message]:
        """Chat messages for one turn; the document's text comes first, so that turns share it as a prefix."""
        template = self.turn_in_document if document is not None and self.turn_in_document else self.turn
        before, _, after = template.partition("{turn}")
        content = before.replace("{document}", document or "") + turn + after
        return ([("system", self.system.strip())] if self.system.strip() else []) + [("user", content)]
