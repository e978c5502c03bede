"""Layer norms over the channels and over each head. Knows the names that weights files have for them, and no layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.weights import Weights

NORM_EPS = 1e-5
HEAD_NORM_EPS = 64e-5
"""Training normalised heads with 1e-5 after a division by 8: the same as this without the division."""


@dataclass(frozen=True)
class Norm:
    """LayerNorm over the channels."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def read(cls, weights: Weights, name: str, width: int) -> Norm:
        """Take `name`.weight and `name`.bias."""
        return cls(weights.take(f"{name}.weight", width).float(), weights.take(f"{name}.bias", width).float())

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise [..., D]."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, NORM_EPS)


@dataclass(frozen=True)
class HeadNorm:
    """Normalisation of each head on its own, with a weight and a bias per channel."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def read(cls, weights: Weights, name: str, width: int) -> HeadNorm:
        """Take `name`.weight and `name`.bias."""
        return cls(weights.take(f"{name}.weight", width).float(), weights.take(f"{name}.bias", width).float())

    def __call__(self, reads: Tensor) -> Tensor:
        """Normalise [B, T, H, N] over N; returns [B, T, D]."""
        normed = F.layer_norm(reads, reads.shape[-1:], eps=HEAD_NORM_EPS).flatten(-2)
        return torch.addcmul(self.bias, normed, self.weight)
