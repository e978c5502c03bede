"""The training loop: streams in, steps taken, a line of JSON per report, checkpoints from which it goes on exactly.

Knows nothing of where the data came from, and reads nothing that is held out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from examples.train_default_model.heads import PairHead
from examples.train_default_model.losses import next_token_loss, vector_loss
from examples.train_default_model.model import State, Student
from examples.train_default_model.pool import Pool
from examples.train_default_model.profiles import TrainingProfile
from examples.train_default_model.streams import UNKNOWN, Batch, make_streams, next_batch

CHECKPOINT = "checkpoint.pt"
LOG = "train.jsonl"
WEIGHT_DECAY = 0.05
BETAS = (0.9, 0.99)
EPSILON = 1e-12
LARGEST_GRADIENT = 1.0
CONSTANT_UNTIL = 0.75
LAST_SHARE = 0.02
STRONG_NEXT_TOKENS_UNTIL = 0.25
REPORT_EVERY = 25
SMOOTHING = 0.95


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameters by how they are stepped: `scale` multiplies the learning rate, only hidden matrices decay.

    The tables of vectors and the vector head start near their goal, so they move less; decay biases move twice as fast,
    as in RWKV-LM.
    """
    kinds: dict[str, tuple[float, float]] = {
        "static": (0.5, 0.0),
        "embedding": (0.3, 0.0),
        "vector head": (0.5, 0.0),
        "decay bias": (2.0, 0.0),
        "matrix": (1.0, WEIGHT_DECAY),
        "other": (1.0, 0.0),
    }
    members: dict[str, list[nn.Parameter]] = {kind: [] for kind in kinds}
    for name, parameter in model.named_parameters():
        members[_kind(name, parameter)].append(parameter)
    return [
        {"params": members[kind], "scale": scale, "weight_decay": decay}
        for kind, (scale, decay) in kinds.items()
        if members[kind]
    ]


def _kind(name: str, parameter: nn.Parameter) -> str:
    if ".static." in name or name.startswith("static."):
        return "static"
    if name.startswith("emb."):
        return "embedding"
    if name.startswith(("embed_head.w_", "embed_head.gate", "embed_head.mlp")):
        return "vector head"
    if name.endswith("att.w0"):
        return "decay bias"
    if parameter.dim() == 2 and name.endswith(".weight") and name.startswith(("blocks.", "head.")):
        return "matrix"
    return "other"


def learning_rate_share(step: int, steps: int, warm_up: int) -> float:
    """What the peak learning rate is multiplied with: a short rise, constant to 75 % of the steps, then down to 2 %.

    The constant part is the same whatever `steps` is: a run may be given its end once the time that is left is known.
    Source: Hu et al., MiniCPM, 2024 (warm-up, stable, decay).
    """
    falling = (1 - step / steps) / (1 - CONSTANT_UNTIL)
    return min(1.0, (step + 1) / warm_up) * max(LAST_SHARE, min(1.0, falling))


def next_token_weight(step: int, steps: int, first: float, later: float) -> float:
    """What the loss on next tokens weighs: from `first` in a straight line to `later` at a quarter of the steps."""
    return later + (first - later) * max(0.0, 1 - step / (steps * STRONG_NEXT_TOKENS_UNTIL))


@dataclass
class Heads:
    """The heads on vectors: where sections begin, and what is central."""

    boundary: PairHead
    salience: PairHead

    def modules(self) -> nn.ModuleDict:
        """Both, under the names they are saved with."""
        return nn.ModuleDict({"boundary_head": self.boundary, "salience_head": self.salience})


@dataclass
class Averages:
    """Moving averages of what is reported."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, found: dict[str, float]) -> None:
        """Take in one step's values."""
        for name, value in found.items():
            before = self.values.get(name, value)
            self.values[name] = SMOOTHING * before + (1 - SMOOTHING) * value


class Trainer:
    """Owns the model, the optimiser, the streams and their state: all that a checkpoint holds."""

    def __init__(self, model: Student, pool: Pool, profile: TrainingProfile, steps: int, seed: int = 0) -> None:
        """Nothing is read yet. `steps` is where the schedule ends."""
        self.model = model.to(profile.device)
        size = model.profile.vector_size
        self.heads = Heads(PairHead(size).to(profile.device), PairHead(size).to(profile.device))
        self.profile, self.steps, self.step, self.seconds = profile, steps, 0, 0.0
        self._targets = torch.from_numpy(pool.targets)
        groups = [*parameter_groups(self.model), {"params": [*self.heads.modules().parameters()], "scale": 1.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=profile.learning_rate, betas=BETAS, eps=EPSILON, fused=True)
        self._streams = make_streams(pool, profile.rows, seed)
        self._state: State = self.model.initial_state(sum(profile.rows))
        self._choice = torch.Generator().manual_seed(seed)
        self._averages = Averages()

    def run(self, folder: Path, until: Callable[[], bool] = lambda: False) -> None:
        """Step to the end of the schedule or until `until` says so, with reports and checkpoints in `folder`."""
        started = saved = time.monotonic()
        before = self.seconds
        while self.step < self.steps and not until():
            self._averages.add(self.take_step())
            now = time.monotonic()
            self.seconds = before + now - started
            if self.step % REPORT_EVERY == 0 or self.step == self.steps:
                self._report(folder / LOG)
            if now - saved > self.profile.checkpoint_seconds:
                self.save(folder / CHECKPOINT)
                saved = now
        self.save(folder / CHECKPOINT)

    def take_step(self) -> dict[str, float]:
        """Read the next stretch of every stream, and move the parameters once. Returns what was minimised."""
        share = learning_rate_share(self.step, self.steps, self.profile.warm_up_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self.profile.learning_rate * share * group["scale"]
        batch = next_batch(self._streams, self.profile.tokens)
        loss, report = self._losses(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self._optimizer.step()
        self.step += 1
        return report | {"gradient": float(norm)}

    def save(self, path: Path) -> None:
        """Write a checkpoint: from it, training goes on as if it had not stopped."""
        held = {
            "model": self.model.state_dict(),
            "heads": self.heads.modules().state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "streams": [stream.snapshot() for stream in self._streams],
            "state": self._state,
            "choice": self._choice.get_state(),
            "averages": self._averages.values,
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(held, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of this program. Only for files that you made: it is read with pickle."""
        held = torch.load(path, map_location=self.profile.device, weights_only=False)
        self.model.load_state_dict(held["model"])
        self.heads.modules().load_state_dict(held["heads"])
        self._optimizer.load_state_dict(held["optimizer"])
        for stream, place in zip(self._streams, held["streams"], strict=True):
            stream.restore(place)
        self._state = held["state"]
        self._choice.set_state(held["choice"].cpu())
        self._averages = Averages(dict(held["averages"]))
        self.step, self.seconds = held["step"], held["seconds"]

    def _losses(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        tokens, keep = self._moved(batch.tokens, batch.keep)
        residual, self._state = self.model(tokens, keep, self._state)
        next_tokens = self._next_token_loss(residual, batch)
        profile = self.profile
        loss = next_tokens * next_token_weight(
            self.step, self.steps, profile.first_next_token_weight, profile.next_token_weight
        )
        report = {"nats_per_token": float(next_tokens.detach())}
        if len(batch.spans) > 1:
            vectors = self.model.embed_head(residual, tokens, self._moved(batch.spans)[0])
            targets = self._targets[batch.targets].to(vectors.device).float()
            learned = vector_loss(vectors, targets)
            units = F.normalize(vectors.detach(), dim=-1)
            on_vectors, accuracy = self._head_losses(units, batch)
            loss = loss + self.profile.vector_weight * learned.total() + on_vectors
            cosines = (units * targets).sum(-1).cpu()
            report |= {"cosine": float(cosines.mean()), "neighbours": float(learned.neighbours.detach())} | accuracy
            report |= _by_kind(cosines, batch.spans[:, 0], self.profile.rows)
        return loss, report

    def _next_token_loss(self, residual: Tensor, batch: Batch) -> Tensor:
        """Cross entropy at a random choice of positions in document rows."""
        rows = self.profile.rows[0]
        places = torch.randperm(rows * self.profile.tokens, generator=self._choice)[: self.profile.next_token_positions]
        places = places[torch.from_numpy(batch.predictable[:rows]).flatten()[places]]
        hidden = residual[:rows].flatten(0, 1)[places.to(residual.device)]
        (following,) = self._moved(batch.following[:rows].reshape(-1)[places.numpy()])
        return next_token_loss(self.model.logits(hidden), following)

    def _head_losses(self, units: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Losses of the heads on vectors, which are taken as they are."""
        loss, report = units.sum() * 0, {}
        opens, central = batch.opens != UNKNOWN, ~np.isnan(batch.salience)
        pairs = np.flatnonzero(opens & (np.arange(len(opens)) > 0))
        pairs = pairs[batch.spans[pairs, 0] == batch.spans[pairs - 1, 0]] if len(pairs) else pairs
        if len(pairs):
            scores = self.heads.boundary(units[pairs - 1], units[pairs])
            wanted = self._moved(batch.opens[pairs])[0].float()
            loss = loss + F.binary_cross_entropy_with_logits(scores, wanted)
            report["boundary"] = float(F.binary_cross_entropy_with_logits(scores.detach(), wanted))
        if central.any():
            rows = batch.spans[:, 0]
            middles = torch.stack(
                [F.normalize(units[(rows == row) & central].mean(0), dim=-1) for row in rows[central]]
            )
            scores = self.heads.salience(units[central], middles)
            (wanted,) = self._moved(batch.salience[central])
            loss = loss + F.mse_loss(scores, wanted)
            report["salience"] = float(F.mse_loss(scores.detach(), wanted))
        return 0.1 * loss, report

    def _moved(self, *arrays: Any) -> list[Tensor]:
        return [torch.from_numpy(np.ascontiguousarray(array)).to(self.profile.device) for array in arrays]

    def _report(self, path: Path) -> None:
        read = self.step * sum(self.profile.rows) * self.profile.tokens
        speed = read / max(self.seconds, 1e-9)
        rounded = {name: round(value, 4) for name, value in self._averages.values.items()}
        line = {"step": self.step, "tokens": read, "seconds": round(self.seconds, 1), "tokens_per_s": round(speed)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | rounded) + "\n")


def _by_kind(cosines: Tensor, row_of: Any, rows: Sequence[int]) -> dict[str, float]:
    """Mean cosine per kind of row."""
    report = {}
    first = 0
    for kind, count in zip(("documents", "mixed", "alone"), rows, strict=True):
        inside = torch.from_numpy((row_of >= first) & (row_of < first + count))
        if inside.any():
            report[f"cosine_{kind}"] = float(cosines[inside].mean())
        first += count
    return report
