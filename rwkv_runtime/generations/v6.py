"""RWKV-6 "Finch" (x060): which tensors it has, and how a layer of it mixes along time and over channels.

Shapes, for B lanes, T tokens, width D, H heads of size N: activations are [B, T, D]; a state is `att_shift`
[L, B, D], `wkv` [L, B, H, K, V] and `ffn_shift` [L, B, D], for L layers.
Source: RWKV-LM/RWKV-v5/rwkv_v6_demo.py and the `rwkv` package 0.8.32 (RWKV.att_one_v6_0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.layers import (
    GatedChannelMix,
    LowRank,
    Stack,
    Window,
    channels,
    configuration,
    matrix_memory,
    matrix_shape,
)
from rwkv_runtime.matrices import Matrix
from rwkv_runtime.network import Tensors
from rwkv_runtime.norms import HeadNorm
from rwkv_runtime.operations import Operations, Parameters6, Steps6
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

    mix: Tensor  # [2, 1, 1, D]: how much of the previous token goes into what decides about five mixes; nothing
    base: Tensor  # [5, 1, D]: how much of it goes into w, k, v, r, g, before that decision
    mix_down: Matrix  # [5 * E, D]
    mix_up: Tensor  # [5, E, D]
    decay: LowRank
    receptance: Matrix
    key: Matrix
    value: Matrix
    gate: Matrix
    output: Matrix
    own: Parameters6
    operations: Operations
    activations: torch.dtype = torch.float32

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> TimeMix:
        """Take the tensors of `blocks.{layer}.att.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.att."

        def matrix(name: str) -> Matrix:
            return place.matrix(weights, f"{prefix}{name}.weight", width, width)

        rank = weights.shape(f"{prefix}time_maa_w1")[-1] // len(MIXED)
        mixes = [channels(weights, f"{prefix}time_maa_{letter}", width) for letter in MIXED]
        names = (f"{prefix}time_decay_w1", f"{prefix}time_decay_w2", f"{prefix}time_decay")
        decay = LowRank.read(weights, names, width, width, place)
        first_mix = channels(weights, f"{prefix}time_maa_x", width)
        bonus = weights.take(f"{prefix}time_faaaa", config.n_head, config.head_size).float()
        return cls(
            mix=torch.stack([first_mix, torch.zeros_like(first_mix)]).view(2, 1, 1, width),
            base=torch.stack(mixes).unsqueeze(1),
            mix_down=place.low_rank(weights, f"{prefix}time_maa_w1", width, len(MIXED) * rank),
            mix_up=weights.take(f"{prefix}time_maa_w2", len(MIXED), rank, width).float(),
            decay=decay,
            receptance=matrix("receptance"),
            key=matrix("key"),
            value=matrix("value"),
            gate=matrix("gate"),
            output=matrix("output"),
            own=Parameters6(decay.bias, bonus, HeadNorm.read(weights, f"{prefix}ln_x", width)),
            operations=place.operations,
        )

    def __call__(
        self, mixes: Tensor, state: Mapping[str, Tensor], handed: Tensor | None, window: Window
    ) -> tuple[Tensor, Tensors, Tensor | None]:
        """Mix along time; returns (what is added to the residual, the new wkv, nothing for later layers)."""
        amounts = self._amounts(mixes[0])
        kept_as = self.receptance.activations
        x_w, x_k, x_v, x_r, x_g = self.operations.mixed_by(mixes[1], state["att_shift"], amounts, kept_as)
        steps = Steps6(
            receptance=self.receptance(x_r),
            key=self.key(x_k),
            value=self.value(x_v),
            gate=self.gate(x_g),
            decay=self.decay.up_matrix(self.decay.down(x_w).tanh_()),
        )
        mixed, wkv = self.operations.time_mix6(steps, self.own, state["wkv"], window.lengths)
        return self.output(mixed), {"wkv": wkv}, None

    def _amounts(self, mixed: Tensor) -> Tensor:
        """How much of the token before each of the five mixes of a token has, [5, B, T, D]."""
        hidden = self.mix_down(mixed).tanh_()
        groups = hidden.view(-1, len(MIXED), self.mix_up.shape[1]).transpose(0, 1)
        return torch.baddbmm(self.base, groups, self.mix_up).view(len(MIXED), *mixed.shape)


def _channel_mix(weights: Weights, layer: int, config: ModelConfig, place: Placement) -> GatedChannelMix:
    mixes = [channels(weights, f"blocks.{layer}.ffn.time_maa_{letter}", config.n_embd) for letter in "kr"]
    return GatedChannelMix.read_beside(torch.stack(mixes).view(2, 1, 1, -1), weights, layer, config, place)
