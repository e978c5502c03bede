"""RWKV-7 "Goose" (x070): which tensors it has, and how a layer of it mixes along time and over channels.

Shapes, for B lanes, T tokens, width D, H heads of size N: activations are [B, T, D]; a state is `att_shift`
[L, B, D], `wkv` [L, B, H, V, K] and `ffn_shift` [L, B, D], for L layers.
Source: RWKV-LM/RWKV-v7/rwkv_v7_numpy.py and the `rwkv` package 0.8.32 (class RWKV_x070).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.layers import (
    Layer,
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
from rwkv_runtime.operations import Layer7, Operations, Parameters7, Steps7
from rwkv_runtime.placement import Placement, Plan
from rwkv_runtime.weights import Weights

GENERATIONS = ("7",)

LOG_DECAY_SCALE = -0.606531
"""The constant that the official code uses for -exp(-1/2)."""


def recognise(weights: Weights, kinds: frozenset[str]) -> str | None:
    """Return "7" if these are its tensors."""
    return "7" if "att.r_k" in kinds and "ffn.s_emb.weight" not in kinds else None


def read(weights: Weights, plan: Plan) -> Stack:
    """Take every tensor of the network. Raises WeightsError if one is missing or misshaped."""
    config = read_configuration(weights, "7")
    stack = Stack.read(weights, config, TimeMix.read, ChannelMix.read, matrix_memory(config), plan)
    operations = [layer.operations for layer in stack.layers]
    if any(one is not operations[0] for one in operations):
        return stack
    layers = [_whole(layer) for layer in stack.layers]
    step, window_step = operations[0].whole7(layers)
    return replace(stack, step=step, window_step=window_step)


def _whole(layer: Layer) -> Layer7:
    time_mix, channel_mix = layer.time_mix, layer.channel_mix
    assert isinstance(time_mix, TimeMix) and isinstance(channel_mix, ChannelMix)
    low_rank = {"gate_down": time_mix.gate_down, "gate_up": time_mix.gate_up}
    for name, pair in (("decay", time_mix.decay), ("rate", time_mix.rate), ("blend", time_mix.blend)):
        low_rank |= {} if pair is None else {f"{name}_down": pair.down, f"{name}_up": pair.up_matrix}
    return Layer7(
        attention_norm=layer.attention_norm,
        mix=time_mix.mix,
        receptance=time_mix.receptance,
        key=time_mix.key,
        value=time_mix.value,
        output=time_mix.output,
        low_rank=low_rank,
        own=time_mix.own,
        feed_norm=layer.feed_norm,
        ffn_mix=channel_mix.mix,
        ffn_key=channel_mix.key,
        ffn_value=channel_mix.value,
    )


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
    own: Parameters7
    operations: Operations

    @property
    def activations(self) -> torch.dtype:
        """What the matrices take."""
        return self.receptance.activations

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> TimeMix:
        """Take the tensors of `blocks.{layer}.att.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.att."

        def matrix(name: str) -> Matrix:
            return place.matrix(weights, f"{prefix}{name}.weight", width, width)

        def vector(name: str) -> Tensor:
            return channels(weights, prefix + name, width)

        def low_rank(letter: str) -> LowRank:
            names = (f"{prefix}{letter}1", f"{prefix}{letter}2", f"{prefix}{letter}0")
            return LowRank.read(weights, names, width, width, place)

        gate_rank = weights.shape(f"{prefix}g1")[-1]
        decay, rate, blend = low_rank("w"), low_rank("a"), low_rank("v") if layer else None
        own = Parameters7(
            decay_bias=decay.bias,
            rate_bias=rate.bias,
            blend_bias=None if blend is None else blend.bias,
            removal_scale=vector("k_k"),
            key_rate=vector("k_a"),
            bonus=weights.take(f"{prefix}r_k", config.n_head, config.head_size).float(),
            norm=HeadNorm.read(weights, f"{prefix}ln_x", width),
            decay_scale=LOG_DECAY_SCALE,
        )
        return cls(
            mix=torch.stack([vector(f"x_{letter}") for letter in "rwkvag"]).view(6, 1, 1, width),
            receptance=matrix("receptance"),
            key=matrix("key"),
            value=matrix("value"),
            output=matrix("output"),
            decay=decay,
            rate=rate,
            gate_down=place.low_rank(weights, f"{prefix}g1", width, gate_rank),
            gate_up=place.low_rank(weights, f"{prefix}g2", gate_rank, width),
            blend=blend,
            own=own,
            operations=place.operations,
        )

    def __call__(
        self, mixes: Tensor, state: Mapping[str, Tensor], first_value: Tensor | None, window: Window
    ) -> tuple[Tensor, Tensors, Tensor]:
        """Mix along time; returns (what is added to the residual, the new wkv, the value for later layers)."""
        x_r, x_w, x_k, x_v, x_a, x_g = mixes
        steps = Steps7(
            receptance=self.receptance(x_r),
            key=self.key(x_k),
            value=self.value(x_v),
            gate=self.gate_up(self.operations.sigmoid(self.gate_down(x_g))),
            decay=self.decay.up_matrix(self.operations.tanh(self.decay.down(x_w))),
            rate=self.rate.up_matrix(self.rate.down(x_a)),
            blend=None if self.blend is None else self.blend.up_matrix(self.blend.down(x_v)),
            first_value=first_value,
        )
        mixed, wkv, first = self.operations.time_mix7(steps, self.own, state["wkv"], window.lengths)
        return self.output(mixed), {"wkv": wkv}, first


@dataclass(frozen=True)
class ChannelMix:
    """The feed-forward half of a layer: key, squared ReLU, value."""

    mix: Tensor  # [1, 1, 1, D]
    key: Matrix
    value: Matrix
    operations: Operations

    @property
    def activations(self) -> torch.dtype:
        """What the matrices take."""
        return self.key.activations

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> ChannelMix:
        """Take the tensors of `blocks.{layer}.ffn.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.ffn."
        return cls(
            mix=channels(weights, f"{prefix}x_k", width).view(1, 1, 1, width),
            key=place.matrix(weights, f"{prefix}key.weight", config.n_ffn, width),
            value=place.matrix(weights, f"{prefix}value.weight", width, config.n_ffn),
            operations=place.operations,
        )

    def __call__(self, mixes: Tensor, window: Window) -> Tensor:
        """Mix the channels; returns what is added to the residual."""
        return self.operations.after_squared_relu(self.key(mixes[0]), self.value)
