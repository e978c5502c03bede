"""RWKV-6 "Finch" (x060): which tensors it has, and how a layer of it mixes along time and over channels.

Shapes, for B lanes, T tokens, width D, H heads of size N: activations are [B, T, D]; a state is `att_shift`
[L, B, D], `wkv` [L, B, H, K, V] and `ffn_shift` [L, B, D], for L layers.
Source: RWKV-LM/RWKV-v5/rwkv_v6_demo.py and the `rwkv` package 0.8.32 (RWKV.att_one_v6_0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.kernels.wkv6 import wkv6_chunked, wkv6_recurrent
from rwkv_runtime.layers import (
    GatedChannelMix,
    HeadNorm,
    LowRank,
    Stack,
    Window,
    channels,
    configuration,
    matrix_memory,
    matrix_shape,
    shifted,
    small_matrix,
)
from rwkv_runtime.matrices import Matrix
from rwkv_runtime.network import Tensors
from rwkv_runtime.placement import Placement, Plan
from rwkv_runtime.weights import Weights

GENERATIONS = ("6",)

BONUS = "blocks.0.att.time_faaaa"
MIXED = "wkvrg"
"""What is mixed from a token and the one before it, in the order of the stored groups."""


def recognise(weights: Weights, kinds: frozenset[str]) -> str | None:
    """Return "6" if these are its tensors."""
    return "6" if "att.time_maa_x" in kinds else None


def read(weights: Weights, plan: Plan) -> Stack:
    """Take every tensor of the network. Raises WeightsError if one is missing or misshaped."""
    heads, size = matrix_shape(weights, BONUS)
    config = configuration(weights, "6", heads, size, BONUS)
    return Stack.read(weights, config, TimeMix.read, _channel_mix, matrix_memory(config), plan)


@dataclass(frozen=True)
class TimeMix:
    """The recurrent half of a layer."""

    first_mix: Tensor  # [D]: how much of the previous token goes into what decides about the five mixes
    mix: Tensor  # [5, 1, D]: how much of it goes into w, k, v, r, g, before that decision
    mix_down: Matrix  # [5 * E, D]
    mix_up: Tensor  # [5, E, D]
    decay: LowRank
    receptance: Matrix
    key: Matrix
    value: Matrix
    gate: Matrix
    output: Matrix
    bonus: Tensor  # [H, N]
    group_norm: HeadNorm

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> TimeMix:
        """Take the tensors of `blocks.{layer}.att.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.att."

        def matrix(name: str) -> Matrix:
            return place.matrix(weights, f"{prefix}{name}.weight", width, width)

        rank = weights.shape(f"{prefix}time_maa_w1")[-1] // len(MIXED)
        mixes = [channels(weights, f"{prefix}time_maa_{letter}", width) for letter in MIXED]
        decay = (f"{prefix}time_decay_w1", f"{prefix}time_decay_w2", f"{prefix}time_decay")
        return cls(
            first_mix=channels(weights, f"{prefix}time_maa_x", width),
            mix=torch.stack(mixes).unsqueeze(1),
            mix_down=small_matrix(weights, f"{prefix}time_maa_w1", width, len(MIXED) * rank),
            mix_up=weights.take(f"{prefix}time_maa_w2", len(MIXED), rank, width).float(),
            decay=LowRank.read(weights, *decay, width, width),
            receptance=matrix("receptance"),
            key=matrix("key"),
            value=matrix("value"),
            gate=matrix("gate"),
            output=matrix("output"),
            bonus=weights.take(f"{prefix}time_faaaa", config.n_head, config.head_size).float(),
            group_norm=HeadNorm.read(weights, f"{prefix}ln_x", width),
        )

    def __call__(
        self, x: Tensor, state: Mapping[str, Tensor], handed: Tensor | None, window: Window
    ) -> tuple[Tensor, Tensors, Tensor | None]:
        """Mix along time; returns (what is added to the residual, the new wkv, nothing for later layers)."""
        x_w, x_k, x_v, x_r, x_g = self._mixed(x, shifted(x, state["att_shift"]))
        heads = (*x.shape[:2], *self.bonus.shape)
        receptance, key, value = (
            matrix(mixed).view(heads) for mixed, matrix in ((x_r, self.receptance), (x_k, self.key), (x_v, self.value))
        )
        hidden_decay = self.decay.down(x_w).tanh_()
        log_decay = self.decay.up(hidden_decay).exp_().neg_().view(heads)
        recurrence = wkv6_recurrent if x.shape[1] == 1 else wkv6_chunked
        reads, wkv = recurrence(receptance, log_decay, key, value, self.bonus, state["wkv"], window.lengths)
        mixed = self.group_norm(reads).mul_(F.silu(self.gate(x_g)))
        return self.output(mixed), {"wkv": wkv}, None

    def _mixed(self, x: Tensor, before: Tensor) -> Tensor:
        """Five mixes of each token with the one before it, [5, B, T, D]; how much is mixed depends on both."""
        hidden = self.mix_down(torch.lerp(x, before, self.first_mix)).tanh_()
        groups = hidden.view(-1, len(MIXED), self.mix_up.shape[1]).transpose(0, 1)
        amounts = torch.baddbmm(self.mix, groups, self.mix_up)
        return torch.lerp(x, before, amounts.view(len(MIXED), *x.shape))


def _channel_mix(weights: Weights, layer: int, config: ModelConfig, place: Placement) -> GatedChannelMix:
    mixes = [channels(weights, f"blocks.{layer}.ffn.time_maa_{letter}", config.n_embd) for letter in "kr"]
    return GatedChannelMix.read_beside(torch.stack(mixes).view(2, 1, 1, -1), weights, layer, config, place)
