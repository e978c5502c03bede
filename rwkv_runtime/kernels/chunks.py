"""What the chunked recurrences have in common: cutting tokens into chunks, and what fits together.

Knows shapes only: nothing of what a recurrence computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.errors import ShapeError


def by_chunk(x: Tensor, chunk: int) -> Tensor:
    """[B, T, H, N] → [chunks, B, H, chunk, N], a view if the tokens of a lane are contiguous."""
    lanes, tokens, heads, size = x.shape
    return x.reshape(lanes, tokens // chunk, chunk, heads, size).permute(1, 0, 3, 2, 4)


def whole_chunks(x: Tensor, lengths: Sequence[int], chunk: int) -> Tensor:
    """Fill [B, T, H, N] up to whole chunks with zeros and put zeros at and after each lane's length."""
    tokens = x.shape[1]
    ends = torch.tensor(lengths, device=x.device).view(-1, 1, 1, 1)
    inside = torch.arange(tokens, device=x.device).view(1, -1, 1, 1) < ends
    return F.pad(torch.where(inside, x, 0.0), (0, 0, 0, 0, 0, -tokens % chunk))


def check_heads(key: Tensor, value: Tensor, wkv: Tensor, lengths: Sequence[int]) -> None:
    """Raise ShapeError unless keys and values [B, T, H, N], a memory [B, H, N, N] and lengths fit together."""
    lanes, tokens, heads, size = key.shape
    if value.shape != key.shape or wkv.shape != (lanes, heads, size, size):
        raise ShapeError(
            f"wkv {tuple(wkv.shape)} and value {tuple(value.shape)} do not fit key {tuple(key.shape)}; "
            f"wkv must be {(lanes, heads, size, size)}"
        )
    check_lengths(lanes, tokens, lengths)


def check_lengths(lanes: int, tokens: int, lengths: Sequence[int]) -> None:
    """Raise ShapeError unless there is a length for each lane, none beyond the tokens."""
    if len(lengths) != lanes or not all(0 <= length <= tokens for length in lengths):
        raise ShapeError(f"lengths {list(lengths)[:8]} must be {lanes} numbers from 0 to {tokens}")
