"""Trains the demo model and writes its tokenizer and weights; resumes from its last checkpoint.

python -m benchmarks.demo_model.train --out build/demo && python -m benchmarks.demo_model.export build/demo
"""

import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from benchmarks.demo_model.data import SLOT_WEIGHT, Example, Examples, train_tokenizer
from benchmarks.demo_model.model import Llama, Shape

BATCH_TOKENS = 4096


def batches(examples: Examples) -> Iterator[list[Example]]:
    """Batches of examples of like length, about BATCH_TOKENS tokens each, drawn from a pool of many calls."""
    stream = examples.calls()
    while True:
        pool: list[Example] = []
        while sum(len(e.tokens) for e in pool[-4000:]) < 24 * BATCH_TOKENS:
            pool += next(stream)
        pool.sort(key=lambda e: len(e.tokens))
        groups: list[list[Example]] = []
        group: list[Example] = []
        for example in pool:
            if group and (len(group) + 1) * len(example.tokens) > BATCH_TOKENS:
                groups.append(group)
                group = []
            group.append(example)
        examples.random.shuffle(groups)
        yield from groups


def tensors(batch: list[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, targets and loss weights, each (batch, length); the length is a multiple of 8, for the compiled model."""
    length = -(-max(len(e.tokens) - 1 for e in batch) // 8) * 8 + 1
    tokens = torch.tensor([e.tokens + [0] * (length - len(e.tokens)) for e in batch])
    weights = torch.tensor([e.weights + [0.0] * (length - len(e.weights)) for e in batch])
    return tokens[:, :-1], tokens[:, 1:], weights[:, 1:]


@click.command(help=__doc__)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--steps", default=11500, show_default=True)
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def main(out: Path, steps: int, rate: float, threads: int, device: str) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer.json").exists():
        train_tokenizer(Shape.vocabulary).save(str(out / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    model = Llama(Shape()).to(device)
    # Muon (Jordan et al. 2024) for the matrices inside the blocks: after the same time less loss than with AdamW for all.
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    rest = [{"params": [model.embedding.weight], "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizers = [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), fused=True),
    ]
    first, checkpoint = 0, out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        first = state["step"]
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, from step {first}", flush=True)
    forward = torch.compile(model, dynamic=True)
    recent: list[tuple] = []
    started = time.monotonic()
    stream = batches(Examples(tokenizer, seed=1000 + first))
    for step in range(first, steps):
        for group in (g for optimizer in optimizers for g in optimizer.param_groups):  # linear warm-up, then linear decay
            group["lr"] = rate * min((step + 1) / 200, 1 - step / steps)
        inputs, targets, weights = (t.to(device) for t in tensors(next(stream)))
        counted = weights > 0
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = model.head(forward(inputs, dropout=0.05)[counted])
        loss = F.cross_entropy(logits.float(), targets[counted], reduction="none")
        model.zero_grad(set_to_none=True)
        ((loss * weights[counted]).sum() / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        slots = weights[counted] == SLOT_WEIGHT
        recent.append((loss.detach()[slots].sum(), slots.sum(), loss.detach()[~slots].sum(), (~slots).sum(), inputs.numel()))
        if (step + 1) % 50 == 0:
            slot_loss, slot_count, text_loss, text_count, tokens = (float(sum(column)) for column in zip(*recent, strict=True))
            speed = tokens / (time.monotonic() - started)
            print(f"step {step + 1} slots {slot_loss / slot_count:.3f} text {text_loss / text_count:.3f} {speed:.0f} tokens/s", flush=True)
            recent, started = [], time.monotonic()
        if (step + 1) % 250 == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step + 1}
            torch.save(state, out / "checkpoint.tmp")
            (out / "checkpoint.tmp").replace(checkpoint)


if __name__ == "__main__":
    main()
