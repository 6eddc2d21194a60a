"""A task as data, and the chat messages made from it."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from clinex_edge.errors import unknown_name

Message = tuple[str, str]  # (role, content)


@dataclass(frozen=True)
class Field:
    """One yes/no question. `label` and `meaning` hold a text per language."""

    id: str
    label: dict[str, str]
    meaning: dict[str, str]


@dataclass(frozen=True)
class Demonstration:
    """An invented document and the fields that it states."""

    document: str
    yes: frozenset[str]


@dataclass(frozen=True)
class Profile:
    """How a model is asked, in one language.

    `line` is one answer line with {label} and {value}; `window_turns` limits how many turns are read at once
    (0: as many as the context holds), of which `overlap_turns` are read again with the next window.
    """

    name: str
    language: str
    system: str
    document: str
    line: str
    yes: str
    no: str
    labels: dict[str, str]
    demonstrations: tuple[Demonstration, ...] = ()
    window_turns: int = 0
    overlap_turns: int = 1

    def answer(self, fields: list[str], yes: frozenset[str]) -> str:
        """The whole answer in which the given fields are yes, as a model should write it."""
        lines = (self.line.replace("{label}", self.labels[f]).replace("{value}", self.yes if f in yes else self.no) for f in fields)
        return "".join(lines).rstrip()


@dataclass(frozen=True)
class Task:
    """A named set of fields with its prompt profiles, keyed by (profile, language)."""

    name: str
    title: str
    fields: tuple[Field, ...]
    profiles: dict[tuple[str, str], Profile]
    sources: dict[str, str] = field(default_factory=dict)  # file name: content

    @property
    def field_ids(self) -> list[str]:
        return [f.id for f in self.fields]

    @property
    def sha256(self) -> str:
        """Fingerprint of every file of the task."""
        digest = hashlib.sha256()
        for name, content in sorted(self.sources.items()):
            digest.update(f"{name}\0{len(content)}\0{content}\0".encode())
        return digest.hexdigest()

    def profile(self, name: str, language: str) -> Profile:
        """Raises UsageError where the task has no such profile."""
        if (name, language) not in self.profiles:
            raise unknown_name("prompt profile", f"{name}.{language}", [".".join(key) for key in sorted(self.profiles)])
        return self.profiles[name, language]

    def messages(self, profile: Profile, document: str, order: Literal["fixed", "varied"] = "fixed") -> list[Message]:
        """Constant prefix (system, demonstrations) and the document's own turn.

        `varied` shows the fields of each demonstration from another starting point, for a decoder that may ask any
        field first.
        """
        ids = self.field_ids
        system = profile.system.replace("{fields}", self._field_list(profile)).strip()
        messages = [("system", system)] if system else []
        for number, example in enumerate(profile.demonstrations):
            start = (number * len(ids)) // max(1, len(profile.demonstrations)) if order == "varied" else 0
            messages.append(("user", profile.document.replace("{document}", example.document)))
            messages.append(("assistant", profile.answer(ids[start:] + ids[:start], example.yes)))
        messages.append(("user", profile.document.replace("{document}", document)))
        return messages

    def _field_list(self, profile: Profile) -> str:
        return "\n".join(f"- {profile.labels[f.id]}: {f.meaning[profile.language]}" for f in self.fields)
