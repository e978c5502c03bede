"""Tensors that have to be computed from what a file holds, when they are needed and not before.

A quantized model would fill the memory if all its tensors were unpacked at once, and nobody needs them to say what a
file is. Knows nothing of names or containers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Deferred:
    """A tensor of known shape and type that `make` computes. `stored_as` says what the file holds, such as Q8_0."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stored_as: str
    make: Callable[[], Tensor]


Stored = Tensor | Deferred
"""A tensor as readers hand it on: mapped from the file, or still to be made."""


def made(stored: Stored) -> Tensor:
    """The tensor itself."""
    return stored.make() if isinstance(stored, Deferred) else stored


def changed(stored: Stored, change: Callable[[Tensor], Tensor]) -> Stored:
    """Apply a change of shape or order: at once to a tensor, of which it is a view, and later to a deferred one."""
    if not isinstance(stored, Deferred):
        return change(stored)
    shape = tuple(change(torch.empty(stored.shape, dtype=stored.dtype, device="meta")).shape)
    return Deferred(shape, stored.dtype, stored.stored_as, lambda: change(stored.make()))


def computed(stored: Stored, change: Callable[[Tensor], Tensor]) -> Deferred:
    """Apply a change of each value, which gives float32, when the tensor is needed."""
    return Deferred(tuple(stored.shape), torch.float32, label(stored), lambda: change(made(stored)))


def label(stored: Stored) -> str:
    """How the file stores it, for people: float16, Q8_0."""
    return stored.stored_as if isinstance(stored, Deferred) else str(stored.dtype).removeprefix("torch.")
