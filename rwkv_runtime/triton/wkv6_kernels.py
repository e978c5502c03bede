"""Triton kernels for the time mix of RWKV-5 and 6: one for the chunks of a text, and one for a few tokens at a time.

`prepare` does all of a chunk that does not depend on the memory; chunk_kernels.carry and finish do the rest. `walk`
does the whole time mix token by token. The steps and parameters are those of operations.Steps6 and Parameters6. What
steps leave of a channel is only ever multiplied together, never divided: decays have no lower bound.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_runtime.triton.chunk_kernels import head_normed


@triton.jit
def _left(decay, decay_bias, at, channel):
    """What one step leaves of each channel."""
    exponent = tl.load(decay_bias + channel)
    if decay is not None:
        exponent += tl.load(decay + at).to(tl.float32)
    return tl.exp(-tl.exp(exponent))


@triton.jit
def prepare(
    receptance, key, value, decay, decay_bias, bonus, lengths,
    reads, readers, keys, values, through,
    heads, tokens,
    C: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Program (chunk, lane and head): walk over a chunk's tokens, each with all those before it."""
    chunk, place = tl.program_id(0), tl.program_id(1).to(tl.int64)
    lane, head = place // heads, place % heads
    index, dim = tl.arange(0, C), tl.arange(0, N)
    channel, first = head * N + dim, lane * tokens + chunk * C
    count = tl.minimum(C, tl.maximum(0, tl.load(lengths + lane).to(tl.int32) - chunk * C))
    counts = (index < count)[:, None] & (dim >= 0)[None, :]
    rows = (first + index)[:, None] * (heads * N) + channel[None, :]
    k = tl.load(key + rows, mask=counts, other=0.0).to(tl.float32)
    v = tl.load(value + rows, mask=counts, other=0.0).to(tl.float32)
    own = tl.load(bonus + channel)

    between, before = tl.full([C, N], 1.0, tl.float32), tl.full([N], 1.0, tl.float32)
    scores, reading = tl.zeros([C, C], tl.float32), tl.zeros([C, N], tl.float32)
    for step in range(count):
        at = (first + step) * (heads * N) + channel
        r = tl.load(receptance + at).to(tl.float32)
        here = (index == step)[:, None]
        weights = tl.where(here, own[None, :], tl.where((index < step)[:, None], between, 0.0))
        scores = tl.where(here, tl.sum(k * weights * r[None, :], 1)[None, :], scores)
        reading = tl.where(here, (r * before)[None, :], reading)
        left = _left(decay, decay_bias, at, channel)
        between = tl.where((index < step)[:, None], between * left[None, :], between)
        before *= left

    chunks = tl.num_programs(0)
    to = ((place * chunks + chunk) * C + index)[:, None] * N + dim[None, :]
    tl.store(reads + to, tl.dot(scores, v, input_precision=PRECISION))
    tl.store(readers + to, reading)
    tl.store(keys + to, k * between)
    tl.store(values + to, v)
    tl.store(through + (place * chunks + chunk) * N + dim, before)


@triton.jit
def walk(
    receptance, key, value, decay, decay_bias, bonus, lengths,
    gate, norm_weight, norm_bias, mixed, memory, after,
    heads, tokens, norm_epsilon,
    N: tl.constexpr,
):  # fmt: skip
    """Program (lane and head): token by token. The memory may be written in its place."""
    place = tl.program_id(0).to(tl.int64)
    lane, head = place // heads, place % heads
    dim = tl.arange(0, N)
    channel, cell = head * N + dim, place * N * N + dim[:, None] * N + dim[None, :]
    state = tl.load(memory + cell)
    own = tl.load(bonus + channel)[None, :]
    length = tl.load(lengths + lane).to(tl.int32)
    for step in range(length):
        at = (lane * tokens + step) * (heads * N) + channel[None, :]
        r, k = tl.load(receptance + at).to(tl.float32), tl.load(key + at).to(tl.float32)
        v = tl.load(value + at).to(tl.float32)
        read = tl.sum(state * tl.trans(r), 0)[None, :] + tl.sum(r * own * k, 1)[:, None] * v
        state = state * tl.trans(_left(decay, decay_bias, at, channel[None, :])) + tl.trans(k) * v
        y = head_normed(read, norm_weight, norm_bias, channel, norm_epsilon, N)
        if gate is not None:
            opened = tl.load(gate + at).to(tl.float32)
            y *= opened * tl.sigmoid(opened)
        tl.store(mixed + at, y)
    for step in range(length, tokens):
        tl.store(mixed + (lane * tokens + step) * (heads * N) + channel, tl.zeros([N], tl.float32))
    tl.store(after + cell, state)
