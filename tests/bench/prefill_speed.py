"""Measures how fast the shipped model reads, window after window, as a worker does it.

    python -m tests.bench.prefill_speed [--threads 1 2] [--rounds 7]

Reproduces the model's reference vectors first and prints no speed if they differ. Then prints one JSON line: tokens a
second for each number of threads, the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import rwkv_runtime
from pipeline.worker import peak_memory_bytes
from rwkv_runtime.engine import Engine, Feed

REPOSITORY = Path(__file__).parents[2]
TEXT = REPOSITORY / "examples" / "documents" / "moby-dick.txt"
REFERENCE = Path(rwkv_runtime.__file__).parent / "default" / "reference.safetensors"
TOLERANCE = 2e-6
WINDOWS_IN_A_ROUND = 8


def main() -> int:
    arguments = _arguments()
    model = rwkv_runtime.load()
    engine = Engine(model, window=arguments.window, lanes=1)
    difference = largest_difference(engine)
    if difference > TOLERANCE:
        print(f"the reference vectors differ by {difference:.1e}; no speed is worth measuring", file=sys.stderr)
        return 1
    tokens = model.tokenizer.encode(TEXT.read_text("utf-8")[:200_000])[: arguments.window * WINDOWS_IN_A_ROUND]
    speeds = speeds_of(engine, tokens, arguments.threads, arguments.rounds)
    result = {
        "bench": "prefill_speed",
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} processors",
        "torch": torch.__version__,
        "model": f"default, RWKV-{model.config.generation}",
        "dtype": "float32",
        "window": arguments.window,
        "batch": 1,
        "rounds": arguments.rounds,
        "tokens_per_second": {str(threads): round(statistics.median(found)) for threads, found in speeds.items()},
        "slowest_round": {str(threads): round(min(found)) for threads, found in speeds.items()},
        "reference_difference": difference,
        "peak_bytes": peak_memory_bytes(),
    }
    print(json.dumps(result))
    return 0


def largest_difference(engine: Engine) -> float:
    """The largest difference between the reference's sentence vectors and those that the engine gives."""
    reference = load_file(REFERENCE)
    ids, spans = reference["doc_ids"].tolist(), reference["doc_spans"].tolist()
    features = engine.feed([Feed(tuple(ids), engine.model.initial_state(), True)])[0].features
    if features is None:
        raise RuntimeError("the engine gave no features")
    sums = np.stack([features[begin:end].sum(axis=0) for begin, end in spans])
    last = np.stack([features[end - 1] for _, end in spans])
    found = engine.pooler.finish(sums, last, np.array([end - begin for begin, end in spans]))
    return float(np.abs(found - reference["stream"].numpy()).max())


def speeds_of(engine: Engine, tokens: list[int], threads: list[int], rounds: int) -> dict[int, list[float]]:
    """Tokens a second of every round. The numbers of threads take turns, so that a busy moment hits them alike."""
    speeds: dict[int, list[float]] = {count: [] for count in threads}
    for number in range(rounds + 1):
        for count in threads:
            torch.set_num_threads(count)
            taken = seconds_for(engine, tokens)
            if number:  # the round before the first warms up
                speeds[count].append(len(tokens) / taken)
    return speeds


def seconds_for(engine: Engine, tokens: list[int]) -> float:
    """The time for reading the tokens from the start of a document."""
    state = engine.model.initial_state()
    started = time.perf_counter()
    for begin in range(0, len(tokens), engine.window):
        state = engine.feed([Feed(tuple(tokens[begin : begin + engine.window]), state, True)])[0].state
    return time.perf_counter() - started


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast the shipped model reads.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", type=int, default=512)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
