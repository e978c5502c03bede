"""Triton kernels for the time mix of RWKV-7: one for the chunks of a text, and one for a few tokens at a time.

`prepare` does all of a chunk that does not depend on the memory, for every chunk at once; chunk_kernels.carry and
finish do the rest. `walk` does the whole time mix token by token. The steps and parameters are those of
operations.Steps7 and Parameters7. The chunk form is that of kernels/wkv7.py, its products in the frame of the chunk's
start, where no factor exceeds 1.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_runtime.triton.chunk_kernels import head_normed


@triton.jit
def _steps(
    receptance, key, value, decay, rate, blend, first_value,
    decay_bias, rate_bias, blend_bias, removal_scale, key_rate,
    at, channel, counts, decay_scale, normalize_epsilon,
):  # fmt: skip
    """What the recurrence takes of rows `at` [rows, N]; where they do not count, what leaves a memory as it is."""
    r = tl.load(receptance + at, mask=counts, other=0.0).to(tl.float32)
    slow = tl.load(decay + at, mask=counts, other=0.0).to(tl.float32) + tl.load(decay_bias + channel)[None, :]
    log_decay = tl.where(counts, decay_scale * tl.sigmoid(slow), 0.0)
    a = tl.sigmoid(tl.load(rate + at, mask=counts, other=0.0).to(tl.float32) + tl.load(rate_bias + channel)[None, :])
    v = tl.load(value + at, mask=counts, other=0.0).to(tl.float32)
    if first_value is not None:
        share = tl.load(blend + at, mask=counts, other=0.0).to(tl.float32) + tl.load(blend_bias + channel)[None, :]
        v += (tl.load(first_value + at, mask=counts, other=0.0).to(tl.float32) - v) * tl.sigmoid(share)
    raw = tl.load(key + at, mask=counts, other=0.0).to(tl.float32)
    d = raw * tl.load(removal_scale + channel)[None, :]
    d = d / tl.maximum(tl.sqrt(tl.sum(d * d, 1)), normalize_epsilon)[:, None]
    toward = tl.load(key_rate + channel)[None, :]
    return r, log_decay, raw * (1.0 - toward + a * toward), v, d, d * a


@triton.jit
def _inverse(below, C: tl.constexpr):
    """(I + below)^-1 of a strictly lower triangular matrix, by substitution: stable for any of them."""
    row, column = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    inverse = tl.where(row == column, 1.0, 0.0)
    for step in range(1, C):
        factors = tl.sum(tl.where(row == step, below, 0.0), 0)
        inverse = tl.where(row == step, inverse - tl.sum(factors[:, None] * inverse, 0)[None, :], inverse)
    return inverse


@triton.jit
def prepare(
    receptance, key, value, decay, rate, blend, first_value,
    decay_bias, rate_bias, blend_bias, removal_scale, key_rate, bonus, lengths,
    reads, readers, keys, values, removed, removers, rates, through, strength,
    heads, tokens, decay_scale, normalize_epsilon,
    C: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Program (chunk, lane and head)."""
    chunk, place = tl.program_id(0), tl.program_id(1).to(tl.int64)
    lane, head = place // heads, place % heads
    index, dim = tl.arange(0, C), tl.arange(0, N)
    step, channel = chunk * C + index, head * N + dim
    counts = (step < tl.load(lengths + lane))[:, None] & (dim >= 0)[None, :]
    at = (lane * tokens + step)[:, None] * (heads * N) + channel[None, :]
    r, log_decay, k, v, d, b = _steps(
        receptance, key, value, decay, rate, blend, first_value,
        decay_bias, rate_bias, blend_bias, removal_scale, key_rate,
        at, channel, counts, decay_scale, normalize_epsilon,
    )  # fmt: skip

    sums, total = tl.cumsum(log_decay, 0), tl.sum(log_decay, 0)
    centre = tl.sum(tl.where((index == C // 2 - 1)[:, None], sums, 0.0), 0)[None, :]
    since = tl.exp(centre - sums)
    removing, reading = d * tl.exp(sums - log_decay - centre), r * tl.exp(sums - centre)
    k_since, b_since = tl.trans(k * since), tl.trans(b * since)
    earlier, seen = index[:, None] > index[None, :], index[:, None] >= index[None, :]
    removes_k = tl.where(earlier, tl.dot(removing, k_since, input_precision=PRECISION), 0.0)
    removes_b = tl.where(earlier, tl.dot(removing, b_since, input_precision=PRECISION), 0.0)
    reads_k = tl.where(seen, tl.dot(reading, k_since, input_precision=PRECISION), 0.0)
    reads_b = tl.where(seen, tl.dot(reading, b_since, input_precision=PRECISION), 0.0)

    minus_inverse = -_inverse(removes_b, C)
    recalled = tl.dot(removes_k, v, input_precision=PRECISION)
    own_removed = tl.dot(minus_inverse, recalled, input_precision=PRECISION)
    own_removers = tl.dot(minus_inverse, d * tl.exp(sums - log_decay), input_precision=PRECISION)
    left = tl.exp(total[None, :] - sums)
    chunks = tl.num_programs(0)
    row = (place * chunks + chunk) * C + index
    to = row[:, None] * N + dim[None, :]
    tl.store(removed + to, own_removed)
    tl.store(removers + to, own_removers)
    own_reads = tl.dot(reads_k, v, input_precision=PRECISION)
    tl.store(reads + to, own_reads + tl.dot(reads_b, own_removed, input_precision=PRECISION))
    tl.store(readers + to, r * tl.exp(sums) + tl.dot(reads_b, own_removers, input_precision=PRECISION))
    tl.store(keys + to, k * left)
    tl.store(rates + to, b * left)
    tl.store(values + to, v)
    tl.store(through + (place * chunks + chunk) * N + dim, tl.exp(total))
    tl.store(strength + row, tl.sum(r * k * tl.load(bonus + channel)[None, :], 1))


@triton.jit
def walk(
    receptance, key, value, decay, rate, blend, first_value,
    decay_bias, rate_bias, blend_bias, removal_scale, key_rate, bonus, lengths,
    gate, norm_weight, norm_bias, mixed, memory, after,
    heads, tokens, decay_scale, normalize_epsilon, norm_epsilon,
    N: tl.constexpr,
):  # fmt: skip
    """Program (lane and head): token by token. The memory may be written in its place."""
    place = tl.program_id(0).to(tl.int64)
    lane, head = place // heads, place % heads
    dim = tl.arange(0, N)
    channel, cell = head * N + dim, place * N * N + dim[None, :] * N + dim[:, None]  # the state is [K, V]
    state = tl.load(memory + cell)
    length = tl.load(lengths + lane).to(tl.int32)
    for step in range(length):
        at = (lane * tokens + step) * (heads * N) + channel[None, :]
        r, log_decay, k, v, d, b = _steps(
            receptance, key, value, decay, rate, blend, first_value,
            decay_bias, rate_bias, blend_bias, removal_scale, key_rate,
            at, channel, (dim >= 0)[None, :], decay_scale, normalize_epsilon,
        )  # fmt: skip
        recalled = tl.sum(state * tl.trans(d), 0)[None, :]
        state = state * tl.trans(tl.exp(log_decay)) - tl.trans(b) * recalled + tl.trans(k) * v
        y = head_normed(tl.sum(state * tl.trans(r), 0)[None, :], norm_weight, norm_bias, channel, norm_epsilon, N)
        y += tl.sum(r * k * tl.load(bonus + channel)[None, :], 1)[:, None] * v
        tl.store(mixed + at, y * tl.load(gate + at).to(tl.float32))
    for step in range(length, tokens):
        tl.store(mixed + (lane * tokens + step) * (heads * N) + channel, tl.zeros([N], tl.float32))
    tl.store(after + cell, state)
