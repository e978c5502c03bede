"""A reader of spans fitted to marked answers, the network staying as it is.

A step takes a few questions at random; a line of JSON per report, and a checkpoint from which the fit goes on exactly.
Knows nothing of networks or texts.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples.train_default_model.span_data import Case
from examples.train_default_model.span_reader import Marked, SpanReader, loss_of
from examples.train_default_model.train import Averages

CHECKPOINT = "spans.pt"
LOG = "spans.jsonl"
REPORT_EVERY = 50
LOWEST_SHARE = 0.02


@dataclass(frozen=True)
class SpanProfile:
    """How a reader is fitted and measured.

    Of each set, `fitted_texts` are for the fit and `chosen_texts` to choose thresholds by, of at most `max_chars`;
    `evaluated_texts` of at most `evaluated_chars` are to measure on. There are `steps` of `batch` questions at a
    learning rate that falls in a line from `rate`, `drop` of the inputs left out; the bounds of answers weigh
    `bounds_weight` beside the choice of sentences.
    """

    fitted_texts: int
    chosen_texts: int
    max_chars: int
    evaluated_texts: int
    evaluated_chars: int
    steps: int
    batch: int
    rate: float
    drop: float
    bounds_weight: float
    decay: float = 0.0
    checkpoint_seconds: float = 60.0


SPAN_PROFILES = {
    "spans": SpanProfile(70, 20, 40_000, 15, 60_000, 1_500, 8, rate=3e-3, drop=0.1, bounds_weight=0.3, decay=1e-2),
    "tiny": SpanProfile(1, 1, 40_000, 1, 40_000, 12, 2, 3e-3, drop=0.1, bounds_weight=0.3, checkpoint_seconds=0.0),
}


class SpanFit:
    """Owns the reader, its optimiser and the place in the schedule: all that a checkpoint holds."""

    def __init__(self, reader: SpanReader, cases: Sequence[Case], static: Tensor, profile: SpanProfile) -> None:
        """Every set of `cases` is asked as often as any other. Nothing is fitted yet."""
        self.reader, self.profile, self.step = reader, profile, 0
        marked = [(case, Marked.of(case)) for case in cases]
        self._cases = [(case, known) for case, known in marked if known is not None]
        self._static = static
        counts = Counter(case.name for case, _ in self._cases)
        chances = np.array([1 / counts[case.name] for case, _ in self._cases])
        self._chances = chances / chances.sum()
        self._optimizer = torch.optim.AdamW(reader.parameters(), lr=profile.rate, weight_decay=profile.decay)
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
        """Move the reader once, by some questions. Returns what was minimised."""
        profile, draw = self.profile, np.random.default_rng(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = profile.rate * max(LOWEST_SHARE, 1 - self.step / profile.steps)
        torch.manual_seed(self.step)
        found = []
        for place in draw.choice(len(self._cases), profile.batch, p=self._chances):
            case, marked = self._cases[place]
            found.append(torch.stack(loss_of(marked, self.reader(case, self._static, profile.drop))))
        chosen, bounds = torch.stack(found).mean(0)
        self._optimizer.zero_grad()
        (chosen + profile.bounds_weight * bounds).backward()
        torch.nn.utils.clip_grad_norm_(self.reader.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        return {"sentences": float(chosen.detach()), "bounds": float(bounds.detach())}

    def save(self, path: Path) -> None:
        """Write a checkpoint: from it, the fit goes on as if it had not stopped."""
        held = {
            "reader": self.reader.state_dict(),
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
        self.reader.load_state_dict(held["reader"])
        self._optimizer.load_state_dict(held["optimizer"])
        self._averages, self.step = Averages(dict(held["averages"])), held["step"]

    def _report(self, path: Path, seconds: float) -> None:
        rounded = {name: round(value, 4) for name, value in self._averages.values.items()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, "seconds": round(seconds, 1)} | rounded) + "\n")
