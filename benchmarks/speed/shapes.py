"""GGUF files with the true shapes, tokenizers, chat templates and quantisation of real models, and random weights.

    python -m benchmarks.speed.shapes --out build/shapes qwen2.5-1.5b qwen2.5-7b

They cost what the real ones cost, in time and memory; what they answer means nothing. Tokenizers and templates come out of
the llama-cpp-python source distribution, which pip downloads. It has no tokenizer of Gemma 3: Gemma 4's stands in.
"""

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

_MODELS = "vendor/llama.cpp/models"


@dataclass(frozen=True)
class Shape:
    """The published dimensions of a model (its Hugging Face config.json)."""

    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    head_width: int
    rope_base: float
    context: int
    tokenizer: str  # ggml-vocab-….gguf
    template: str  # models/templates/….jinja
    tied: bool = False
    epsilon: float = 1e-6

    def cut(self, layers: int) -> "Shape":
        """The same with fewer layers, for tests."""
        return replace(self, layers=layers)


SHAPES = {
    "qwen2.5-7b": Shape("qwen2", 28, 3584, 28, 4, 18944, 152064, 128, 1e6, 32768, "qwen2", "Qwen-Qwen2.5-7B-Instruct"),
    "qwen2.5-1.5b": Shape("qwen2", 28, 1536, 12, 2, 8960, 151936, 128, 1e6, 32768, "qwen2", "Qwen-Qwen2.5-7B-Instruct", tied=True),
    "llama-3.1-8b": Shape(
        "llama", 32, 4096, 32, 8, 14336, 128256, 128, 5e5, 131072, "llama-bpe", "meta-llama-Llama-3.1-8B-Instruct", epsilon=1e-5
    ),
    "llama-3.2-3b": Shape(
        "llama", 28, 3072, 24, 8, 8192, 128256, 128, 5e5, 131072, "llama-bpe", "meta-llama-Llama-3.2-3B-Instruct", tied=True, epsilon=1e-5
    ),
    "gemma-3-1b": Shape("gemma3", 26, 1152, 4, 1, 6912, 262144, 256, 1e6, 32768, "gemma-4", "google-gemma-2-2b-it", tied=True),
    "aya-expanse-8b": Shape(
        "command-r", 32, 4096, 32, 8, 14336, 256000, 128, 1e4, 8192, "command-r", "CohereForAI-c4ai-command-r-plus-tool_use",
        tied=True, epsilon=1e-5,
    ),
}  # fmt: skip


def sources(folder: Path) -> Path:
    """The unpacked tokenizers and templates of the installed llama-cpp-python's source distribution, in `folder`."""
    target = folder / f"llama_cpp_python-{version('llama-cpp-python')}"
    if not (target / _MODELS).is_dir():
        with tempfile.TemporaryDirectory() as download:
            wanted = f"llama-cpp-python=={version('llama-cpp-python')}"
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", download, wanted]
            subprocess.run(command, check=True)
            with tarfile.open(next(Path(download).glob("*.tar.gz"))) as archive:
                for member in archive:
                    if f"/{_MODELS}/" in member.name:
                        archive.extract(member, folder, filter="data")
    return target / _MODELS


def write(shape: Shape, name: str, path: Path, models: Path, seed: int = 0) -> None:
    """Write the GGUF; `models` is what `sources` returned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(draft), shape.architecture)
    _hyperparameters(writer, shape, name)
    _tokenizer(writer, shape, models)
    tensors = list(_tensors(shape))
    for tensor, kind, rows, columns in tensors:
        _declare(writer, tensor, kind, rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(seed)
    for _, kind, rows, columns in tensors:
        writer.write_tensor_data(_values(random, kind, rows, columns))
    writer.close()
    draft.replace(path)


def _hyperparameters(writer: gguf.GGUFWriter, s: Shape, name: str) -> None:
    writer.add_name(f"{name} (random weights)")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
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


def _tokenizer(writer: gguf.GGUFWriter, s: Shape, models: Path) -> None:
    """The tokenizer's metadata as it stands in the vocabulary file, its list of tokens brought to the model's length."""
    reader = gguf.GGUFReader(str(models / f"ggml-vocab-{s.tokenizer}.gguf"))
    for field in reader.fields.values():
        if not field.name.startswith("tokenizer.") or field.name == "tokenizer.chat_template":
            continue
        value, kind = field.contents(), field.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            if field.name.endswith((".tokens", ".scores", ".token_type")):
                value = _resized(field.name, value, s.vocabulary)
            writer.add_array(field.name, value)
        else:
            writer.add_key_value(field.name, value, kind)
    writer.add_chat_template((models / "templates" / f"{s.template}.jinja").read_text(encoding="utf-8"))


def _resized(name: str, values: list[Any], length: int) -> list[Any]:
    filler = {"tokens": lambda i: f"[unused{i}]", "scores": lambda i: -1e6, "token_type": lambda i: int(gguf.TokenType.UNUSED)}
    more = filler[name.rsplit(".", 1)[-1]]
    return [*values[:length], *(more(i) for i in range(len(values), length))]


def _tensors(s: Shape) -> Iterator[tuple[str, Kind, int, int]]:
    """(name, quantisation, rows, columns; 0 rows: a vector) as llama.cpp's Q4_K_M chooses them."""
    q, kv = s.heads * s.head_width, s.kv_heads * s.head_width
    norms = {
        "qwen2": ["attn_norm", "ffn_norm"],
        "llama": ["attn_norm", "ffn_norm"],
        "gemma3": ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"],
        "command-r": ["attn_norm"],
    }[s.architecture]
    yield "token_embd.weight", _fitting(Kind.Q6_K if s.tied else Kind.Q4_K, s.width), s.vocabulary, s.width
    for i in range(s.layers):
        more = i < s.layers // 8 or i >= 7 * s.layers // 8 or (i - s.layers // 8) % 3 == 2
        better = Kind.Q6_K if more else Kind.Q4_K
        for norm in norms:
            yield f"blk.{i}.{norm}.weight", Kind.F32, 0, s.width
        if s.architecture == "gemma3":
            yield f"blk.{i}.attn_q_norm.weight", Kind.F32, 0, s.head_width
            yield f"blk.{i}.attn_k_norm.weight", Kind.F32, 0, s.head_width
        if s.architecture == "qwen2":
            for part, rows in (("q", q), ("k", kv), ("v", kv)):
                yield f"blk.{i}.attn_{part}.bias", Kind.F32, 0, rows
        for part, kind, rows, columns in (
            ("attn_q", Kind.Q4_K, q, s.width), ("attn_k", Kind.Q4_K, kv, s.width), ("attn_v", better, kv, s.width),
            ("attn_output", Kind.Q4_K, s.width, q), ("ffn_gate", Kind.Q4_K, s.feed_forward, s.width),
            ("ffn_up", Kind.Q4_K, s.feed_forward, s.width), ("ffn_down", better, s.width, s.feed_forward),
        ):  # fmt: skip
            yield f"blk.{i}.{part}.weight", _fitting(kind, columns), rows, columns
    yield "output_norm.weight", Kind.F32, 0, s.width
    if not s.tied:
        yield "output.weight", Kind.Q6_K, s.vocabulary, s.width


def _fitting(kind: Kind, columns: int) -> Kind:
    """What llama.cpp falls back to where a row is no multiple of 256."""
    return kind if columns % 256 == 0 else {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}[kind]


def _declare(writer: gguf.GGUFWriter, name: str, kind: Kind, rows: int, columns: int) -> None:
    if kind == Kind.F32:
        writer.add_tensor_info(name, [columns], np.dtype(np.float32), columns * 4)
        return
    block, size = gguf.GGML_QUANT_SIZES[kind]
    row = columns // block * size
    writer.add_tensor_info(name, [rows, row], np.dtype(np.uint8), rows * row, raw_dtype=kind)


def _values(random: np.random.Generator, kind: Kind, rows: int, columns: int) -> np.ndarray:
    """Random blocks of about zero mean and a standard deviation of 1 / sqrt(columns)."""
    if kind == Kind.F32:
        return np.ones(columns, np.float32)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.frombuffer(random.bytes(rows * columns // block * size), np.uint8).reshape(-1, size).copy()
    deviation = columns**-0.5
    scales = {  # byte offset of each float16 scale, and its value
        Kind.Q4_K: {0: deviation / 147, 2: 7.5 * deviation / 147},
        Kind.Q6_K: {208: deviation / 1369},
        Kind.Q5_0: {0: deviation / 9.2},
        Kind.Q8_0: {0: deviation / 74},
    }[kind]
    for offset, value in scales.items():
        blocks[:, offset : offset + 2] = np.array([value], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(SHAPES)), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("build/shapes"), show_default=True)
@click.option("--layers", type=int, help="Fewer layers than the model has.")
def main(names: tuple[str, ...], out: Path, layers: int | None) -> None:
    models = sources(out)
    for name in names:
        shape = SHAPES[name].cut(layers) if layers else SHAPES[name]
        path = out / f"{name}-{f'{layers}L-' if layers else ''}random-Q4_K_M.gguf"
        write(shape, name, path, models)
        click.echo(f"{path}\t{path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
