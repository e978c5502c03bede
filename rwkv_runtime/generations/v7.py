"""RWKV-7 "Goose" (x070): which tensors it has, and how a layer of it mixes along time and over channels.

Shapes, for B lanes, T tokens, width D, H heads of size N: activations are [B, T, D]; a state is `att_shift`
[L, B, D], `wkv` [L, B, H, V, K] and `ffn_shift` [L, B, D], for L layers.
Source: RWKV-LM/RWKV-v7/rwkv_v7_numpy.py and the `rwkv` package 0.8.32 (class RWKV_x070).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.kernels.wkv7 import wkv7_chunked, wkv7_recurrent
from rwkv_runtime.layers import (
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

GENERATIONS = ("7",)

LOG_DECAY_SCALE = -0.606531
"""The constant that the official code uses for -exp(-1/2)."""
NORMALIZE_EPS = 1e-12


def recognise(weights: Weights, kinds: frozenset[str]) -> str | None:
    """Return "7" if these are its tensors."""
    return "7" if "att.r_k" in kinds and "ffn.s_emb.weight" not in kinds else None


def read(weights: Weights, plan: Plan) -> Stack:
    """Take every tensor of the network. Raises WeightsError if one is missing or misshaped."""
    config = read_configuration(weights, "7")
    return Stack.read(weights, config, TimeMix.read, ChannelMix.read, matrix_memory(config), plan)


def read_configuration(weights: Weights, generation: str) -> ModelConfig:
    """The dimensions, of any network whose time mix is that of RWKV-7; strikes off the tensors without a use."""
    for letter in "012":
        if f"blocks.0.att.v{letter}" in weights.names():  # some files carry these, no code uses them
            weights.discard(f"blocks.0.att.v{letter}")
    heads, size = matrix_shape(weights, "blocks.0.att.r_k")
    return configuration(weights, generation, heads, size, "blocks.0.att.r_k")


@dataclass(frozen=True)
class TimeMix:
    """The recurrent half of a layer."""

    mix: Tensor  # [6, 1, 1, D]: how much of the previous token goes into r, w, k, v, a, g
    receptance: Matrix
    key: Matrix
    value: Matrix
    output: Matrix
    decay: LowRank
    rate: LowRank
    gate_down: Matrix
    gate_up: Matrix
    blend: LowRank | None  # how far a later layer's value goes towards the first layer's
    removal_scale: Tensor
    key_rest: Tensor  # 1 - k_a
    key_rate: Tensor  # k_a
    bonus: Tensor  # [H, N]
    group_norm: HeadNorm

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> TimeMix:
        """Take the tensors of `blocks.{layer}.att.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.att."

        def matrix(name: str) -> Matrix:
            return place.matrix(weights, f"{prefix}{name}.weight", width, width)

        def vector(name: str) -> Tensor:
            return channels(weights, prefix + name, width)

        def low_rank(letter: str) -> LowRank:
            down, up, bias = (f"{prefix}{letter}{number}" for number in "120")
            return LowRank.read(weights, down, up, bias, width, width)

        gate_rank = weights.shape(f"{prefix}g1")[-1]
        key_rate = vector("k_a")
        return cls(
            mix=torch.stack([vector(f"x_{letter}") for letter in "rwkvag"]).view(6, 1, 1, width),
            receptance=matrix("receptance"),
            key=matrix("key"),
            value=matrix("value"),
            output=matrix("output"),
            decay=low_rank("w"),
            rate=low_rank("a"),
            gate_down=small_matrix(weights, f"{prefix}g1", width, gate_rank),
            gate_up=small_matrix(weights, f"{prefix}g2", gate_rank, width),
            blend=low_rank("v") if layer else None,
            removal_scale=vector("k_k"),
            key_rest=1 - key_rate,
            key_rate=key_rate,
            bonus=weights.take(f"{prefix}r_k", config.n_head, config.head_size).float(),
            group_norm=HeadNorm.read(weights, f"{prefix}ln_x", width),
        )

    def __call__(
        self, x: Tensor, state: Mapping[str, Tensor], first_value: Tensor | None, window: Window
    ) -> tuple[Tensor, Tensors, Tensor]:
        """Mix along time; returns (what is added to the residual, the new wkv, the value for later layers)."""
        x_r, x_w, x_k, x_v, x_a, x_g = torch.lerp(x, shifted(x, state["att_shift"]), self.mix)
        receptance, key, value = self.receptance(x_r), self.key(x_k), self.value(x_v)
        hidden_decay = self.decay.down(x_w).tanh_()
        log_decay = self.decay.up(hidden_decay).sigmoid_().mul_(LOG_DECAY_SCALE)
        rate = self.rate.up(self.rate.down(x_a)).sigmoid_()
        gate = self.gate_up(self.gate_down(x_g).sigmoid_())
        if self.blend is not None and first_value is not None:
            blend = self.blend.up(self.blend.down(x_v)).sigmoid_()
            value = torch.lerp(value, first_value, blend)

        heads = (*x.shape[:2], *self.bonus.shape)
        removal = F.normalize((key * self.removal_scale).view(heads), dim=-1, eps=NORMALIZE_EPS)
        key = torch.addcmul(self.key_rest, rate, self.key_rate).mul_(key)
        receptance, key, value = receptance.view(heads), key.view(heads), value.view(heads)
        recurrence = wkv7_recurrent if x.shape[1] == 1 else wkv7_chunked
        steps = (receptance, log_decay.view(heads), key, value, removal, rate.view(heads))
        reads, wkv = recurrence(*steps, state["wkv"], window.lengths)

        normed = self.group_norm(reads)
        strength = (receptance * key).mul_(self.bonus).sum(-1, keepdim=True)
        mixed = torch.addcmul(normed.view(heads), strength, value).view(x.shape).mul_(gate)
        handed = value.view(x.shape) if first_value is None else first_value
        return self.output(mixed), {"wkv": wkv}, handed


@dataclass(frozen=True)
class ChannelMix:
    """The feed-forward half of a layer: key, squared ReLU, value."""

    mix: Tensor
    key: Matrix
    value: Matrix

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> ChannelMix:
        """Take the tensors of `blocks.{layer}.ffn.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.ffn."
        return cls(
            mix=channels(weights, f"{prefix}x_k", width),
            key=place.matrix(weights, f"{prefix}key.weight", config.n_ffn, width),
            value=place.matrix(weights, f"{prefix}value.weight", width, config.n_ffn),
        )

    def __call__(self, x: Tensor, previous: Tensor, window: Window) -> Tensor:
        """Mix the channels of [B, T, D]; returns what is added to the residual."""
        return self.value(self.activated(x, previous))

    def activated(self, x: Tensor, previous: Tensor) -> Tensor:
        """What the value matrix is applied to, [B, T, F]."""
        mixed = torch.lerp(x, shifted(x, previous), self.mix)
        return self.key(mixed).relu_().square_()
