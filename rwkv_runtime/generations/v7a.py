"""RWKV-7a (DeepEmbed): RWKV-7 with a channel mix that each token scales by an embedding of its own in every layer.

The embeddings are large, so they stay as they are stored (memory-mapped) and rows are cast when they are gathered.

Shapes, for B lanes, T tokens, width D, F hidden channels and rank S: activations are [B, T, D]; a state is that of
RWKV-7. Source: RWKV-LM/RWKV-v7/rwkv_v7a_demo.py and the `rwkv` package 0.8.32 (RWKV_x070_CMix_seq).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.generations import v7
from rwkv_runtime.layers import LowRank, Stack, Window, matrix_memory
from rwkv_runtime.matrices import FP32, Matrix
from rwkv_runtime.placement import CPU, Placement, Plan
from rwkv_runtime.weights import Weights

GENERATIONS = ("7a",)


def recognise(weights: Weights, kinds: frozenset[str]) -> str | None:
    """Return "7a" if these are its tensors."""
    return "7a" if {"att.r_k", "ffn.s_emb.weight"} <= kinds else None


def read(weights: Weights, plan: Plan) -> Stack:
    """Take every tensor of the network. Raises WeightsError if one is missing or misshaped."""
    config = v7.read_configuration(weights, "7a")
    return Stack.read(weights, config, v7.TimeMix.read, ChannelMix.read, matrix_memory(config), plan)


@dataclass(frozen=True)
class ChannelMix:
    """The feed-forward half of a layer: that of RWKV-7, its hidden channels scaled."""

    plain: v7.ChannelMix
    scale: LowRank  # down to S, and up to F
    embedding: Tensor  # [vocabulary, S * S], as stored: a matrix between the two
    from_embedded: Matrix  # [S * S, D]: what is added to that matrix
    mix: Tensor  # [2, 1, 1, D]: that of RWKV-7, and none of the token before
    activations: torch.dtype = torch.float32

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> ChannelMix:
        """Take the tensors of `blocks.{layer}.ffn.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.ffn."
        rank = weights.shape(f"{prefix}s1")[-1]
        names = (f"{prefix}s1", f"{prefix}s2", f"{prefix}s0")
        plain = v7.ChannelMix.read(weights, layer, config, place)
        return cls(
            plain=plain,
            scale=LowRank.read(weights, names, width, config.n_ffn, place),
            embedding=weights.on(CPU).take(f"{prefix}s_emb.weight", config.vocab_size, rank * rank),
            from_embedded=FP32.keep(weights.take(f"{prefix}s_emb_x.weight", rank * rank, width)),
            mix=torch.cat([plain.mix, torch.zeros_like(plain.mix)]),
        )

    def __call__(self, mixes: Tensor, window: Window) -> Tensor:
        """Mix the channels; returns what is added to the residual."""
        mixed, x = mixes
        inner = self.from_embedded(window.embedded)
        inner += F.embedding(window.tokens, self.embedding).to(inner.device)
        hidden = self.scale.down(x).unsqueeze(-2)
        hidden = hidden @ inner.view(*x.shape[:2], hidden.shape[-1], hidden.shape[-1])
        scale = self.scale.up(hidden.squeeze(-2))
        return self.plain.value(self.plain.key(mixed).relu_().square_().mul_(scale))
