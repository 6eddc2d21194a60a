"""What is written for one document."""

from dataclasses import asdict, dataclass, field
from typing import Any

from clinex_edge.decoding import Decision
from clinex_edge.documents import Document, as_text
from clinex_edge.pipeline.translate import TranslatedTurn

SCHEMA = 1


@dataclass(frozen=True)
class Feature:
    """One field's answer. `value` is "yes", "no", or None where `status` is "unanswered" (`reason` says why)."""

    value: str | None
    p_yes: float | None
    status: str
    reason: str | None = None
    evidence: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, decision: Decision) -> "Feature":
        if decision.yes is None or decision.p_yes is None:
            return cls.unanswered(decision.reason or "no answer")
        return cls("yes" if decision.yes else "no", round(decision.p_yes, 4), "answered")

    @classmethod
    def unanswered(cls, reason: str) -> "Feature":
        return cls(None, None, "unanswered", reason)


@dataclass(frozen=True)
class Record:
    """The outcome for one document; `to_dict` gives its JSON form.

    `status` is "complete", "partial" (a field is unanswered) or "failed" (`error` says why).
    `windows` holds the first and last turn of each part that was read at once.
    """

    id: str
    source: str
    task: str
    status: str
    document_sha256: str | None = None
    language: str | None = None
    features: dict[str, Feature] = field(default_factory=dict)
    translation: list[TranslatedTurn] = field(default_factory=list)
    windows: list[tuple[int, int]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def of(cls, document: Document, task: str, features: dict[str, Feature], **rest: Any) -> "Record":
        status = "complete" if all(f.status == "answered" for f in features.values()) else "partial"
        return cls(document.id, document.source, task, status, document.sha256, document.language, features, **rest)

    @classmethod
    def failed(cls, id: str, source: str, task: str, error: str) -> "Record":
        return cls(id, source, task, "failed", error=error)

    def __post_init__(self) -> None:
        for name in ("id", "source", "error"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_text(value))

    @property
    def doubtful_turns(self) -> list[int]:
        """Numbers of the turns whose translation should not be trusted."""
        return [t.turn for t in self.translation if t.doubt]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of this record (docs/architecture.md, "The record")."""
        result: dict[str, Any] = {"schema": SCHEMA, "id": self.id, "source": self.source}
        result |= {"document_sha256": self.document_sha256, "language": self.language, "task": self.task, "status": self.status}
        if self.error is not None:
            return {**result, "error": self.error}
        result["features"] = {name: _without_none(asdict(f), keep=("value", "p_yes")) for name, f in self.features.items()}
        result["translation"] = [
            _without_none({"turn": t.turn, "text": t.text, "mean_logprob": round(t.mean_logprob, 3), "doubtful": t.doubt})
            for t in self.translation
        ]
        result["windows"] = [list(w) for w in self.windows]
        return {**result, "provenance": self.provenance, "timings": self.timings}


def _without_none(row: dict[str, Any], keep: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None or key in keep}
