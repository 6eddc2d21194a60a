"""The answer's template and the decoders that fill it."""

from clinex_edge.decoding.decision import Decision
from clinex_edge.decoding.decoders import DECODERS, Decisions, get_decoder, prompt_order, room_for
from clinex_edge.decoding.template import Slot, Template, compile_tokens

__all__ = ["DECODERS", "Decision", "Decisions", "Slot", "Template", "compile_tokens", "get_decoder", "prompt_order", "room_for"]
