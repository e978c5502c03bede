"""RWKV-4 (Pile, Raven, World): which tensors it has, and how a layer of it mixes along time and over channels.

Shapes, for B lanes, T tokens and width D: activations are [B, T, D]; a state is `att_shift`, `wkv_num`, `wkv_den`,
`wkv_max` and `ffn_shift`, each [L, B, D], for L layers. The recurrence goes by channel: D heads of size 1.
Source: RWKV-LM/RWKV-v4neo/src/model_run.py and the `rwkv` package 0.8.32 (RWKV.att_one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.kernels.wkv4 import EMPTY, Sums
from rwkv_runtime.layers import GatedChannelMix, Stack, Window, configuration, matrix_shape, mixes_with_current
from rwkv_runtime.matrices import Matrix
from rwkv_runtime.network import Tensors
from rwkv_runtime.operations import Operations, Parameters4, Steps4
from rwkv_runtime.placement import Placement, Plan
from rwkv_runtime.weights import Weights

GENERATIONS = ("4",)


def recognise(weights: Weights, kinds: frozenset[str]) -> str | None:
    """Return "4" if these are its tensors."""
    return "4" if "att.time_decay" in kinds and "att.ln_x.weight" not in kinds else None


def read(weights: Weights, plan: Plan) -> Stack:
    """Take every tensor of the network. Raises WeightsError if one is missing or misshaped."""
    _, width = matrix_shape(weights, "emb.weight")
    config = configuration(weights, "4", width, 1, "emb.weight")
    zeros = torch.zeros(config.n_layer, width)
    memory = {"wkv_num": zeros, "wkv_den": zeros, "wkv_max": zeros + EMPTY}
    return Stack.read(weights, config, TimeMix.read, GatedChannelMix.read, memory, plan)


@dataclass(frozen=True)
class TimeMix:
    """The recurrent half of a layer."""

    mix: Tensor  # [3, 1, 1, D]: how much of the previous token goes into k, v, r
    key: Matrix
    value: Matrix
    receptance: Matrix
    output: Matrix
    own: Parameters4
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

        return cls(
            mix=mixes_with_current(weights, f"{prefix}time_mix_", "kvr", width),
            key=matrix("key"),
            value=matrix("value"),
            receptance=matrix("receptance"),
            output=matrix("output"),
            own=Parameters4(
                log_decay=-weights.take(f"{prefix}time_decay", width).float().exp(),
                bonus=weights.take(f"{prefix}time_first", width).float(),
            ),
            operations=place.operations,
        )

    def __call__(
        self, mixes: Tensor, state: Mapping[str, Tensor], handed: Tensor | None, window: Window
    ) -> tuple[Tensor, Tensors, Tensor | None]:
        """Mix along time; returns (what is added to the residual, the new sums, nothing for later layers)."""
        x_k, x_v, x_r = mixes
        steps = Steps4(self.receptance(x_r), self.key(x_k), self.value(x_v))
        sums = Sums(state["wkv_num"], state["wkv_den"], state["wkv_max"])
        mixed, sums = self.operations.time_mix4(steps, self.own, sums, window.lengths)
        after = {"wkv_num": sums.numerator, "wkv_den": sums.denominator, "wkv_max": sums.maximum}
        return self.output(mixed), after, None
