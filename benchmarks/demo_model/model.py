"""A small Llama (RMSNorm, RoPE, SwiGLU, tied embeddings) in PyTorch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 704
    context: int = 1024
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5


class Block(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.heads, self.epsilon = s.heads, s.norm_epsilon
        self.attention_norm, self.ffn_norm = nn.Parameter(torch.ones(s.width)), nn.Parameter(torch.ones(s.width))
        self.q, self.k, self.v, self.o = (nn.Linear(s.width, s.width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(s.width, s.feed_forward, bias=False) for _ in range(2))
        self.down = nn.Linear(s.feed_forward, s.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, dropout: float) -> Tensor:
        batch, length, width = x.shape
        h = F.rms_norm(x, (width,), self.attention_norm, self.epsilon)
        q, k, v = (w(h).view(batch, length, self.heads, -1).transpose(1, 2) for w in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        # Written out: on a CPU, for windows this short, a step takes a quarter less time than with the fused kernel and its backward pass.
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(future, float("-inf"))
        a = scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
        x = x + drop(self.o(a.transpose(1, 2).reshape(batch, length, width)), dropout)
        h = F.rms_norm(x, (width,), self.ffn_norm, self.epsilon)
        return x + drop(self.down(F.silu(self.gate(h)) * self.up(h)), dropout)


def drop(x: Tensor, rate: float) -> Tensor:
    """Dropout with one mask for all positions of a sequence (Gal and Ghahramani 2016)."""
    if not rate:
        return x
    kept = torch.rand(x.shape[0], 1, x.shape[2], device=x.device) >= rate
    return x * (kept / (1 - rate)).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, rotate-half order (Su et al. 2021)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Llama(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        # Large embeddings under a small final norm: with small ones classification stayed at chance.
        self.norm = nn.Parameter(torch.full((shape.width,), 0.25))
        nn.init.normal_(self.embedding.weight, std=0.25)
        for name, weight in self.blocks.named_parameters():
            if weight.dim() == 2:
                scale = (2 * shape.layers) ** -0.5 if ".o." in name or ".down." in name else 1.0
                nn.init.normal_(weight, std=scale * weight.shape[1] ** -0.5)
        half = shape.width // shape.heads // 2
        angle = torch.outer(torch.arange(shape.context), shape.rope_base ** (-torch.arange(half) / half))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor, dropout: float = 0.0) -> Tensor:
        """Token ids (batch, length) to the final hidden states (batch, length, width), ready for `head`."""
        x = self.embedding(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin, dropout)
        return F.rms_norm(x, (self.shape.width,), self.norm, self.shape.norm_epsilon)

    def head(self, hidden: Tensor) -> Tensor:
        return hidden @ self.embedding.weight.T
