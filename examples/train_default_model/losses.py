"""What is minimised. Knows nothing of models or data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

PREFIXES = (256, 128, 64)
TEMPERATURE = 0.05
COSINE_WEIGHT = 2.0
PREFIX_WEIGHT = 0.3
NEIGHBOUR_WEIGHT = 0.6


@dataclass(frozen=True)
class VectorLoss:
    """1 - cosine to the teacher, the same summed over prefixes, and how wrongly a batch's neighbours are ranked."""

    cosine: Tensor
    prefixes: Tensor
    neighbours: Tensor

    def total(self, neighbour_weight: float = NEIGHBOUR_WEIGHT) -> Tensor:
        """The weighted sum."""
        return COSINE_WEIGHT * self.cosine + PREFIX_WEIGHT * self.prefixes + neighbour_weight * self.neighbours


def vector_loss(vectors: Tensor, targets: Tensor) -> VectorLoss:
    """The losses of vectors [n, E] of any length against the teacher's unit vectors [n, E].

    `neighbours` is the Kullback-Leibler divergence between the softmax of the teacher's cosines of each text to the
    others of the batch, at temperature 0.05, and that of the student's.
    """
    cosine = 1 - F.cosine_similarity(vectors, targets).mean()
    prefixes = torch.stack(
        [1 - F.cosine_similarity(vectors[:, :size], targets[:, :size]).mean() for size in PREFIXES]
    ).sum()
    units = F.normalize(vectors, dim=-1)
    found, wanted = (F.log_softmax((one @ one.T / TEMPERATURE).fill_diagonal_(-1e4), -1) for one in (units, targets))
    return VectorLoss(cosine, prefixes, F.kl_div(found, wanted, log_target=True, reduction="batchmean"))


def next_token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross entropy in nats of the tokens [n] under scores [n, vocabulary]."""
    return F.cross_entropy(logits, tokens)
