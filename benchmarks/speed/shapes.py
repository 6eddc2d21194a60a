"""GGUF files with the true shapes, tokenizers, chat templates and Q4_K_M quantisation of real models, and random weights.

    python -m benchmarks.speed.shapes --out build/shapes qwen2.5-1.5b qwen2.5-7b

They cost what the real ones cost, in time and memory; what they answer means nothing. Tokenizers and templates come out of
the llama-cpp-python source distribution. It has no tokenizer of Gemma 3: Gemma 4's stands in, its two turn marks renamed to
Gemma 3's, with the template of Gemma 2, which differs from Gemma 3's in how it refuses a system message.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import click
import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from benchmarks.speed.source import llama_cpp_source
from clinex_edge import paths

Tensor = tuple[str, Kind, int, int]  # name, quantisation, rows (0: a vector), columns


@dataclass(frozen=True)
class Shape:
    """The published dimensions of a model (its Hugging Face config.json).

    `rope_scaling` is Llama 3's factor, `template` a file of llama.cpp's models/templates (None: the one in the tokenizer's
    file), `renamed` other texts for some tokens of the tokenizer's file.
    """

    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_base: float
    epsilon: float
    tied: bool  # output and token embeddings are one tensor
    tokenizer: str
    template: str | None = None
    rope_scaling: float | None = None
    renamed: tuple[tuple[int, str], ...] = ()

    def with_layers(self, layers: int | None) -> "Shape":
        return replace(self, layers=layers or self.layers)

    def kv_bytes(self, context: int) -> int:
        """Bytes of a 16-bit KV cache of `context` tokens."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_width * context


_QWEN, _LLAMA_1, _LLAMA_2 = "Qwen-Qwen2.5-7B-Instruct", "meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct"
_GEMMA, _GEMMA_TURNS = "google-gemma-2-2b-it", ((105, "<start_of_turn>"), (106, "<end_of_turn>"))
SHAPES = {
    "qwen2.5-1.5b": Shape("qwen2", 28, 1536, 12, 2, 128, 8960, 151936, 32768, 1e6, 1e-6, True, "qwen2", _QWEN),
    "qwen2.5-7b": Shape("qwen2", 28, 3584, 28, 4, 128, 18944, 152064, 32768, 1e6, 1e-6, False, "qwen2", _QWEN),
    "llama-3.2-3b": Shape("llama", 28, 3072, 24, 8, 128, 8192, 128256, 131072, 5e5, 1e-5, True, "llama-bpe", _LLAMA_2, 32.0),
    "llama-3.1-8b": Shape("llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 5e5, 1e-5, False, "llama-bpe", _LLAMA_1, 8.0),
    "gemma-3-1b": Shape("gemma3", 26, 1152, 4, 1, 256, 6912, 262144, 32768, 1e6, 1e-6, True, "gemma-4", _GEMMA, renamed=_GEMMA_TURNS),
    "aya-expanse-8b": Shape("command-r", 32, 4096, 32, 8, 128, 14336, 256000, 8192, 1e4, 1e-5, True, "command-r"),
}
_NORMS = {
    "qwen2": ("attn_norm", "ffn_norm"),
    "llama": ("attn_norm", "ffn_norm"),
    "gemma3": ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
    "command-r": ("attn_norm",),
}


def write(shape: Shape, path: Path, source: Path, seed: int = 0) -> None:
    """Write a model of this shape to `path`; `source` holds llama.cpp's sources. Whole or absent; needs 1 GB of memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(draft), shape.architecture)
    _add_dimensions(writer, shape)
    _add_tokenizer(writer, shape, source / "models")
    tensors = list(_tensors(shape))
    for name, kind, rows, columns in tensors:
        bytes_a_row = columns // gguf.GGML_QUANT_SIZES[kind][0] * gguf.GGML_QUANT_SIZES[kind][1]
        if rows:
            writer.add_tensor_info(name, [rows, bytes_a_row], np.dtype(np.uint8), rows * bytes_a_row, kind)
        else:
            writer.add_tensor_info(name, [columns], np.dtype(np.float32), bytes_a_row)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(seed)
    for name, kind, rows, columns in tensors:
        if name == "rope_freqs.weight":
            values = _rope_factors(shape)
        elif rows:
            values = _random_rows(random, kind, rows, columns, _deviation(shape, name, columns))
        else:
            values = np.full(columns, 0 if name.endswith(".bias") else 1, np.float32)
        writer.write_tensor_data(values)
    writer.close()
    draft.replace(path)


def _add_dimensions(writer: gguf.GGUFWriter, s: Shape) -> None:
    writer.add_name("random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(s.context)
    writer.add_embedding_length(s.width)
    writer.add_block_count(s.layers)
    writer.add_feed_forward_length(s.feed_forward)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.kv_heads)
    writer.add_key_length(s.head_width)
    writer.add_value_length(s.head_width)
    writer.add_rope_freq_base(s.rope_base)
    writer.add_vocab_size(s.vocabulary)
    if s.architecture == "command-r":
        writer.add_layer_norm_eps(s.epsilon)
        writer.add_logit_scale(0.125)
    else:
        writer.add_layer_norm_rms_eps(s.epsilon)
    if s.architecture == "llama":
        writer.add_rope_dimension_count(s.head_width)
    if s.architecture == "gemma3":
        writer.add_sliding_window(512)


def _add_tokenizer(writer: gguf.GGUFWriter, s: Shape, models: Path) -> None:
    """The tokenizer as it stands in its file, with as many tokens as the model has rows of embeddings."""
    for name, kind, item, value in _tokenizer_metadata(models / f"ggml-vocab-{s.tokenizer}.gguf"):
        if name != "tokenizer.chat_template" or s.template is None:
            writer.add_key_value(name, _resized(name, value, s), kind, item)
    if s.template:
        writer.add_chat_template((models / "templates" / f"{s.template}.jinja").read_text(encoding="utf-8"))


def _resized(name: str, value: Any, s: Shape) -> Any:
    if name == "tokenizer.ggml.tokens":
        renamed = dict(s.renamed)
        texts = [renamed.get(i, text) for i, text in enumerate(value[: s.vocabulary])]
        return texts + [f"[PAD{i}]" for i in range(len(texts), s.vocabulary)]
    fillers = {"tokenizer.ggml.token_type": int(gguf.TokenType.UNUSED), "tokenizer.ggml.scores": -1e6}
    if name in fillers:
        return value[: s.vocabulary] + [fillers[name]] * (s.vocabulary - len(value))
    return value


@cache
def _tokenizer_metadata(path: Path) -> list[tuple[str, gguf.GGUFValueType, gguf.GGUFValueType | None, Any]]:
    """Name, type, type of the items, and value of each entry about the tokenizer."""
    fields = [field for field in gguf.GGUFReader(path).fields.values() if field.name.startswith("tokenizer.")]
    return [(f.name, f.types[0], f.types[1] if len(f.types) > 1 else None, f.contents()) for f in fields]


def _tensors(s: Shape) -> Iterator[Tensor]:
    """All tensors, quantised as llama.cpp's rule for Q4_K_M says."""
    query, shared = s.heads * s.head_width, s.kv_heads * s.head_width
    yield "token_embd.weight", _fitting(Kind.Q6_K if s.tied else Kind.Q4_K, s.width), s.vocabulary, s.width
    if s.rope_scaling:
        yield "rope_freqs.weight", Kind.F32, 0, s.head_width // 2
    for i in range(s.layers):
        eighth = s.layers // 8
        important = i < eighth or i >= 7 * s.layers // 8 or (i - eighth) % 3 == 2
        better = Kind.Q6_K if important else Kind.Q4_K
        for norm in _NORMS[s.architecture]:
            yield f"blk.{i}.{norm}.weight", Kind.F32, 0, s.width
        if s.architecture == "gemma3":
            yield f"blk.{i}.attn_q_norm.weight", Kind.F32, 0, s.head_width
            yield f"blk.{i}.attn_k_norm.weight", Kind.F32, 0, s.head_width
        if s.architecture == "qwen2":
            for part, rows in (("q", query), ("k", shared), ("v", shared)):
                yield f"blk.{i}.attn_{part}.bias", Kind.F32, 0, rows
        for part, kind, rows, columns in (
            ("attn_q", Kind.Q4_K, query, s.width),
            ("attn_k", Kind.Q4_K, shared, s.width),
            ("attn_v", better, shared, s.width),
            ("attn_output", Kind.Q4_K, s.width, query),
            ("ffn_gate", Kind.Q4_K, s.feed_forward, s.width),
            ("ffn_up", Kind.Q4_K, s.feed_forward, s.width),
            ("ffn_down", better, s.width, s.feed_forward),
        ):
            yield f"blk.{i}.{part}.weight", _fitting(kind, columns), rows, columns
    yield "output_norm.weight", Kind.F32, 0, s.width
    if not s.tied:
        yield "output.weight", _fitting(Kind.Q6_K, s.width), s.vocabulary, s.width


def _fitting(kind: Kind, columns: int) -> Kind:
    """What llama.cpp falls back to where a row does not fill blocks of 256."""
    return kind if columns % 256 == 0 else {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}[kind]


def _deviation(s: Shape, name: str, columns: int) -> float:
    """The standard deviation of a tensor's values: activations keep their size, and what was read makes a difference."""
    if name == "token_embd.weight":
        return s.width**-0.5 if s.architecture == "gemma3" else 1.0  # Gemma multiplies by the root itself
    if name.endswith(("attn_output.weight", "ffn_down.weight")):
        return (2 * s.layers * columns) ** -0.5
    sharpness = 2 if name.endswith(("attn_q.weight", "attn_k.weight")) else 1
    return sharpness * columns**-0.5


_SCALES = {Kind.Q4_K: (0, 2), Kind.Q6_K: (208,), Kind.Q5_0: (0,), Kind.Q8_0: (0,)}  # where a block's float16 scales lie
_MINIMUM = 7.5  # the second scale of Q4_K, in units of the first: it brings the mean of a block to zero


def _random_rows(random: np.random.Generator, kind: Kind, rows: int, columns: int, deviation: float) -> np.ndarray:
    """Random blocks, valid in any bytes, with scales that give the values this standard deviation."""
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * columns // values, size), np.uint8)
    _scale(blocks, kind, 1.0)
    unscaled = float(gguf.quants.dequantize(blocks[:4096], kind).std())
    _scale(blocks, kind, deviation / unscaled)
    return blocks.reshape(rows, -1)


def _scale(blocks: np.ndarray, kind: Kind, scale: float) -> None:
    for offset, factor in zip(_SCALES[kind], (1.0, _MINIMUM), strict=False):
        blocks[:, offset : offset + 2] = np.array([scale * factor], "<f2").view(np.uint8)


def _rope_factors(s: Shape) -> np.ndarray:
    """Llama 3's stretching of the long wavelengths, as in llama.cpp's convert_hf_to_gguf.py."""
    assert s.rope_scaling
    low, high, trained = 1.0, 4.0, 8192
    turns = trained / (2 * math.pi) * s.rope_base ** -(np.arange(0, s.head_width, 2) / s.head_width)  # within the context first trained on
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / s.rope_scaling + smooth)).astype(np.float32)


def shape_file(name: str, folder: Path, source: Path, layers: int | None = None) -> Path:
    """The model of that shape in `folder`, written there where it is missing."""
    path = folder / f"{name}-{f'{layers}-layers-' if layers else ''}random-Q4_K_M.gguf"
    if not path.exists():
        write(SHAPES[name].with_layers(layers), path, source)
    return path


def source_folder() -> Path:
    """Where the source distribution is kept unless the user says otherwise."""
    return paths.cache_dir() / "speed" / "source"


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(SHAPES)), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the GGUF files.")
@click.option("--layers", type=click.IntRange(min=1), help="Fewer layers than the model has.")
@click.option("--source", type=click.Path(file_okay=False, path_type=Path), help="Folder with llama-cpp-python's source distribution.")
def main(names: tuple[str, ...], out: Path, layers: int | None, source: Path | None) -> None:
    for name in names:
        path = shape_file(name, out, llama_cpp_source(source or source_folder()), layers)
        click.echo(f"{path}\t{path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
