"""A head of sentence vectors fitted to what a network that stays as it is says of the tokens.

Steps take random spans of readings, so they cost milliseconds a span; a line of JSON per report, and a checkpoint from
which the fit goes on exactly. Knows nothing of networks or texts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from examples.train_default_model.heads import SentenceHead
from examples.train_default_model.hidden import Readings
from examples.train_default_model.losses import vector_loss
from examples.train_default_model.profiles import HeadProfile
from examples.train_default_model.train import Averages

CHECKPOINT = "head.pt"
LOG = "head.jsonl"
REPORT_EVERY = 50
LOWEST_RATE = 0.02


def vectors_of(head: SentenceHead, hidden: Tensor, tokens: Tensor, lengths: NDArray[np.int64]) -> Tensor:
    """Vectors [n, E], not yet of unit length, of n spans that stand one behind the other.

    `hidden` [T, D] is behind the head's norm, `tokens` [T], `lengths` [n] sum up to T.
    """
    offsets = torch.from_numpy(np.cumsum([0, *lengths[:-1]]))
    gate = torch.sigmoid(hidden @ head.gate.weight[0] + head.gate.bias)

    def summed(places: Tensor, rows: Tensor) -> Tensor:
        return F.embedding_bag(places, rows, offsets, mode="sum", per_sample_weights=gate)

    every = torch.arange(len(tokens))
    total = summed(every, torch.ones_like(gate)[:, None])
    means = summed(every, hidden) / total
    last = hidden[torch.from_numpy(np.cumsum(lengths) - 1)]
    static = summed(tokens, head.static.weight) / total
    return means @ head.w_mean.weight.T + last @ head.w_last.weight.T + static


class HeadFit:
    """Owns the head, its optimiser and the place in the schedule: all that a checkpoint holds."""

    def __init__(self, head: SentenceHead, readings: Readings, targets: NDArray[np.float16], profile: HeadProfile):
        """`targets` [m, E] of unit length are the teacher's. Nothing is fitted yet; the head's norm stays as it is."""
        self.head, self.profile, self.step = head, profile, 0
        self._readings, self._targets = readings, torch.from_numpy(targets)
        head.ln.requires_grad_(requires_grad=False)
        maps = [head.gate.weight, head.gate.bias, head.w_mean.weight, head.w_last.weight]
        groups = [
            {"params": [head.static.weight], "peak": profile.table_rate},
            {"params": maps, "peak": profile.map_rate},
        ]
        self._optimizer = torch.optim.Adam(groups, lr=profile.table_rate, fused=True)
        self._averages = Averages()

    def run(self, folder: Path, until: Callable[[], bool] = lambda: False) -> None:
        """Step to the end of the schedule or until `until` says so, with reports and checkpoints in `folder`."""
        began = saved = time.monotonic()
        while self.step < self.profile.steps and not until():
            self._averages.add(self.take_step())
            now = time.monotonic()
            if self.step % REPORT_EVERY == 0 or self.step == self.profile.steps:
                self._report(folder / LOG, now - began)
            if now - saved > self.profile.checkpoint_seconds:
                self.save(folder / CHECKPOINT)
                saved = now
        self.save(folder / CHECKPOINT)

    def take_step(self) -> dict[str, float]:
        """Move the head once, towards the teacher's vectors of random spans. Returns what was minimised."""
        share = max(LOWEST_RATE, 1 - self.step / self.profile.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * share
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
        hidden, tokens = self._readings.hidden[places].float(), self._readings.tokens[places]
        return vectors_of(self.head, hidden, tokens, ends - begins)

    def save(self, path: Path) -> None:
        """Write a checkpoint: from it, the fit goes on as if it had not stopped."""
        held = {
            "head": self.head.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "averages": self._averages.values,
            "step": self.step,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(held, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of this program. Only for files that you made: it is read with pickle."""
        held = torch.load(path, weights_only=False)
        self.head.load_state_dict(held["head"])
        self._optimizer.load_state_dict(held["optimizer"])
        self._averages, self.step = Averages(dict(held["averages"])), held["step"]

    def _report(self, path: Path, seconds: float) -> None:
        rounded = {name: round(value, 4) for name, value in self._averages.values.items()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, "seconds": round(seconds, 1)} | rounded) + "\n")
