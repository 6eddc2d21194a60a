"""Writes a trained checkpoint as GGUF (Llama architecture, Q8_0), tokenizer and chat template included.

python -m benchmarks.demo_model.export build/demo [--out clinex_edge/data/clinex-demo-6M-v1-Q8_0.gguf]
"""

import json
from pathlib import Path

import click
import gguf
import numpy as np
import torch

from benchmarks.demo_model.data import CHAT_TEMPLATE, CONTROL, END
from benchmarks.demo_model.model import Llama, Shape

DEFAULT = "clinex_edge/data/clinex-demo-6M-v1-Q8_0.gguf"


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k from rotate-half order to the pairwise order that llama.cpp rotates."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(model: Llama, tokenizer: dict, path: Path) -> None:
    shape, writer = model.shape, gguf.GGUFWriter(str(path), "llama")
    writer.add_name("clinex-demo")
    writer.add_description("Demonstration model of clinex-edge, trained on invented text only. Not for clinical use.")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary)
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in vocabulary])
    kinds = [gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL for token, _ in vocabulary]
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    end = tokenizer["model"]["vocab"][END]
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)

    def add(name: str, weight: torch.Tensor, permute: bool = False) -> None:
        array = weight.detach().cpu().float().numpy()
        if permute:
            array = interleaved(array, shape.heads)
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)

    add("token_embd.weight", model.embedding.weight)
    add("output_norm.weight", model.norm)
    for i, block in enumerate(model.blocks):
        add(f"blk.{i}.attn_norm.weight", block.attention_norm)
        add(f"blk.{i}.ffn_norm.weight", block.ffn_norm)
        add(f"blk.{i}.attn_q.weight", block.q.weight, permute=True)
        add(f"blk.{i}.attn_k.weight", block.k.weight, permute=True)
        add(f"blk.{i}.attn_v.weight", block.v.weight)
        add(f"blk.{i}.attn_output.weight", block.o.weight)
        add(f"blk.{i}.ffn_gate.weight", block.gate.weight)
        add(f"blk.{i}.ffn_up.weight", block.up.weight)
        add(f"blk.{i}.ffn_down.weight", block.down.weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=DEFAULT, show_default=True)
def main(folder: Path, out: Path) -> None:
    model = Llama(Shape())
    model.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
    out.parent.mkdir(parents=True, exist_ok=True)
    write(model, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
