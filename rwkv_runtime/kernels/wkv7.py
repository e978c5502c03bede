"""The WKV-7 recurrence: how a token changes the matrix memory of a head, and what is read from it.

`wkv7_recurrent` walks token by token and is the specification. `wkv7_chunked` gives the same result from
matrix products over chunks of 32 tokens: all that does not depend on the memory is computed for all lanes,
heads and chunks at once, and only the memory itself is carried from chunk to chunk.

Knows nothing of layers or weights. The memory passed in is never written.

Shapes, for B lanes, T tokens and H heads of size N (values V = N, keys K = N):
    receptance, log_decay, key, value, removal, rate  [B, T, H, N]   float32
    wkv                                               [B, H, V, K]   float32
Units: `log_decay` is the natural log of what survives one token, in (-0.6066, 0]; `removal` has length 1 along
K (or is 0); `rate` is in [0, 1]. Steps at and after a lane's length are no steps: whatever stands there is not
looked at, leaves the memory as it was, and what is read there means nothing.
Source: RWKV-LM/RWKV-v7/rwkv_v7_numpy.py (time mixing); the chunk form is the "UT transform" of DeltaNet
(Yang et al. 2024, arXiv 2406.06484) with a diagonal decay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rwkv_runtime.kernels.chunks import by_chunk, check_heads, whole_chunks

CHUNK = 32
"""Tokens per chunk. Exponents are centred in the chunk, so they stay within 0.6066 * 32 of zero."""


def wkv7_step(
    receptance: Tensor,
    log_decay: Tensor,
    key: Tensor,
    value: Tensor,
    removal: Tensor,
    rate: Tensor,
    wkv: Tensor,
) -> tuple[Tensor, Tensor]:
    """Let one token change the memory, then read it. Vectors are [B, H, N]; returns (read [B, H, V], new wkv)."""
    recalled = torch.einsum("bhvk,bhk->bhv", wkv, removal)
    wkv = (
        wkv * log_decay.exp().unsqueeze(-2)
        - recalled.unsqueeze(-1) * (removal * rate).unsqueeze(-2)
        + value.unsqueeze(-1) * key.unsqueeze(-2)
    )
    return torch.einsum("bhvk,bhk->bhv", wkv, receptance), wkv


def wkv7_recurrent(
    receptance: Tensor,
    log_decay: Tensor,
    key: Tensor,
    value: Tensor,
    removal: Tensor,
    rate: Tensor,
    wkv: Tensor,
    lengths: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Walk token by token: the specification. Returns (read [B, T, H, V], the wkv after each lane's length).

    Raises ShapeError if the shapes or the lengths do not fit together.
    """
    check_heads(key, value, wkv, lengths)
    reads = torch.zeros_like(value)
    for t in range(key.shape[1]):
        read, changed = wkv7_step(
            receptance[:, t], log_decay[:, t], key[:, t], value[:, t], removal[:, t], rate[:, t], wkv
        )
        running = torch.tensor([t < length for length in lengths], device=key.device).view(-1, 1, 1)
        reads[:, t] = torch.where(running, read, 0.0)
        wkv = torch.where(running.unsqueeze(-1), changed, wkv)
    return reads, wkv


def wkv7_chunked(
    receptance: Tensor,
    log_decay: Tensor,
    key: Tensor,
    value: Tensor,
    removal: Tensor,
    rate: Tensor,
    wkv: Tensor,
    lengths: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """The result of `wkv7_recurrent`, up to float32 rounding, from matrix products over chunks.

    With g the running sum of `log_decay` in a chunk and c its value at mid-chunk, every factor exp(g_i - g_j)
    is split into exp(g_i - c) * exp(c - g_j), and the memory S is carried as S * exp(c). In that frame, with
    d = removal, r = receptance, b = removal * rate, k = key, V = value and row j before row i:
        what the steps remove    U = (I + d b^T)^-1 (d k^T V + d S^T)     products masked to j < i
        what they read           r k^T V - r b^T U + r S^T                products masked to j <= i
        the memory after         S + V^T k - U^T b
    Raises ShapeError if the shapes or the lengths do not fit together.
    """
    check_heads(key, value, wkv, lengths)
    lanes, tokens, heads, size = key.shape
    if not tokens:
        return torch.zeros_like(value), wkv
    inputs = [receptance, log_decay, key, value, removal, rate]
    if min(lengths, default=0) < tokens or tokens % CHUNK:
        inputs = [whole_chunks(x, lengths, CHUNK) for x in inputs]
    receptance, log_decay, key, value, removal, rate = (by_chunk(x, CHUNK) for x in inputs)

    before, after, frame = _decay_factors(log_decay)
    since = after.reciprocal()
    rows = _beside((removal, before), (receptance, after))
    columns = _beside((key, since), (removal * rate, since))
    products = (rows @ columns.mT).mul_(_causal(CHUNK).to(rows))
    removers, readers = rows[..., :CHUNK, :], rows[..., CHUNK:, :]

    values = value.contiguous().flatten(1, 2)
    minus_inverse = _minus_inverse(products[..., :CHUNK, CHUNK:])
    local = minus_inverse @ torch.cat([products[..., :CHUNK, :CHUNK] @ values, removers], dim=-1)
    moved, memories, last = _carry(values, local, columns, wkv.flatten(0, 1), frame)

    reads = products[..., CHUNK:, :] @ moved + readers @ memories.mT
    reads = reads.view(-1, lanes, heads, CHUNK, size).permute(1, 0, 3, 2, 4).reshape(lanes, -1, heads, size)
    return reads[:, :tokens], last.view_as(wkv)


def _beside(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """The two products, one under the other in every chunk: [chunks, B * H, 2 * CHUNK, N].

    They are written into their places: joining strided products afterwards takes three times as long.
    """
    chunks, lanes, heads, size, width = first[0].shape
    both = torch.empty(chunks, lanes, heads, 2 * size, width, dtype=first[0].dtype, device=first[0].device)
    torch.mul(*first, out=both[..., :size, :])
    torch.mul(*second, out=both[..., size:, :])
    return both.flatten(1, 2)


def _decay_factors(log_decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decay from mid-chunk to just before and just after each step, [chunks, B, H, CHUNK, K], and between frames.

    The third is [chunks + 1, B * H, 1, K]: the factor from the memory as given into the first chunk's frame, then
    from each chunk's frame into the next one's, the last into no frame at all.
    """
    sums = torch.cumsum(log_decay, dim=-2)
    centre = sums[..., CHUNK // 2 - 1 : CHUNK // 2, :]
    steps = torch.empty(*sums.shape[:3], CHUNK + 1, sums.shape[-1], dtype=sums.dtype, device=sums.device)
    torch.neg(centre, out=steps[..., :1, :])
    torch.sub(sums, centre, out=steps[..., 1:, :])
    steps.exp_()
    left = torch.cat([torch.zeros_like(centre[:1]), sums[..., -1:, :] - centre])
    entered = torch.cat([centre, torch.zeros_like(centre[:1])])
    return steps[..., :-1, :], steps[..., 1:, :], torch.exp(left + entered).flatten(1, 2)


def _carry(
    values: Tensor, local: Tensor, columns: Tensor, memory: Tensor, frame: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry the memory through the chunks: the only part that is sequential.

    Returns what the steps add and remove ([chunks, B * H, 2 * CHUNK, V]), the memory at the start of each chunk in
    its frame, and the last memory. `local` holds, for minus U, the part without the memory and its factor.
    """
    size = values.shape[-1]
    moved, memories = torch.cat([values, local[..., :size]], dim=-2), []
    memory = memory * frame[0]
    for chunk in range(len(values)):
        memories.append(memory)
        moved[chunk, :, CHUNK:].baddbmm_(local[chunk, ..., size:], memory.mT)
        memory = torch.baddbmm(memory, moved[chunk].mT, columns[chunk]) * frame[chunk + 1]
    return moved, torch.stack(memories), memory


def _minus_inverse(below: Tensor) -> Tensor:
    """-(I + below)^-1 for strictly lower triangular matrices, by substitution: stable for any of them."""
    minus_identity = -torch.eye(CHUNK, device=below.device).expand_as(below)
    inverse: Tensor = torch.linalg.solve_triangular(below, minus_identity, upper=False, unitriangular=True)
    return inverse


def _causal(size: int) -> Tensor:
    """Mask for [removers; readers] @ [keys; rates]^T: removers see earlier steps, readers their own as well."""
    seen = torch.ones(size, size).tril()
    return torch.cat([seen.tril(-1), seen]).repeat(1, 2)
