"""Tensors for kernel tests: filled with NaN, and between sentinels that nobody may touch."""

from __future__ import annotations

import torch
from torch import Tensor

SENTINEL = 77
GUARD = 32


class Guarded:
    """Hands out outputs, and says whether a write missed one of them."""

    def __init__(self) -> None:
        self._buffers: list[tuple[Tensor, int]] = []

    def output(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An output of NaN (or, of integers, of -99) that is contiguous and lies between sentinels."""
        count = torch.Size(shape).numel()
        buffer = torch.full((count + 2 * GUARD,), SENTINEL, dtype=dtype)
        self._buffers.append((buffer, count))
        inside = buffer[GUARD : GUARD + count]
        return inside.fill_(float("nan") if dtype.is_floating_point else -99).view(shape)

    def intact(self) -> bool:
        """Whether all sentinels are as they were."""
        return all(
            bool((buffer[:GUARD] == SENTINEL).all()) and bool((buffer[GUARD + count :] == SENTINEL).all())
            for buffer, count in self._buffers
        )
