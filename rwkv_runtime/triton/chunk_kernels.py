"""Triton kernels that RWKV-5, 6 and 7 share: carrying a memory through chunks, and what comes after it is read.

A chunk's own kernel (see wkv6_kernels.py and wkv7_kernels.py) has already done all that does not depend on the memory.
What remains, for the memory Z [K, V] at the start of a chunk of C tokens:
    what the steps remove    u = removed + removers Z            RWKV-7 only
    what they read           y = reads + readers Z
    the memory after         through * Z + keys^T values + rates^T u
Everything is float32, [B * H, chunks * C, N]; `through` is [B * H, chunks, N]. No factor is ever above 1.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def carry(
    reads, readers, keys, values, removed, removers, rates, through, lengths, memory, after,
    heads, chunks, key_stride, value_stride,
    C: tl.constexpr, N: tl.constexpr, V: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Program (lane and head, V columns): walk through the chunks of a lane that it has tokens in."""
    head, begin = tl.program_id(0).to(tl.int64), tl.program_id(1) * V
    channel, column, step = tl.arange(0, N), begin + tl.arange(0, V), tl.arange(0, C)
    place = head * N * N + channel[:, None] * key_stride + column[None, :] * value_stride
    state = tl.load(memory + place)
    count = tl.load(lengths + head // heads).to(tl.int32)
    for chunk in range((count + C - 1) // C):
        row = (head * chunks + chunk) * C + step
        whole, part = row[:, None] * N + channel[None, :], row[:, None] * N + column[None, :]
        read = tl.load(reads + part) + tl.dot(tl.load(readers + whole), state, input_precision=PRECISION)
        tl.store(reads + part, read)
        left = tl.load(through + (head * chunks + chunk) * N + channel)[:, None] * state
        left += tl.dot(tl.trans(tl.load(keys + whole)), tl.load(values + part), input_precision=PRECISION)
        if removed is not None:
            moved = tl.load(removed + part) + tl.dot(tl.load(removers + whole), state, input_precision=PRECISION)
            left += tl.dot(tl.trans(tl.load(rates + whole)), moved, input_precision=PRECISION)
        state = left
    tl.store(after + place, state)


@triton.jit
def head_normed(y, weight, bias, channel, epsilon, N: tl.constexpr):
    """Normalise the heads in the rows of y [rows, N], with the weight and the bias of each channel."""
    away = y - (tl.sum(y, 1) / N)[:, None]
    scale = 1.0 / tl.sqrt(tl.sum(away * away, 1) / N + epsilon)
    return away * scale[:, None] * tl.load(weight + channel)[None, :] + tl.load(bias + channel)[None, :]


@triton.jit
def finish(
    reads, values, strength, gate, norm_weight, norm_bias, lengths, mixed,
    heads, tokens, padded, epsilon,
    N: tl.constexpr, ROWS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Program (lane and head, ROWS rows): normalise what was read, add the bonus and apply the gate."""
    place = tl.program_id(0).to(tl.int64)
    lane, head = place // heads, place % heads
    step = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, N)
    inside = (step < tokens)[:, None] & (channel >= 0)[None, :]
    counts = (step < tl.load(lengths + lane))[:, None] & inside
    kept = (place * padded + step)[:, None] * N + channel[None, :]
    row = (lane * tokens + step)[:, None] * (heads * N) + head * N + channel[None, :]
    y = head_normed(
        tl.load(reads + kept, mask=counts, other=0.0), norm_weight, norm_bias, head * N + channel, epsilon, N
    )
    if strength is not None:
        own = tl.load(strength + place * padded + step, mask=step < tokens, other=0.0)
        y += own[:, None] * tl.load(values + kept, mask=counts, other=0.0)
    if gate is not None:
        opened = tl.load(gate + row, mask=counts, other=0.0).to(tl.float32)
        if SILU:
            opened *= tl.sigmoid(opened)
        y *= opened
    tl.store(mixed + row, tl.where(counts, y, 0.0), mask=inside)
