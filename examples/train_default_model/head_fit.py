"""A head of sentence vectors fitted to what a network that stays as it is says of the tokens.

Steps take random spans of readings, so they cost milliseconds a span. Knows nothing of networks or texts.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from examples.train_default_model.fitting import Fit, files_of
from examples.train_default_model.heads import SentenceHead
from examples.train_default_model.hidden import Readings
from examples.train_default_model.losses import vector_loss
from examples.train_default_model.profiles import HeadProfile
from rwkv_runtime.words import NONE

NAME = "head"
CHECKPOINT, LOG = files_of(NAME)


def vectors_of(head: SentenceHead, hidden: Tensor, tokens: Tensor, words: Tensor, lengths: NDArray[np.int64]) -> Tensor:
    """Vectors [n, E], not yet of unit length, of n spans that stand one behind the other.

    `hidden` [T, D] is behind the head's norm, `tokens` [T] are rows of its table, `words` [T] others that count at the
    same places, or -1; `lengths` [n] sum up to T.
    """
    offsets = torch.from_numpy(np.cumsum([0, *lengths[:-1]]))
    gate = torch.sigmoid(hidden @ head.gate.weight[0] + head.gate.bias)

    def summed(places: Tensor, rows: Tensor) -> Tensor:
        return F.embedding_bag(places, rows, offsets, mode="sum", per_sample_weights=gate)

    every = torch.arange(len(tokens))
    total = summed(every, torch.ones_like(gate)[:, None])
    means = summed(every, hidden) / total
    last = hidden[torch.from_numpy(np.cumsum(lengths) - 1)]
    ends = torch.nonzero(words != NONE)[:, 0]
    spans = torch.repeat_interleave(torch.from_numpy(lengths))[ends]
    of_words = gate[ends, None] * head.static(words[ends])
    static = summed(tokens, head.static.weight).index_add(0, spans, of_words) / total
    return head.vectors(means, static, last)


class HeadFit(Fit):
    """The fit of a head to the vectors of a teacher."""

    def __init__(self, head: SentenceHead, readings: Readings, targets: NDArray[np.float16], profile: HeadProfile):
        """`targets` [m, E] of unit length are the teacher's. Nothing is fitted yet.

        The head's norm and gate stay as they are: a gate that is fitted too grows and gains next to nothing.
        """
        self.head, self.profile = head, profile
        self._readings, self._targets = readings, torch.from_numpy(targets)
        head.ln.requires_grad_(requires_grad=False)
        head.gate.requires_grad_(requires_grad=False)
        maps = [head.w_mean.weight, head.w_last.weight]
        bent = [] if head.mlp is None else [*head.mlp.parameters()]
        groups = [
            {"params": [head.static.weight], "peak": profile.table_rate},
            {"params": maps, "peak": profile.map_rate},
            {"params": bent, "peak": profile.mlp_rate},
        ]
        super().__init__(NAME, head, torch.optim.Adam(groups, lr=profile.table_rate, fused=True), profile)

    def take_step(self) -> dict[str, float]:
        """Move the head once, towards the teacher's vectors of random spans. Returns what was minimised."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * self.share
        spans = np.random.default_rng(self.step).integers(len(self._readings.spans), size=self.profile.batch)
        targets = self._targets[torch.from_numpy(self._readings.targets[spans])].float()
        loss = vector_loss(self.vectors(spans), targets)
        self._optimizer.zero_grad()
        loss.total(self.profile.neighbour_weight).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.step += 1
        return {"cosine": 1 - float(loss.cosine.detach()), "neighbours": float(loss.neighbours.detach())}

    def vectors(self, spans: NDArray[np.int64]) -> Tensor:
        """Vectors of spans, given by their places in the readings."""
        begins, ends = self._readings.spans[spans].T
        places = torch.from_numpy(np.concatenate([np.arange(a, b) for a, b in zip(begins, ends, strict=True)]))
        read = self._readings
        hidden, tokens, words = read.hidden[places].float(), read.tokens[places], read.words[places]
        return vectors_of(self.head, hidden, tokens, words, ends - begins)
