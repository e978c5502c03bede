"""int8 matrices on a GPU between rows in bfloat16. Knows no layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


@dataclass(frozen=True)
class GpuInt8Matrix:
    """int8 weights with a scale a row, which are exact in bfloat16: as `Int8Matrix`, and bfloat16 rows stay that."""

    weight: Tensor  # [rows, columns] int8
    scales: Tensor  # [rows] float32
    precision: str = "int8"
    activations: torch.dtype = torch.bfloat16

    @property
    def rows(self) -> int:
        """Channels of the result."""
        return self.weight.shape[0]

    @property
    def columns(self) -> int:
        """Channels of the input."""
        return self.weight.shape[1]

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.weight.nbytes + self.scales.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]; returns the type of the input."""
        product = F.linear(x.bfloat16(), self.weight.bfloat16())
        return product.mul_(self.scales) if x.dtype == torch.bfloat16 else product.float().mul_(self.scales)
