"""Measures how fast the shipped model reads, window after window, as a worker does it.

    python -m tests.bench.prefill_speed [--kernels native torch] [--dtypes fp32 bf16] [--threads 1] [--rounds 7]

Reproduces the model's reference vectors first and prints no speed if they differ. Then prints one JSON line: for each
kind of kernels and precision the tokens a second of processor time and of the clock, medians of rounds in which all
take turns. On a busy machine only the first, and the ratios, are worth something.
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
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import rwkv_runtime
from pipeline.worker import peak_memory_bytes
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.words import REACH

REPOSITORY = Path(__file__).parents[2]
TEXT = REPOSITORY / "examples" / "documents" / "moby-dick.txt"
REFERENCE = Path(rwkv_runtime.__file__).parent / "default" / "reference.safetensors"
TOLERANCE = 2e-6
WINDOWS_IN_A_ROUND = 8


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    variants = {
        f"{kernels} {dtype}": Engine(rwkv_runtime.load(kernels=kernels, dtype=dtype), window=arguments.window, lanes=1)
        for kernels in arguments.kernels
        for dtype in arguments.dtypes
    }
    difference = max(largest_difference(engine) for name, engine in variants.items() if name.endswith("fp32"))
    if difference > TOLERANCE:
        print(f"the reference vectors differ by {difference:.1e}; no speed is worth measuring", file=sys.stderr)
        return 1
    some = next(iter(variants.values())).model
    tokens = some.tokenizer.encode(TEXT.read_text("utf-8")[:200_000])[: arguments.window * WINDOWS_IN_A_ROUND]
    speeds = speeds_of(variants, tokens, arguments.rounds)
    result = {
        "bench": "prefill_speed",
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}",
        "torch": torch.__version__,
        "model": f"default, RWKV-{some.config.generation}",
        "threads": arguments.threads,
        "window": arguments.window,
        "batch": 1,
        "rounds": arguments.rounds,
        "tokens_per_processor_second": {name: _median(found, 0) for name, found in speeds.items()},
        "tokens_per_second": {name: _median(found, 1) for name, found in speeds.items()},
        "reference_difference": difference,
        "peak_bytes": peak_memory_bytes(),
    }
    print(json.dumps(result))
    return 0


def _median(rounds: list[tuple[float, float]], place: int) -> int:
    return round(statistics.median(one[place] for one in rounds))


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


def speeds_of(variants: Mapping[str, Engine], tokens: list[int], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Tokens a second of every round: (of processor time, of the clock)."""
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, engine in variants.items():
            computing, waiting = seconds_for(engine, tokens)
            if number:  # the round before the first warms up
                speeds[name].append((len(tokens) / computing, len(tokens) / waiting))
    return speeds


def seconds_for(engine: Engine, tokens: list[int]) -> tuple[float, float]:
    """The time for reading the tokens from the start of a document: that of the processor, that of the clock."""
    state = engine.model.initial_state()
    computing, waiting = time.process_time(), time.perf_counter()
    for begin in range(0, len(tokens), engine.window):
        now, before = tuple(tokens[begin : begin + engine.window]), tuple(tokens[max(begin - REACH, 0) : begin])
        state = engine.feed([Feed(now, state, True, before=before)])[0].state
    return time.process_time() - computing, time.perf_counter() - waiting


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
    parser.add_argument("--kernels", nargs="+", default=["native", "torch"])
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", type=int, default=512)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
