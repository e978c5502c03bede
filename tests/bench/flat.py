"""Whether a token costs at the end of a million what it costs at the beginning: time and memory of the shipped model.

    python -m tests.bench.flat [--tokens 1000000] [--early 10000]

Reads that many tokens of an example document, over and over, from one state; then windows behind its end and behind its
first `--early` tokens take turns. Times are of the processor. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import torch

import rwkv_runtime
from rwkv_runtime.allocator import keep_freed_memory
from rwkv_runtime.memory import peak_memory_bytes
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from tests.bench.peer_models import facts

TEXT = Path(__file__).parents[2] / "examples" / "documents" / "moby-dick.txt"
WINDOW, TURNS = 512, 40


def main() -> int:
    parser = argparse.ArgumentParser(description="Time and memory a token, early and late in a long document.")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--early", type=int, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    model = rwkv_runtime.load()
    tokens = model.tokenizer.encode(TEXT.read_text("utf-8"))
    state, peaks, early = model.initial_state(), list[int](), None
    source = cycle(tokens)
    while state.tokens_seen < arguments.tokens:
        state = model.forward(list(islice(source, WINDOW)), state, "none").state
        if early is None and state.tokens_seen >= arguments.early:
            early = state
            peaks.append(peak_memory_bytes())
    peaks.append(peak_memory_bytes())
    assert early is not None
    times = {name: list[float]() for name in ("early", "late")}
    for turn in range(TURNS):
        for name, start in (("early", early), ("late", state)):
            times[name].append(seconds(model, tokens[turn * WINDOW : (turn + 1) * WINDOW], start))
    early_time, late_time = (statistics.median(times[name]) for name in ("early", "late"))
    found = {
        "tokens": state.tokens_seen,
        "early_microseconds_per_token": round(early_time / WINDOW * 1e6, 1),
        "late_microseconds_per_token": round(late_time / WINDOW * 1e6, 1),
        "late_over_early": round(late_time / early_time, 3),
        "growth_of_peak_mib": round((peaks[1] - peaks[0]) / 2**20, 1),
    }
    print(json.dumps({**facts("flat", TURNS), **found}))
    return 0


def seconds(model: Model, tokens: list[int], state: State) -> float:
    """Processor time of a window."""
    started = time.process_time()
    model.forward(tokens, state, "none")
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
