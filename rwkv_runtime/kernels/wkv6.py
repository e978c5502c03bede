"""The WKV recurrence of RWKV-5 and RWKV-6: a matrix memory per head that fades and takes in key times value.

RWKV-6 decays by an amount of its own in every token, RWKV-5 by the same in all. `wkv6_recurrent` walks token by token
and is the specification. `wkv6_chunked` gives the same from chunks of 16 tokens: all that does not depend on the memory
is computed for all lanes, heads and chunks at once, and only the memory itself is carried from chunk to chunk.

Knows nothing of layers or weights. The memory passed in is never written.

Shapes, for B lanes, T tokens and H heads of size N (keys K = N, values V = N):
    receptance, log_decay, key, value  [B, T, H, N]   float32
    bonus                              [H, N]         float32
    wkv                                [B, H, K, V]   float32
Units: `log_decay` is the natural log of what survives one token, at most 0 and without a lower bound; `bonus` scales
what a token reads of itself. Steps at and after a lane's length are no steps: whatever stands there is not looked at,
leaves the memory as it was, and what is read there means nothing.
Source: the `rwkv` package 0.8.32 (RWKV.att_one_v5_1, att_one_v6_0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rwkv_runtime.kernels.chunks import by_chunk, check_heads, whole_chunks

CHUNK = 16
"""Tokens per chunk. Work per token grows with it, and so does the number of chunks that follow one another."""
FORGOTTEN = -1e4
"""What stands for a log decay below it: exp of either is 0, and unlike minus infinity it can be multiplied by 0."""


def wkv6_step(
    receptance: Tensor, log_decay: Tensor, key: Tensor, value: Tensor, bonus: Tensor, wkv: Tensor
) -> tuple[Tensor, Tensor]:
    """Read the memory and the token itself, then let the token change the memory.

    Vectors are [B, H, N]; returns (read [B, H, V], new wkv).
    """
    written = key.unsqueeze(-1) * value.unsqueeze(-2)
    read = torch.einsum("bhk,bhkv->bhv", receptance, wkv + bonus.unsqueeze(-1) * written)
    return read, wkv * log_decay.exp().unsqueeze(-1) + written


def wkv6_recurrent(
    receptance: Tensor,
    log_decay: Tensor,
    key: Tensor,
    value: Tensor,
    bonus: Tensor,
    wkv: Tensor,
    lengths: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Walk token by token: the specification. Returns (read [B, T, H, V], the wkv after each lane's length).

    Raises ShapeError if the shapes or the lengths do not fit together.
    """
    check_heads(key, value, wkv, lengths)
    reads = torch.zeros_like(value)
    for t in range(key.shape[1]):
        read, changed = wkv6_step(receptance[:, t], log_decay[:, t], key[:, t], value[:, t], bonus, wkv)
        running = torch.tensor([t < length for length in lengths], device=key.device).view(-1, 1, 1)
        reads[:, t] = torch.where(running, read, 0.0)
        wkv = torch.where(running.unsqueeze(-1), changed, wkv)
    return reads, wkv


def wkv6_chunked(
    receptance: Tensor,
    log_decay: Tensor,
    key: Tensor,
    value: Tensor,
    bonus: Tensor,
    wkv: Tensor,
    lengths: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """The result of `wkv6_recurrent`, up to float32 rounding, from chunks.

    In a chunk, token i reads sum_j (sum_k r_ik k_jk d_ijk) v_j of the tokens j before it, where d_ijk is what the steps
    between the two leave of channel k. The usual split of d into exp(g_i) exp(-g_j), g being running sums of the log
    decay, overflows where decays are strong, and a difference g_i - g_j loses digits; so d is the exponential of one
    sum over just the steps between, which is never above 0. Raises ShapeError if shapes or lengths do not fit.
    """
    check_heads(key, value, wkv, lengths)
    lanes, tokens, heads, size = key.shape
    if not tokens:
        return torch.zeros_like(value), wkv
    inputs = [receptance, log_decay.clamp(min=FORGOTTEN), key, value]
    if min(lengths, default=0) < tokens or tokens % CHUNK:
        inputs = [whole_chunks(x, lengths, CHUNK) for x in inputs]
    receptance, log_decay, key, value = (by_chunk(x, CHUNK) for x in inputs)

    spans = torch.exp(_spans().to(log_decay) @ log_decay)
    between, before, after, through = torch.split(spans, [CHUNK * (CHUNK - 1) // 2, CHUNK, CHUNK, 1], dim=-2)
    later, earlier = torch.tril_indices(CHUNK, CHUNK, -1, device=key.device)
    scores = torch.zeros(*key.shape[:-1], CHUNK, dtype=key.dtype, device=key.device)
    pairs = torch.mul(between, receptance.index_select(-2, later)).mul_(key.index_select(-2, earlier))
    scores[..., later, earlier] = pairs.sum(-1)
    scores.diagonal(dim1=-2, dim2=-1).copy_((receptance * key).mul_(bonus.unsqueeze(-2)).sum(-1))

    memories, last = _carry((key * after).mT @ value, through.mT, wkv)
    reads = (scores @ value).add_((receptance * before) @ memories)
    return reads.permute(1, 0, 3, 2, 4).reshape(lanes, -1, heads, size)[:, :tokens], last


def _carry(written: Tensor, through: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Carry the memory through the chunks: the only part that is sequential.

    From what each chunk writes, [chunks, B, H, K, V], and what it leaves of the memory, [chunks, B, H, K, 1]; returns
    (the memory at the start of each chunk, the last memory).
    """
    memories = torch.empty_like(written)
    for chunk in range(len(written)):
        memories[chunk] = memory
        memory = torch.addcmul(written[chunk], through[chunk], memory)
    return memories, memory


def _spans() -> Tensor:
    """Which of a chunk's steps each decay spans, as rows of 0 and 1.

    Rows: the steps between every pair of a later and an earlier token; those before each token; those after each; all.
    """
    step = torch.arange(CHUNK)
    later, earlier = torch.tril_indices(CHUNK, CHUNK, -1)
    between = (earlier.unsqueeze(1) < step) & (step < later.unsqueeze(1))
    before, after = step < step.unsqueeze(1), step > step.unsqueeze(1)
    return torch.cat([between, before, after, torch.ones(1, CHUNK, dtype=torch.bool)]).float()
