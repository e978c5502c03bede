"""RWKV-5 "Eagle" (5.2) and its forerunners 5.0 and 5.1: which tensors they have, and how they mix along time.

5.0 has no gate; 5.0 and 5.1 have one decay and one bonus a head, 5.2 one a channel.

Shapes, for B lanes, T tokens, width D, H heads of size N: activations are [B, T, D]; a state is `att_shift`
[L, B, D], `wkv` [L, B, H, K, V] and `ffn_shift` [L, B, D], for L layers.
Source: RWKV-LM/RWKV-v5/src/model.py and the `rwkv` package 0.8.32 (RWKV.att_one_v5, att_one_v5_1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.layers import (
    GatedChannelMix,
    Stack,
    Window,
    configuration,
    matrix_memory,
    matrix_shape,
    mixes_with_current,
)
from rwkv_runtime.matrices import Matrix
from rwkv_runtime.network import Tensors
from rwkv_runtime.norms import HeadNorm
from rwkv_runtime.operations import Operations, Parameters6, Steps6
from rwkv_runtime.placement import Placement, Plan
from rwkv_runtime.weights import Weights

GENERATIONS = ("5.0", "5.1", "5.2")

DECAY = "blocks.0.att.time_decay"


def recognise(weights: Weights, kinds: frozenset[str]) -> str | None:
    """Return "5.0", "5.1" or "5.2" if these are its tensors."""
    if not {"att.time_decay", "att.ln_x.weight"} <= kinds or "att.time_maa_x" in kinds:
        return None
    if "att.gate.weight" not in kinds:
        return "5.0"
    return "5.2" if math.prod(weights.shape(DECAY)) == weights.shape("emb.weight")[-1] else "5.1"


def read(weights: Weights, plan: Plan) -> Stack:
    """Take every tensor of the network. Raises WeightsError if one is missing or misshaped."""
    _, width = matrix_shape(weights, "emb.weight")
    decays = math.prod(weights.shape(DECAY))
    gated = "blocks.0.att.gate.weight" in weights.names()
    generation = "5.0" if not gated else "5.2" if decays == width else "5.1"
    heads = weights.shape(DECAY)[0] if generation == "5.2" else decays
    config = configuration(weights, generation, heads, width // max(heads, 1), DECAY)
    return Stack.read(weights, config, TimeMix.read, GatedChannelMix.read, matrix_memory(config), plan)


@dataclass(frozen=True)
class TimeMix:
    """The recurrent half of a layer."""

    mix: Tensor  # [3 or 4, 1, 1, D]: how much of the previous token goes into r, k, v (and g)
    receptance: Matrix
    key: Matrix
    value: Matrix
    gate: Matrix | None
    output: Matrix
    own: Parameters6
    operations: Operations

    @property
    def activations(self) -> torch.dtype:
        """What the matrices take."""
        return self.receptance.activations

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> TimeMix:
        """Take the tensors of `blocks.{layer}.att.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.att."
        gated = config.generation != "5.0"

        def matrix(name: str) -> Matrix:
            return place.matrix(weights, f"{prefix}{name}.weight", width, width)

        return cls(
            mix=mixes_with_current(weights, f"{prefix}time_mix_", "rkvg" if gated else "rkv", width),
            receptance=matrix("receptance"),
            key=matrix("key"),
            value=matrix("value"),
            gate=matrix("gate") if gated else None,
            output=matrix("output"),
            own=Parameters6(
                decay_bias=_by_channel(weights, f"{prefix}time_decay", config).flatten(),
                bonus=_bonus(weights, prefix, config).contiguous(),
                norm=HeadNorm.read(weights, f"{prefix}ln_x", width),
            ),
            operations=place.operations,
        )

    def __call__(
        self, mixes: Tensor, state: Mapping[str, Tensor], handed: Tensor | None, window: Window
    ) -> tuple[Tensor, Tensors, Tensor | None]:
        """Mix along time; returns (what is added to the residual, the new wkv, nothing for later layers)."""
        x_r, x_k, x_v, *x_g = mixes
        gate = None if self.gate is None else self.gate(x_g[0])
        steps = Steps6(self.receptance(x_r), self.key(x_k), self.value(x_v), gate, None)
        mixed, wkv = self.operations.time_mix6(steps, self.own, state["wkv"], window.lengths)
        return self.output(mixed), {"wkv": wkv}, None


def _by_channel(weights: Weights, name: str, config: ModelConfig) -> Tensor:
    """Take what is stored per channel (5.2) or per head (before) as [H, N]."""
    size = config.head_size if config.generation == "5.2" else 1
    return weights.take(name, config.n_head, size).float().expand(config.n_head, config.head_size)


def _bonus(weights: Weights, prefix: str, config: ModelConfig) -> Tensor:
    """Take the bonus: under its newer name it is stored as it is, under its older one as a logarithm."""
    if f"{prefix}time_first" in weights.names():
        return _by_channel(weights, f"{prefix}time_first", config).exp()
    return _by_channel(weights, f"{prefix}time_faaaa", config)
