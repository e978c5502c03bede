"""The static path: one vector per token whose mean over a text already comes near the teacher's vector of the text.

It starts from the teacher's own vectors of the tokens, weighted down where a token is frequent, and takes most of the
quality in about a minute. Knows nothing of the recurrent network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from examples.train_default_model.losses import vector_loss
from examples.train_default_model.pool import Pool
from examples.train_default_model.shards import Floats

FREQUENCY_SCALE = 1e-3
LEARNING_RATE = 3e-3
VECTOR_LENGTH = 8.0
"""Mean length of the vectors that the table gives: Adam's steps are then small beside its entries."""


def initial_table(pieces: Floats, frequencies: NDArray[np.float64]) -> Floats:
    """Token vectors [V, E] without their mean, times s / (s + frequency), which is what SIF weighs words with."""
    weights = FREQUENCY_SCALE / (FREQUENCY_SCALE + frequencies)
    table: Floats = ((pieces - pieces.mean(0)) * weights[:, None]).astype(np.float32)
    return table


def token_frequencies(pool: Pool, vocabulary: int) -> NDArray[np.float64]:
    """The share of each token among the single sentences of the pool."""
    counts = np.zeros(vocabulary)
    for tokens, _ in pool.alone:
        np.add.at(counts, tokens, 1)
    shares: NDArray[np.float64] = counts / max(1.0, counts.sum())
    return shares


@dataclass(frozen=True)
class Bags:
    """Texts as rows of a table: those of their tokens and, behind these, of whatever else has a row.

    The vector of a text is the sum of its `rows`, divided by its number of tokens, `lengths` [n]. `targets` [m, E] are
    the teacher's, `wanted` [n] the one of each text.
    """

    rows: Sequence[NDArray[np.integer]]
    lengths: NDArray[np.int64]
    targets: NDArray[np.float16]
    wanted: NDArray[np.int64]


def bags_of(pool: Pool) -> Bags:
    """The single sentences of a pool, as rows of their tokens."""
    rows = [tokens for tokens, _ in pool.alone]
    lengths = np.array([len(tokens) for tokens in rows], np.int64)
    return Bags(rows, lengths, pool.targets, np.array([row for _, row in pool.alone], np.int64))


def bag(table: Tensor, bags: Bags, chosen: Sequence[int]) -> Tensor:
    """What the table makes of the chosen texts, [n, E]."""
    texts = [bags.rows[one] for one in chosen]
    starts = np.cumsum([0, *(len(text) for text in texts[:-1])])
    flat = torch.from_numpy(np.concatenate(texts).astype(np.int64))
    summed = F.embedding_bag(flat, table, torch.from_numpy(starts), mode="sum")
    return summed / torch.from_numpy(bags.lengths[list(chosen)])[:, None]


def train_table(
    table: Floats, bags: Bags, steps: int, batch: int = 1024, seed: int = 0, learning_rate: float = LEARNING_RATE
) -> Floats:
    """Fit the table to texts for a number of batches; its vectors get a mean length of 8."""
    weight = torch.from_numpy(table.copy()).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=learning_rate, fused=True)
    chooser = np.random.default_rng(seed)
    for step in range(steps):
        chosen = chooser.integers(len(bags.rows), size=batch)
        optimizer.param_groups[0]["lr"] = learning_rate * max(0.03, 1 - step / steps)
        targets = torch.from_numpy(bags.targets[bags.wanted[chosen]]).float()
        loss = vector_loss(bag(weight, bags, chosen), targets).total()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        weight *= VECTOR_LENGTH / bag(weight, bags, range(min(batch, len(bags.rows)))).norm(dim=-1).mean()
    trained: Floats = weight.detach().numpy()
    return trained
