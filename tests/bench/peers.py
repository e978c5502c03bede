"""Compares prefill and decode with llama.cpp and the `rwkv` package, on the same weights, one thread each.

    python -m tests.bench.peers MODEL.pth MODEL-BF16.gguf ... [--dtypes fp32 bf16 int8] [--rounds 3]

Speeds are tokens per second of processor time, so that other processes on the machine hardly count; all take turns in
every round. llama.cpp (llama-cpp-python) reads the GGUF files, the `rwkv` package the .pth in float32, where they are
installed. The precisions are first held to float32. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

import rwkv_runtime
from jobs.bench import processor

PROMPT, WRITTEN = 512, 8
LARGEST_ERROR = {"fp32": 1e-5, "bf16": 0.01, "int8": 0.03}
Work = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(1)
    tokens = [(place * 7919 + 13) % 65000 + 1 for place in range(PROMPT)]
    work, errors = ours(arguments.pth, arguments.dtypes, tokens)
    if bad := [name for name, error in errors.items() if error > LARGEST_ERROR[name]]:
        print(f"{bad[0]} is {errors[bad[0]]:.1e} off; no speed is worth measuring", file=sys.stderr)
        return 1
    if find_spec("llama_cpp"):
        work |= {f"llama.cpp {path.stem}": llama(path, tokens) for path in arguments.gguf}
    if find_spec("rwkv"):
        work["rwkv package fp32"] = package(arguments.pth, tokens)
    found = {name: {} for name in work}
    for place, (what, count) in enumerate((("prefill", PROMPT), ("decode", WRITTEN))):
        for name, speed in in_turns({name: pair[place] for name, pair in work.items()}, arguments.rounds).items():
            found[name][what] = round(count * speed, 1)
    machine = f"{processor()}, 1 thread, load {os.getloadavg()[0]:.0f}"
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {"bench": "peers", "commit": head.stdout.strip() or "unknown"}
    result |= {"machine": machine, "torch": torch.__version__, "rounds": arguments.rounds}
    print(json.dumps({**result, "errors": errors, "tokens_per_processor_second": found}))
    return 0


def ours(path: Path, dtypes: list[str], tokens: list[int]) -> tuple[Work, dict[str, float]]:
    """Our precisions, and the relative error of each one's hidden states against torch in float32."""
    exact = rwkv_runtime.load(path, kernels="torch")
    expected = exact.forward(tokens, exact.initial_state()).hidden
    work, errors = {}, {}
    for dtype in dtypes:
        model = rwkv_runtime.load(path, dtype=dtype)
        hidden = model.forward(tokens, model.initial_state()).hidden
        errors[dtype] = float((hidden - expected).norm() / expected.norm())
        work[f"unspool {dtype}"] = (_prefill(model, tokens), _decode(model))
    return work, errors


def _prefill(model: rwkv_runtime.Model, tokens: list[int]) -> Callable[[], object]:
    return lambda: model.forward(tokens, model.initial_state())


def _decode(model: rwkv_runtime.Model) -> Callable[[], object]:
    def write() -> None:
        state = model.initial_state()
        for token in range(1, WRITTEN + 1):
            state = model.forward([token], state).state

    return write


def llama(path: Path, tokens: list[int]) -> tuple[Callable[[], object], Callable[[], object]]:
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=8192, n_batch=PROMPT, n_ubatch=PROMPT, n_threads=1, n_threads_batch=1, verbose=False
    )

    def prefill() -> None:
        model.reset()
        model.eval(tokens)

    return prefill, lambda: [model.eval([token]) for token in range(1, WRITTEN + 1)]


def package(path: Path, tokens: list[int]) -> tuple[Callable[[], object], Callable[[], object]]:
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    from rwkv.model import RWKV

    model = RWKV(model=str(path.with_suffix("")), strategy="cpu fp32")

    def write() -> None:
        state = None
        for token in range(1, WRITTEN + 1):
            _, state = model.forward([token], state)

    return lambda: model.forward(tokens, None), write


def in_turns(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """How often each can be done in a second of processor time: medians, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, one in work.items():
            started = time.process_time()
            one()
            if number:
                taken[name].append(time.process_time() - started)
    return {name: 1 / statistics.median(found) for name, found in taken.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prefill and decode beside llama.cpp and the rwkv package.")
    parser.add_argument("pth", type=Path)
    parser.add_argument("gguf", type=Path, nargs="*")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16", "int8"], choices=list(LARGEST_ERROR))
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
