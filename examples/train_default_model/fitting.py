"""A small module fitted step by step: a line of JSON per report, and a checkpoint from which the fit goes on exactly.

Knows nothing of what is fitted to what.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from examples.train_default_model.train import Averages

REPORT_EVERY = 50
LOWEST_SHARE = 0.02


class Schedule(Protocol):
    """How many steps there are, and after how many seconds the next one is followed by a checkpoint."""

    @property
    def steps(self) -> int: ...

    @property
    def checkpoint_seconds(self) -> float: ...


def files_of(name: str) -> tuple[str, str]:
    """What the checkpoint and the log of a fit are called."""
    return f"{name}.pt", f"{name}.jsonl"


class Fit(ABC):
    """Owns the module, its optimiser and the place in the schedule: all that a checkpoint holds."""

    def __init__(self, name: str, fitted: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule) -> None:
        """`name` is that of the files and of the module in the checkpoint. Nothing is fitted yet."""
        self.step = 0
        self._name, self._fitted, self._optimizer, self._schedule = name, fitted, optimizer, schedule
        self._averages = Averages()

    @abstractmethod
    def take_step(self) -> dict[str, float]:
        """Move the module once, and count the step. Returns what was minimised."""

    @property
    def share(self) -> float:
        """What the peak learning rate is multiplied with: it falls in a line to nearly nothing."""
        return max(LOWEST_SHARE, 1 - self.step / self._schedule.steps)

    def run(self, folder: Path, until: Callable[[], bool] = lambda: False) -> None:
        """Step to the end of the schedule or until `until` says so, with reports and checkpoints in `folder`."""
        began = saved = time.monotonic()
        checkpoint, log = (folder / name for name in files_of(self._name))
        while self.step < self._schedule.steps and not until():
            self._averages.add(self.take_step())
            now = time.monotonic()
            if self.step % REPORT_EVERY == 0 or self.step == self._schedule.steps:
                self._report(log, now - began)
            if now - saved > self._schedule.checkpoint_seconds:
                self.save(checkpoint)
                saved = now
        self.save(checkpoint)

    def save(self, path: Path) -> None:
        """Write a checkpoint: from it, the fit goes on as if it had not stopped."""
        held = {
            self._name: self._fitted.state_dict(),
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
        self._fitted.load_state_dict(held[self._name])
        self._optimizer.load_state_dict(held["optimizer"])
        self._averages, self.step = Averages(dict(held["averages"])), held["step"]

    def _report(self, path: Path, seconds: float) -> None:
        rounded = {name: round(value, 4) for name, value in self._averages.values.items()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, "seconds": round(seconds, 1)} | rounded) + "\n")
