"""`python -m examples.train_default_model.ablation --prepared DIR --out RUN`: what losses of training cost each other.

A small network is trained three times on the same data, from the same start and for as many steps: with all losses, for
vectors alone, and for next tokens alone. Each is read by `rwkv_runtime` on the held-out documents, and compared with
the first document by document. What is done is kept in RUN: the same command again goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import rwkv_runtime
from examples.train_default_model.__main__ import log_line, stop_request
from examples.train_default_model.evaluate import held_out_documents, stream_measures
from examples.train_default_model.export import export
from examples.train_default_model.prepare import ROTATION, TOKENIZER
from examples.train_default_model.profiles import PROFILES, ModelProfile, Profile
from examples.train_default_model.session import new_trainer
from examples.train_default_model.train import CHECKPOINT
from pipeline.evals import Estimate
from pipeline.metrics.bootstrap import estimate_of

Measures = NDArray[np.float64]
"""What a network was on each document [n, 4], in the order of SUMS."""

SUMS = ("cosine", "sentences", "bits", "bytes")
RATIOS = {"cosine": (0, 1), "bits per byte": (2, 3)}
ARMS = ("all losses", "vectors alone", "next tokens alone")
MEASURES = "measures.json"
RESULT = "ablation.json"
_HOUR = PROFILES["hour"]
ABLATION_PROFILES = {
    "small": replace(
        _HOUR, model=ModelProfile(2, 128, (16, 16, 16, 32)), training=replace(_HOUR.training, steps=1_000)
    ),
    "tiny": PROFILES["tiny"],
}


def main(arguments: list[str] | None = None) -> int:
    """Train and measure what is missing, and print a line of JSON for each; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ablation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prepared", type=Path, required=True, help="OUT/data of a training, prepared")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, logs and results")
    parser.add_argument("--profile", choices=sorted(ABLATION_PROFILES), default="small")
    parser.add_argument("--steps", type=int, help="steps of each, if not as many as the profile says")
    parser.add_argument("--shards", type=int, help="read only the first so many shards")
    parser.add_argument("--documents", type=int, default=200, help="at most so many held-out documents")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    profile, until = ABLATION_PROFILES[options.profile], stop_request()
    if options.steps:
        profile = replace(profile, training=replace(profile.training, steps=options.steps))
    try:
        for arm in ARMS:
            if not until() and train(arm, options.prepared, options.out, profile, options.shards, until):
                measure(arm, options.prepared, options.out, options.documents)
    except (FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not until():
        found = compared({arm: _read(options.out, arm) for arm in ARMS})
        (options.out / RESULT).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        for arm, figures in found.items():
            log_line(json.dumps({"trained with": arm} | figures))
    return 0


def with_losses(profile: Profile, arm: str) -> Profile:
    """A profile that trains for what an arm is named after."""
    training = profile.training
    changed = {
        "vectors alone": replace(training, first_next_token_weight=0.0, next_token_weight=0.0),
        "next tokens alone": replace(training, vector_weight=0.0),
    }
    return replace(profile, training=changed.get(arm, training))


def train(arm: str, prepared: Path, out: Path, profile: Profile, shards: int | None, until: Callable[[], bool]) -> bool:
    """Train an arm to the end, or on to where `until` says so, and export it. Returns whether it is done."""
    folder, meant = _folder(out, arm), with_losses(profile, arm)
    if (folder / MEASURES).exists():
        return True
    (folder / "data").mkdir(parents=True, exist_ok=True)
    trainer = new_trainer(prepared, meant, meant.training.steps, shards)
    if (folder / CHECKPOINT).exists():
        trainer.restore(folder / CHECKPOINT)
    trainer.run(folder, until)
    if trainer.step < meant.training.steps:
        return False
    for name in (ROTATION, TOKENIZER):
        shutil.copy(prepared / name, folder / "data" / name)
    export(folder, meant)
    return True


def measure(arm: str, prepared: Path, out: Path, documents: int) -> None:
    """Read the held-out documents with an arm's network, and keep what came of each.

    Raises RuntimeError if there are none.
    """
    folder = _folder(out, arm)
    if (folder / MEASURES).exists():
        return
    model, rotation = rwkv_runtime.load(folder / "model"), np.load(prepared / ROTATION)
    rows = [
        [stream[name] for name in SUMS]
        for stream in (
            stream_measures(model, document, rotation)
            for document in islice(held_out_documents(prepared), documents)
            if len(document) > 1
        )
    ]
    if not rows:
        raise RuntimeError(f"{prepared} holds out no document of several sentences; prepare more text")
    (folder / MEASURES).write_text(json.dumps(rows), "utf-8")


def compared(measures: Mapping[str, Measures]) -> dict[str, dict[str, dict[str, float]]]:
    """The figures of each arm, and those less the first arm's, with their intervals over documents."""
    first = measures[ARMS[0]]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for arm, own in measures.items():
        found[arm] = {}
        for name, columns in RATIOS.items():
            found[arm][name] = asdict(_estimate(own, columns))
            if arm != ARMS[0]:
                found[arm][f"{name}, less {ARMS[0]}"] = asdict(_estimate(own, columns, first))
    return found


def _estimate(own: Measures, columns: Sequence[int], other: Measures | None = None) -> Estimate:
    """A ratio of sums over documents, or how much larger it is than that of others on the same documents."""

    def statistic(items: NDArray[np.intp]) -> float:
        parts = [one[items][:, columns].sum(0) for one in (own, other) if one is not None]
        return float(parts[0][0] / parts[0][1] - (parts[1][0] / parts[1][1] if len(parts) > 1 else 0.0))

    return estimate_of(statistic, len(own))


def _read(out: Path, arm: str) -> Measures:
    return np.array(json.loads((_folder(out, arm) / MEASURES).read_text("utf-8")), np.float64)


def _folder(out: Path, arm: str) -> Path:
    return out / arm.replace(" ", "-")


if __name__ == "__main__":
    raise SystemExit(main())
