"""Measures how fast the shipped model writes 16 texts together, against one after another.

    python -m tests.bench.decoding_speed [--tokens 32] [--rounds 5]

Compares each text with the one written alone in as many lanes first and prints no speed if a bit differs. Then prints
one JSON line: tokens a second of processor time on one thread, medians of the rounds, in which both ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time

import torch

import rwkv_runtime
from rwkv_runtime.decoding import LANES, Request, decode
from rwkv_runtime.model import Model
from rwkv_runtime.sampling import SamplingOptions
from tests.bench.prefill_speed import _commit, _processor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = rwkv_runtime.load()
    options = SamplingOptions(1.0, 0.9)
    requests = [Request("Call me", None, arguments.tokens, options, seed=seed) for seed in range(LANES)]
    if decode(model, requests) != [decode(model, [request])[0] for request in requests]:
        print(
            "a text written with others differs from the one written alone; no speed is worth measuring",
            file=sys.stderr,
        )
        return 1
    speeds: dict[int, list[float]] = {1: [], LANES: []}
    for _ in range(arguments.rounds):
        for lanes, found in speeds.items():
            found.append(_speed(model, requests, lanes))
    medians = {lanes: statistics.median(found) for lanes, found in speeds.items()}
    result = {
        "bench": "decoding_speed",
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} processors",
        "torch": torch.__version__,
        "model": f"default, RWKV-{model.config.generation}",
        "texts": LANES,
        "rounds": arguments.rounds,
        "identical_to_alone": True,
        "tokens_per_second": {str(lanes): round(speed) for lanes, speed in medians.items()},
        "ratio": round(medians[LANES] / medians[1], 1),
    }
    print(json.dumps(result))
    return 0


def _speed(model: Model, requests: list[Request], lanes: int) -> float:
    start = time.process_time()
    texts = decode(model, requests, lanes)
    return sum(len(text.tokens) for text in texts) / (time.process_time() - start)


if __name__ == "__main__":
    sys.exit(main())
