"""Triton kernels for what goes row by row: adding, normalising and mixing with the row before, and the squared ReLU.

Rows are [B, T, D], contiguous, of any float type; arithmetic is float32. Knows pointers and nothing of layers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normed(stream, added, summed, weight, bias, row, channel, inside, width, epsilon, WRITES: tl.constexpr):
    """The norm of one row of stream + added; where `WRITES`, the sum is kept."""
    x = tl.load(stream + row * width + channel, mask=inside, other=0.0).to(tl.float32)
    if added is not None:
        x += tl.load(added + row * width + channel, mask=inside, other=0.0).to(tl.float32)
        if WRITES:
            tl.store(summed + row * width + channel, x, mask=inside)
    mean = tl.sum(x, 0) / width
    away = tl.where(inside, x - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(away * away, 0) / width + epsilon)
    return away * scale * tl.load(weight + channel, mask=inside, other=0.0) + tl.load(
        bias + channel, mask=inside, other=0.0
    )


@triton.jit
def enter(
    stream, added, summed, weight, bias, previous, mix, mixed, last, lengths,
    lanes, tokens, width, epsilon,
    MIXES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (lane, block): ROWS rows one after another, so that each norm is computed once, and one twice a block."""
    lane, begin = tl.program_id(0).to(tl.int64), tl.program_id(1) * ROWS
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    length = tl.load(lengths + lane)
    stood = tl.load(previous + lane * width + channel, mask=inside, other=0.0).to(tl.float32)
    if begin == 0:
        if length == 0:
            tl.store(last + lane * width + channel, stood, mask=inside)
    else:
        row = lane * tokens + begin - 1
        stood = _normed(stream, added, summed, weight, bias, row, channel, inside, width, epsilon, False)
    for step in range(begin, tl.minimum(begin + ROWS, tokens)):
        row = lane * tokens + step
        normed = _normed(stream, added, summed, weight, bias, row, channel, inside, width, epsilon, True)
        for place in tl.static_range(MIXES):
            amount = tl.load(mix + place * width + channel, mask=inside, other=0.0)
            at = (place * lanes * tokens + row) * width + channel
            tl.store(mixed + at, normed + (stood - normed) * amount, mask=inside)
        if step == length - 1:
            tl.store(last + lane * width + channel, normed, mask=inside)
        stood = normed


@triton.jit
def mix_rows(
    x, previous, amounts, mixed, lanes, tokens, width,
    MIXES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (row, block of channels): mix a row with the one before it, by amounts of its own."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < width
    now = tl.load(x + row * width + channel, mask=inside, other=0.0).to(tl.float32)
    if row % tokens == 0:
        stood = tl.load(previous + row // tokens * width + channel, mask=inside, other=0.0).to(tl.float32)
    else:
        stood = tl.load(x + (row - 1) * width + channel, mask=inside, other=0.0).to(tl.float32)
    for place in tl.static_range(MIXES):
        at = (place * lanes * tokens + row) * width + channel
        amount = tl.load(amounts + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(mixed + at, now + (stood - now) * amount, mask=inside)


@triton.jit
def squared_relu(x, count, BLOCK: tl.constexpr):
    """Program (block): x becomes max(x, 0) squared, in its place."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.maximum(tl.load(x + at, mask=at < count, other=0.0).to(tl.float32), 0.0)
    tl.store(x + at, value * value, mask=at < count)
