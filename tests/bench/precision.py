"""What each precision costs and gains on the shipped model, against float32: errors, sentence vectors, bits, speed.

    python -m tests.bench.precision [--tokens 2048] [--threads 1] [--rounds 5]

Prints one JSON line. Errors are relative to float32 over the beginnings of the example documents; cosines are those of
vectors of spans of 24 tokens; bits per byte those of predicting the documents. Speeds are ratios to float32, each pair
measured in turn, the median of the rounds: within a line they can be compared, between machines they cannot.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import rwkv_runtime
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.model import Model
from rwkv_runtime.words import REACH

DOCUMENTS = Path(__file__).parents[2] / "examples" / "documents"


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    models = {name: rwkv_runtime.load(dtype=name) for name in PRECISIONS}
    paths = sorted(path for path in DOCUMENTS.iterdir() if path.name != "README.md")
    texts = [path.read_text("utf-8")[: 6 * arguments.tokens] for path in paths]
    documents = [models["fp32"].tokenizer.encode(text)[: arguments.tokens] for text in texts]
    exact = [_read(models["fp32"], tokens) for tokens in documents]
    speeds = _speed_ratios(models, documents[0], arguments.rounds)
    found = {}
    for name, model in models.items():
        read = [_read(model, tokens) for tokens in documents]
        cosines = np.concatenate([(a[1] * b[1]).sum(axis=1) for a, b in zip(read, exact, strict=True)])
        found[name] = {
            "hidden_error_max": max(_relative(a[0], b[0]) for a, b in zip(read, exact, strict=True)),
            "cosine_min": float(cosines.min()),
            "cosine_mean": float(cosines.mean()),
            "bits_per_byte": round(_bits_per_byte(model, documents), 5),
            "prefill_speed_against_fp32": round(speeds[name], 2),
        }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=DOCUMENTS, capture_output=True, text=True)
    machine = f"{os.cpu_count()} processors, {torch.backends.cpu.get_cpu_capability()}"
    facts = {"bench": "precision", "commit": commit.stdout.strip(), "machine": machine, "torch": torch.__version__}
    sizes = {
        "tokens": [len(tokens) for tokens in documents],
        "spans": sum(len(vectors) for _, vectors in exact),
        "threads": arguments.threads,
    }
    print(json.dumps(facts | sizes | {"precisions": found}))
    return 0


def _read(model: Model, tokens: list[int]) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """Hidden states, and the vectors of spans of 24 tokens, about as long as sentences are."""
    engine = Engine(model, window=512, lanes=1)
    state, rows = model.initial_state(), []
    for begin in range(0, len(tokens), engine.window):
        now, before = tuple(tokens[begin : begin + engine.window]), tuple(tokens[max(begin - REACH, 0) : begin])
        fed = engine.feed([Feed(now, state, True, before=before)])[0]
        state, rows = fed.state, [*rows, fed.features]
    features = np.concatenate([row for row in rows if row is not None])
    spans = [(begin, begin + 24) for begin in range(0, len(tokens) - 24, 24)]
    sums = np.stack([features[a:b].sum(axis=0) for a, b in spans])
    last = np.stack([features[b - 1] for _, b in spans])
    vectors = engine.pooler.finish(sums, last, np.full(len(spans), 24))
    return model.forward(tokens, model.initial_state(), "none").hidden, vectors


def _bits_per_byte(model: Model, documents: list[list[int]]) -> float:
    bits, size = 0.0, 0
    for tokens in documents:
        logits = model.forward(tokens[:-1], model.initial_state(), "all").logits
        assert logits is not None
        bits += float(torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="sum")) / math.log(
            2
        )
        size += sum(len(model.tokenizer.token_bytes(token)) for token in tokens[1:])
    return bits / size


def _speed_ratios(models: dict[str, Model], tokens: list[int], rounds: int) -> dict[str, float]:
    ratios: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            ratios[name].append(_seconds(models["fp32"], tokens) / _seconds(model, tokens))
    return {name: statistics.median(found) for name, found in ratios.items()}


def _seconds(model: Model, tokens: list[int]) -> float:
    started = time.perf_counter()
    model.forward(tokens, model.initial_state(), "none")
    return time.perf_counter() - started


def _relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What each precision costs and gains on the shipped model.")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
