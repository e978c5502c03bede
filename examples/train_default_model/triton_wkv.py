"""The WKV-7 recurrence for GPUs, in Triton: a program for each row and head, the matrix memory in registers.

Forward keeps the memory before every 16th token; backward recomputes a chunk from there and walks back. The formulas
are those of wkv.cpp. On a machine without a GPU it runs in Triton's interpreter (TRITON_INTERPRET=1), for tests.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 16


@triton.jit
def _advance(state, decay, key, value, removal, insertion):  # type: ignore[no-untyped-def]
    """The memory [N, N] after a token, and what `removal` recalled from the one before."""
    recalled = tl.sum(state * removal[None, :], axis=1)
    after = state * decay[None, :] + recalled[:, None] * insertion[None, :] + value[:, None] * key[None, :]
    return after, recalled


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    receptance, decay, key, value, removal, insertion, first, reads, saved, last, tokens, heads,
    SIZE: tl.constexpr, CHUNK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    one = tl.program_id(0)
    line = tl.arange(0, SIZE)
    square = line[:, None] * SIZE + line[None, :]
    state = tl.load(first + one * SIZE * SIZE + square)
    place = ((one // heads) * tokens * heads + one % heads) * SIZE + line
    chunks = tokens // CHUNK
    for token in range(tokens):
        if token % CHUNK == 0:
            tl.store(saved + (one * chunks + token // CHUNK) * SIZE * SIZE + square, state)
        state, _ = _advance(
            state, tl.load(decay + place), tl.load(key + place), tl.load(value + place), tl.load(removal + place),
            tl.load(insertion + place),
        )  # fmt: skip
        tl.store(reads + place, tl.sum(state * tl.load(receptance + place)[None, :], axis=1))
        place += heads * SIZE
    tl.store(last + one * SIZE * SIZE + square, state)


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    receptance, decay, key, value, removal, insertion, saved, d_reads, d_last,
    d_receptance, d_decay, d_key, d_value, d_removal, d_insertion, d_first, scratch, tokens, heads,
    SIZE: tl.constexpr, CHUNK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    one = tl.program_id(0)
    line = tl.arange(0, SIZE)
    square = line[:, None] * SIZE + line[None, :]
    start = ((one // heads) * tokens * heads + one % heads) * SIZE + line
    chunks = tokens // CHUNK
    gradient = tl.load(d_last + one * SIZE * SIZE + square)
    for back in range(chunks):
        chunk = chunks - 1 - back
        state = tl.load(saved + (one * chunks + chunk) * SIZE * SIZE + square)
        for step in range(CHUNK):
            place = start + (chunk * CHUNK + step) * heads * SIZE
            tl.store(scratch + (one * CHUNK + step) * SIZE * SIZE + square, state)
            state, _ = _advance(
                state, tl.load(decay + place), tl.load(key + place), tl.load(value + place), tl.load(removal + place),
                tl.load(insertion + place),
            )  # fmt: skip
        tl.debug_barrier()
        for ahead in range(CHUNK):
            step = CHUNK - 1 - ahead
            place = start + (chunk * CHUNK + step) * heads * SIZE
            before = tl.load(scratch + (one * CHUNK + step) * SIZE * SIZE + square)
            w, k, v = tl.load(decay + place), tl.load(key + place), tl.load(value + place)
            a, b, dy = tl.load(removal + place), tl.load(insertion + place), tl.load(d_reads + place)
            after, recalled = _advance(before, w, k, v, a, b)
            gradient += dy[:, None] * tl.load(receptance + place)[None, :]
            d_recalled = tl.sum(gradient * b[None, :], axis=1)
            tl.store(d_receptance + place, tl.sum(after * dy[:, None], axis=0))
            tl.store(d_decay + place, tl.sum(gradient * before, axis=0))
            tl.store(d_key + place, tl.sum(gradient * v[:, None], axis=0))
            tl.store(d_value + place, tl.sum(gradient * k[None, :], axis=1))
            tl.store(d_removal + place, tl.sum(before * d_recalled[:, None], axis=0))
            tl.store(d_insertion + place, tl.sum(gradient * recalled[:, None], axis=0))
            gradient = gradient * w[None, :] + d_recalled[:, None] * a[None, :]
        tl.debug_barrier()
    tl.store(d_first + one * SIZE * SIZE + square, gradient)


class _Triton(torch.autograd.Function):
    """Forward and backward; the number of tokens is a multiple of CHUNK."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        *vectors, state = (tensor.contiguous() for tensor in inputs)
        rows, tokens, heads, size = vectors[0].shape
        reads, last = torch.empty_like(vectors[0]), torch.empty_like(state)
        saved = state.new_empty(rows, heads, tokens // CHUNK, size, size)
        _forward[(rows * heads,)](*vectors, state, reads, saved, last, tokens, heads, SIZE=size, CHUNK=CHUNK)
        ctx.save_for_backward(*vectors, saved)
        return reads, last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        *vectors, saved = ctx.saved_tensors
        rows, tokens, heads, size = vectors[0].shape
        found = [torch.empty_like(vectors[0]) for _ in vectors]
        first = torch.empty_like(grads[1], memory_format=torch.contiguous_format)
        scratch = saved.new_empty(rows * heads, CHUNK, size, size)
        given = [grad.contiguous() for grad in grads]
        arrays = [*vectors, saved, *given, *found, first, scratch]
        _backward[(rows * heads,)](*arrays, tokens, heads, SIZE=size, CHUNK=CHUNK)
        return *found, first


def triton_kernel(
    receptance: Tensor, decay: Tensor, key: Tensor, value: Tensor, removal: Tensor, insertion: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence of wkv.py, float32, heads of a power of two. Returns (reads [B, T, H, N], the last state)."""
    tokens = key.shape[1]
    vectors = [receptance, decay, key, value, removal, insertion]
    if padding := -tokens % CHUNK:
        vectors = [F.pad(vector, (0, 0, 0, 0, 0, padding), value=1.0 if vector is decay else 0.0) for vector in vectors]
    reads, last = _Triton.apply(*vectors, state)  # type: ignore[no-untyped-call]
    return reads[:, :tokens], last
