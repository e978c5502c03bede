"""A reader of spans fitted to marked answers, the network staying as it is.

A step takes a few questions at random. Knows nothing of networks or texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from examples.train_default_model.fitting import Fit, files_of
from examples.train_default_model.span_data import Case
from examples.train_default_model.span_reader import Marked, SpanReader, StaticVectors, loss_of

NAME = "spans"
CHECKPOINT, LOG = files_of(NAME)


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


class SpanFit(Fit):
    """The fit of a reader to what is marked in texts."""

    def __init__(self, reader: SpanReader, cases: Sequence[Case], static: StaticVectors, profile: SpanProfile) -> None:
        """Every set of `cases` is asked as often as any other. Nothing is fitted yet."""
        self.reader, self.profile = reader, profile
        marked = [(case, Marked.of(case)) for case in cases]
        self._cases = [(case, known) for case, known in marked if known is not None]
        self._static = static
        counts = Counter(case.name for case, _ in self._cases)
        chances = np.array([1 / counts[case.name] for case, _ in self._cases])
        self._chances = chances / chances.sum()
        optimizer = torch.optim.AdamW(reader.parameters(), lr=profile.rate, weight_decay=profile.decay)
        super().__init__(NAME, reader, optimizer, profile)

    def take_step(self) -> dict[str, float]:
        """Move the reader once, by some questions. Returns what was minimised."""
        profile, draw = self.profile, np.random.default_rng(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = profile.rate * self.share
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
