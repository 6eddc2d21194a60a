"""A document and its turns."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from clinex_edge.documents.language import detect
from clinex_edge.documents.normalise import normalise
from clinex_edge.errors import InputError, unknown_name

MAX_CHARACTERS = 1_000_000

# A speaker's name: a short text and a colon at the start of a line, whatever direction marks stand before it.
# "10:30" and "http://" are none.
_SPEAKER = re.compile(
    r"[\s\u200e\u200f\u202a-\u202e\ufeff]*(?:(?:Dr|Mr|Mrs|Ms|Prof)\.\s*)?[^\W\d_][^\n:\uff1a،.؟?!]{0,39}?[:\uff1a](?![\d/])"
)
_SENTENCE_END = re.compile(r"(?<![.!?؟…])[.!?؟…]+[\"»”)\]]*(?=\s)|\n")


def as_text(name: str) -> str:
    """A file's name, with a sign in place of what is no text: names need not be, records are."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass(frozen=True)
class Turn:
    """One utterance or sentence. `start` and `end` (exclusive) count code points of the document; numbers start at 1."""

    number: int
    start: int
    end: int
    text: str

    @cached_property
    def for_model(self) -> str:
        """The turn on one line in the model's spelling."""
        return " ".join(normalise(self.text).text.split())


@dataclass(frozen=True)
class Document:
    """A text as read, split into turns."""

    id: str
    source: str
    text: str
    language: str
    turns: tuple[Turn, ...]

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @classmethod
    def from_text(cls, text: str, id: str = "text", source: str = "", language: str | None = None) -> "Document":
        """Split `text`; the language is detected where none is given.

        Raises InputError for text without a letter or digit, with NUL characters, or longer than MAX_CHARACTERS,
        and UsageError for an unknown language.
        """
        from clinex_edge.documents.language import LANGUAGES

        if language is not None and language not in LANGUAGES:
            raise unknown_name("language", language, list(LANGUAGES))
        if not text.strip():
            raise InputError("The document is empty.", "It needs at least one sentence of text.")
        if "\0" in text:
            raise InputError("The document contains NUL characters, so it is not plain text.", "Save it as UTF-8 plain text.")
        if len(text) > MAX_CHARACTERS:
            raise InputError(
                f"The document has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}.",
                "Is it an archive of many calls? Give each call a file of its own.",
            )
        turns = split_turns(text)
        if not any(c.isalnum() for c in text):
            raise InputError("The document has no words.", "It needs at least one sentence of text.")
        return cls(id, source, text, language or detect(text), turns)


def split_turns(text: str) -> tuple[Turn, ...]:
    """Lines that start with a speaker are turns, and a line without one goes on with the turn before;
    where fewer than half of the lines name a speaker, or there is but one line, sentences are the turns."""
    lines = [(m.start(), m.end()) for m in re.finditer(r"[^\n]+", text) if m.group().strip()]
    labelled = [bool(_SPEAKER.match(text, start)) for start, _ in lines]
    if len(lines) > 1 and sum(labelled) * 2 >= len(lines):
        spans: list[tuple[int, int]] = []
        for (start, end), is_new in zip(lines, labelled, strict=True):
            if is_new or not spans:
                spans.append((start, end))
            else:
                spans[-1] = (spans[-1][0], end)
    else:
        spans = []
        at = 0
        for mark in _SENTENCE_END.finditer(text):
            spans.append((at, mark.end()))
            at = mark.end()
        spans.append((at, len(text)))
    turns: list[Turn] = []
    for start, end in spans:
        piece = text[start:end].strip()
        if any(c.isalnum() for c in piece):
            at = text.index(piece, start)
            turns.append(Turn(len(turns) + 1, at, at + len(piece), piece))
    return tuple(turns)
