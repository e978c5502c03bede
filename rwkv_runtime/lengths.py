"""How many tokens count in each lane, for kernels: made a tensor once, not once for every one of them.

Knows nothing of tokens or layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Lengths(tuple[int, ...]):
    """The lengths of lanes, with copies on devices. Equal to the plain tuple."""

    _copies: dict[torch.device, Tensor]
    _wide: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths:
        """The lengths, which keep the copies that they have."""
        return lengths if isinstance(lengths, cls) else cls(lengths)

    @classmethod
    def kept_in(cls, tensor: Tensor) -> Lengths:
        """Lengths of 1 as a tensor [B] int32 says at any later time: for kernels that are recorded once."""
        lengths = cls([1] * len(tensor))
        lengths._copies = {tensor.device: tensor}
        return lengths

    def on(self, device: torch.device) -> Tensor:
        """[B] int32 on a device."""
        copies: dict[torch.device, Tensor] = self.__dict__.setdefault("_copies", {})
        if device not in copies:
            copies[device] = torch.tensor(list(self), dtype=torch.int32).to(device)
        return copies[device]

    @property
    def wide(self) -> Tensor:
        """[B] int64 on the CPU."""
        if "_wide" not in self.__dict__:
            self._wide = torch.tensor(list(self))
        return self._wide


def lengths_on(lengths: Sequence[int], device: torch.device) -> Tensor:
    """The lengths of lanes as a tensor [B] int32 on a device."""
    return Lengths.of(lengths).on(device)
