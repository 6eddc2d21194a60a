"""Texts as read: turns, offsets, language, and the spelling that models see."""

from clinex_edge.documents.document import Document, Turn, as_text
from clinex_edge.documents.language import LANGUAGES, detect

__all__ = ["LANGUAGES", "Document", "Turn", "as_text", "detect"]
