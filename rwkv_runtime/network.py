"""What a model needs of its network, whatever the generation. Knows no generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from rwkv_runtime.config import ModelConfig

Tensors = dict[str, Tensor]
"""A state's tensors by name: [L, ...] of one sequence, [L, B, ...] of B lanes. Only those given as room are written."""


class Network(Protocol):
    """The layers between token ids and the residual stream, and the head on top of them."""

    @property
    def config(self) -> ModelConfig:
        """The dimensions."""

    @property
    def device(self) -> torch.device:
        """Where states are."""

    @property
    def output_device(self) -> torch.device:
        """Where residuals and logits are."""

    @property
    def head_weight(self) -> Tensor:
        """What makes logits of hidden states, as stored [vocabulary, D]."""

    def initial_state(self) -> Tensors:
        """The state before the first token, of one sequence."""

    def window(
        self, tokens: Tensor, state: Tensors, lengths: Sequence[int], room: Tensors | None = None
    ) -> tuple[Tensor, Tensors]:
        """Read tokens [B, T]; returns (the residual stream after the last layer [B, T, D], the new state).

        Of each lane only the first `lengths[lane]` tokens are read; later rows of the residual mean nothing. `room` is
        an older state of the same shapes that nobody needs: the new one may be written there.
        """

    def tapped(
        self, tokens: Tensor, state: Tensors, lengths: Sequence[int], layers: Sequence[int]
    ) -> tuple[Tensor, Tensors, Tensor]:
        """What `window` gives, and the mean of the normalised streams behind some layers, from 1 on: [B, T, D]."""

    def ending(self, tokens: Tensor, state: Tensors, lengths: Sequence[int]) -> tuple[Tensor, Tensors]:
        """What `window` gives, to the bit, but of the residual stream only each lane's last row: [B, D].

        That of a lane of length 0 means nothing.
        """

    def advance(self, tokens: Tensor, state: Tensors, lengths: Sequence[int]) -> Tensors:
        """The new state that `window` gives, to the bit, without the work that only its residual stream needs."""

    def narrowest(self, count: int, width: int) -> int:
        """The fewest tokens that a window of `count` may be padded to without a bit that is other than at `width`."""

    def first_not_finite(self, tokens: Tensor, state: Tensors, lengths: Sequence[int]) -> int | None:
        """The first layer from which a NaN or an infinity comes when `window` reads these tokens, or None."""

    def final_norm(self, residual: Tensor, /) -> Tensor:
        """Hidden states [..., D] from the residual stream."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [..., vocabulary], for hidden states."""
