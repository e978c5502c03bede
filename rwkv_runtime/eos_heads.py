"""The heads of EmbeddingRWKV: vectors from the hidden states at the EOS tokens that were put into a text.

Which tokens those are is the caller's business. Source: howard-hou/EmbeddingRWKV, embedding/eval/src/model.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.pooling import Floats, MeanPooler, unit
from rwkv_runtime.weights import Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rwkv_runtime.model import Output

PREFIX: Final = "eos_heads."
KINDS: Final = ("retr", "sts", "cls")
"""What each head was trained for: retrieval, similarity, classification."""

NORM_EPS: Final = 1e-5


@dataclass(frozen=True)
class EosHead:
    """LayerNorm(x + fc2 relu(fc1 x)) of the mean x of the hidden states, scaled to length 1."""

    kind: str
    first: Tensor  # [hidden, D]
    second: Tensor  # [D, hidden]
    norm_weight: Tensor
    norm_bias: Tensor
    mean: MeanPooler

    @property
    def name(self) -> str:
        """What the vectors are recorded as."""
        return f"eos_{self.kind}"

    @property
    def dimensions(self) -> int:
        """D."""
        return self.mean.dimensions

    @property
    def feature_size(self) -> int:
        """D."""
        return self.mean.feature_size

    @property
    def layers(self) -> tuple[int, ...]:
        """None: the hidden states are the last layer's."""
        return ()

    def features(self, output: Output, tokens: Sequence[int], before: Sequence[int] = ()) -> Floats:
        """The hidden states themselves, [T, D]."""
        return self.mean.features(output, tokens, before)

    def finish(self, sums: Floats, last: Floats, counts: NDArray[np.int64]) -> Floats:
        """Vectors [n, D] of unit length, each from its row alone."""
        self.mean.finish(sums, last, counts)  # says what is wrong with them
        means = (sums / counts[:, None]).astype(np.float32)
        found = np.empty_like(means)
        with torch.inference_mode():
            for row, mean in enumerate(means):
                x = torch.from_numpy(mean)
                x = x + self.second @ torch.relu(self.first @ x)
                found[row] = F.layer_norm(x, x.shape, self.norm_weight, self.norm_bias, NORM_EPS).numpy()
        return unit(found)


def read(weights: Weights, width: int) -> Mapping[str, EosHead]:
    """Take the tensors `eos_heads.*` of weights that have them. Raises WeightsError if one is missing or misshaped."""
    if not any(name.startswith(PREFIX) for name in weights.names()):
        return {}
    return {kind: _read(weights, kind, width) for kind in KINDS}


def _read(weights: Weights, kind: str, width: int) -> EosHead:
    hidden = weights.shape(f"{PREFIX}{kind}.fc1.weight")[0]

    def take(name: str, *shape: int) -> Tensor:
        return weights.take(f"{PREFIX}{kind}.{name}", *shape).float()

    return EosHead(
        kind,
        take("fc1.weight", hidden, width),
        take("fc2.weight", width, hidden),
        take("norm.weight", width),
        take("norm.bias", width),
        MeanPooler(width),
    )
