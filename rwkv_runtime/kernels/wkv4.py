"""The WKV-4 recurrence: a weighted mean of all values read so far, per channel.

A token's weight is exp(key), times what decay has left of it. Both sums of the mean, over weight * value and over the
weights, are held times exp(-maximum), where `maximum` is the largest exponent among them, so nothing overflows
whatever the keys are. `wkv4_recurrent` walks token by token and is the specification. `wkv4_chunked` gives the same
from a scan in blocks: all chunks of 32 tokens walk side by side from empty sums, then each chunk's prefixes are
joined with the sums that were carried to its start.

Knows nothing of layers or weights. The sums passed in are never written.

Shapes, for B lanes, T tokens and D channels:
    key, value                        [B, T, D]   float32
    log_decay, bonus                  [D]         float32
    numerator, denominator, maximum   [B, D]      float32 (no token read: 0, 0 and EMPTY)
Units: `log_decay` is the natural log of what survives one token, at most 0; `bonus` is added to a token's key where
that token itself is read. Steps at and after a lane's length are no steps: whatever stands there is not looked at, and
what is read there means nothing.
Source: RWKV-LM/RWKV-v4neo/cuda/wkv_cuda.cu and the `rwkv` package 0.8.32 (RWKV.att_one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.errors import ShapeError
from rwkv_runtime.kernels.chunks import check_lengths

CHUNK = 32
"""Tokens per chunk: as many steps are walked one after another, and as many chunks of a window of 1024 are joined."""
EMPTY = -1e30
"""The maximum of sums over no token: exp of its difference to any key is 0, and the difference itself is finite."""


class Sums(NamedTuple):
    """Sums over tokens of weight * value and of weight, each times exp(-maximum); [..., D] or to be broadcast."""

    numerator: Tensor
    denominator: Tensor
    maximum: Tensor

    def faded(self, log_decay: Tensor) -> Sums:
        """The sums after a decay, which moves every exponent alike."""
        return Sums(self.numerator, self.denominator, self.maximum + log_decay)

    def joined(self, later: Sums) -> Sums:
        """The sums over the tokens of both."""
        maximum = torch.maximum(self.maximum, later.maximum)
        mine, theirs = torch.exp(self.maximum - maximum), torch.exp(later.maximum - maximum)
        numerator = torch.addcmul(mine * self.numerator, theirs, later.numerator)
        return Sums(numerator, torch.addcmul(mine * self.denominator, theirs, later.denominator), maximum)

    def mean(self) -> Tensor:
        """The weighted mean of the values."""
        return self.numerator / self.denominator


def wkv4_recurrent(
    key: Tensor, value: Tensor, log_decay: Tensor, bonus: Tensor, sums: Sums, lengths: Sequence[int]
) -> tuple[Tensor, Sums]:
    """Walk token by token: the specification. Returns (read [B, T, D], the sums after each lane's length).

    Raises ShapeError if the shapes or the lengths do not fit together.
    """
    _check(key, value, sums, lengths)
    reads = torch.zeros_like(value)
    for t in range(key.shape[1]):
        read = sums.joined(_token(key[:, t] + bonus, value[:, t])).mean()
        changed = sums.faded(log_decay).joined(_token(key[:, t], value[:, t]))
        running = torch.tensor([t < length for length in lengths], device=key.device).view(-1, 1)
        reads[:, t] = torch.where(running, read, 0.0)
        sums = Sums(*(torch.where(running, new, old) for new, old in zip(changed, sums, strict=True)))
    return reads, sums


def wkv4_chunked(
    key: Tensor, value: Tensor, log_decay: Tensor, bonus: Tensor, sums: Sums, lengths: Sequence[int]
) -> tuple[Tensor, Sums]:
    """The result of `wkv4_recurrent`, up to float32 rounding, from a scan in blocks.

    Raises ShapeError if the shapes or the lengths do not fit together.
    """
    _check(key, value, sums, lengths)
    lanes, tokens, width = key.shape
    if not tokens:
        return torch.zeros_like(value), sums
    padding = (0, 0, 0, -tokens % CHUNK)
    keys, values = (F.pad(x, padding).view(lanes, -1, CHUNK, width) for x in (key, value))
    log_decay = log_decay.clamp(min=EMPTY)  # at minus infinity, 0 steps of decay would be NaN

    prefixes = _prefixes(keys, values, log_decay)
    starts = _carried(sums, Sums(*(x[:, :, -1] for x in prefixes)), log_decay)
    decayed = log_decay * torch.arange(CHUNK + 1, dtype=log_decay.dtype, device=log_decay.device).view(-1, 1)
    before = Sums(*(x.unsqueeze(2) for x in starts)).faded(decayed).joined(prefixes)

    reads = Sums(*(x[:, :, :-1] for x in before)).joined(_token(keys + bonus, values)).mean()
    return reads.reshape(lanes, -1, width)[:, :tokens], Sums(
        *(_after(x, start, lengths) for x, start in zip(before, sums, strict=True))
    )


def _prefixes(keys: Tensor, values: Tensor, log_decay: Tensor) -> Sums:
    """For every chunk, the sums over its first 0, 1, ..., CHUNK tokens: [B, chunks, CHUNK + 1, D]."""
    zeros = torch.zeros_like(keys[:, :, 0])
    walked = [Sums(zeros, zeros, zeros + EMPTY)]
    for step in range(CHUNK):
        walked.append(walked[-1].faded(log_decay).joined(_token(keys[:, :, step], values[:, :, step])))
    return Sums(*(torch.stack(part, dim=2) for part in zip(*walked, strict=True)))


def _carried(sums: Sums, chunks: Sums, log_decay: Tensor) -> Sums:
    """The sums at the start of every chunk, [B, chunks, D], from those of the chunks on their own."""
    starts = [sums]
    for chunk in range(chunks.maximum.shape[1] - 1):
        starts.append(starts[-1].faded(CHUNK * log_decay).joined(Sums(*(x[:, chunk] for x in chunks))))
    return Sums(*(torch.stack(part, dim=1) for part in zip(*starts, strict=True)))


def _after(before: Tensor, start: Tensor, lengths: Sequence[int]) -> Tensor:
    """One of the sums after each lane's length, [B, D]: among a chunk's prefixes, or as it was at the start."""
    places = [divmod(length - 1, CHUNK) for length in lengths]
    return torch.stack(
        [before[lane, chunk, last + 1] if chunk >= 0 else start[lane] for lane, (chunk, last) in enumerate(places)]
    )


def _token(key: Tensor, value: Tensor) -> Sums:
    """The sums over one token."""
    return Sums(value, torch.ones_like(key), key)


def _check(key: Tensor, value: Tensor, sums: Sums, lengths: Sequence[int]) -> None:
    lanes, tokens, width = key.shape
    if value.shape != key.shape or any(x.shape != (lanes, width) for x in sums):
        raise ShapeError(
            f"sums {[tuple(x.shape) for x in sums]} and value {tuple(value.shape)} do not fit key {tuple(key.shape)}; "
            f"each sum must be {(lanes, width)}"
        )
    check_lengths(lanes, tokens, lengths)
