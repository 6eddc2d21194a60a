"""Reads the header of a GGUF file without loading weights, and checks that the file is whole.

llama.cpp can abort the process on a damaged file, so every file is read here first.
Format: the GGUF specification in the ggml repository, versions 2 and 3, little-endian.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from clinex_edge.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# ggml type: (values in a block, bytes of a block)
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
# general.file_type (enum llama_ftype)
_QUANTISATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
}  # fmt: skip
_MAX_ITEMS = 4_000_000  # no tokenizer or tensor list comes near


@dataclass(frozen=True)
class GgufHeader:
    """Metadata of a model file; arrays longer than 64 items are left out of `metadata`."""

    path: Path
    metadata: dict[str, Any]
    size: int  # bytes
    vocabulary: int = 0  # rows of the token embedding

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def context_length(self) -> int:
        """The context in tokens that the model was trained for."""
        return int(self.metadata.get(f"{self.architecture}.context_length", 2048))

    @property
    def layers(self) -> int:
        return int(self._number("block_count"))

    @property
    def kv_values(self) -> int:
        """Values that the KV cache keeps for each token: keys and values of all layers."""
        heads = self._per_layer("attention.head_count")
        width = self._number("embedding_length") // max(1, *heads)
        kv_heads = self._per_layer("attention.head_count_kv") if any(self._per_layer("attention.head_count_kv")) else heads
        return sum(kv_heads) * (self._number("attention.key_length", width) + self._number("attention.value_length", width))

    def _number(self, key: str, default: int = 0) -> int:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return value if isinstance(value, int) else default

    def _per_layer(self, key: str) -> list[int]:
        """A value that is written once for all layers, or once for each."""
        value = self.metadata.get(f"{self.architecture}.{key}", 0)
        values = value if isinstance(value, list) else [value] * self.layers
        return [v for v in values if isinstance(v, int)] or [0]

    @property
    def quantization(self) -> str:
        return _QUANTISATIONS.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def chat_template(self) -> str | None:
        return self.metadata.get("tokenizer.chat_template")


class _Reader:
    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size = file, size

    def bytes(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise ValueError("it ends in the middle of its header")
        return self.file.read(count)

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.bytes(struct.calcsize(code)))[0]

    def count(self) -> int:
        count = int(self.number("Q"))
        if count > _MAX_ITEMS:
            raise ValueError(f"it announces {count} items where a model has thousands")
        return count

    def string(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            item, count = self.number("I"), self.count()
            if item in _SCALARS:
                code = _SCALARS[item]
                data = self.bytes(struct.calcsize(code) * count)
                return list(struct.unpack(f"<{count}{code}", data)) if count <= 64 else None
            if item != _STRING:
                raise ValueError(f"it holds an array of unknown type {item}")
            values = [self.string() for _ in range(count)]
            return values if count <= 64 else None
        if kind not in _SCALARS:
            raise ValueError(f"it holds a value of unknown type {kind}")
        return self.number(_SCALARS[kind])


def read_header(path: Path) -> GgufHeader:
    """Read and check a GGUF file's header; one that has not changed since is not read again.

    Raises ModelError where the file is missing, no GGUF, truncated, or announces impossible sizes.
    """
    try:
        state = path.stat()
        return _read(path, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        raise ModelError(f"There is no model file {path}.", "Check the path, or leave --model out.") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "A model is one readable .gguf file.") from error


@lru_cache(maxsize=16)
def _read(path: Path, size: int, mtime_ns: int) -> GgufHeader:
    with path.open("rb") as file:
        reader = _Reader(file, size)
        if size < 24 or reader.bytes(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file.", "clinex-edge reads models in llama.cpp's GGUF format.")
        try:
            metadata, vocabulary = _parse(reader)
        except (ValueError, struct.error, RecursionError) as error:
            advice = "Fetch the file again and compare its size or sha256 with the source's."
            raise ModelError(f"{path} is damaged: {error}.", advice) from error
    return GgufHeader(path, metadata, size, vocabulary)


def _parse(reader: _Reader) -> tuple[dict[str, Any], int]:
    """The metadata, and the rows of the token embedding."""
    version = reader.number("I")
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version} is not known (2 and 3 are)")
    tensors, pairs = reader.count(), reader.count()
    metadata = {}
    for _ in range(pairs):
        key = reader.string()
        metadata[key] = reader.value(reader.number("I"))
    if not isinstance(metadata.get("general.architecture"), str):
        raise ValueError("it does not name an architecture")
    context_length = f"{metadata['general.architecture']}.context_length"
    for key, kind in ((context_length, int), ("general.file_type", int), ("tokenizer.chat_template", str)):
        value = metadata.get(key, kind())
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise ValueError(f"its '{key}' has the wrong type")
    ends, vocabulary = [0], 0
    for _ in range(tensors):
        name = reader.string()
        shape = [reader.number("Q") for _ in range(reader.number("I"))]
        kind, offset = reader.number("I"), reader.number("Q")
        if kind not in _BLOCKS or not 1 <= len(shape) <= 4 or 0 in shape:
            raise ValueError(f"tensor '{name[:60]}' has an unknown type or shape")
        values, (per_block, block_bytes) = 1, _BLOCKS[kind]
        for extent in shape:
            values *= extent
        if shape[0] % per_block:
            raise ValueError(f"tensor '{name[:60]}' does not fill whole blocks")
        if name == "token_embd.weight":
            vocabulary = values // shape[0]
        ends.append(offset + values // per_block * block_bytes)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 65536:
        raise ValueError("its alignment is impossible")
    data = -(-reader.file.tell() // alignment) * alignment
    if data + max(ends) > reader.size:
        raise ValueError(f"it is cut off: {data + max(ends):,} bytes announced, {reader.size:,} there")
    return metadata, vocabulary
