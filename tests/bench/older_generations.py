"""Compares prefill of RWKV-4, 5.2 and 6 with the `rwkv` package in one precision, random weights in the 0.1B shape.

    python -m tests.bench.older_generations FOLDER [--dtypes fp32 bf16] [--rounds 5] [--threads 1]

FOLDER receives the weights. Of one thread the times are of the processor, of several by the wall clock, in turns; last
logits are first held to the package's in float32.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch

import rwkv_runtime
from rwkv_runtime.synthetic import Shape
from tests.bench.peer_models import SIZE, Turns, facts, seconds_in_turns
from tests.rwkv_runtime.tiny import tiny_tensors

GENERATIONS, PROMPT = ("4", "5.2", "6"), 512
LARGEST_ERROR = {"fp32": 1e-3, "bf16": 5e-2}


def main() -> int:
    parser = argparse.ArgumentParser(description="Prefill of older generations beside the rwkv package.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=["fp32"], choices=list(LARGEST_ERROR))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    turns = partial(seconds_in_turns, rounds=arguments.rounds, threads=arguments.threads)
    with contextlib.redirect_stdout(sys.stderr):  # the package prints every tensor
        found = {
            f"{name} {dtype}": compared(arguments.folder, name, dtype, turns)
            for dtype in arguments.dtypes
            for name in GENERATIONS
        }
    print(json.dumps({**facts("older_generations", arguments.rounds, arguments.threads), "prefill": found}))
    return int(any(one["error"] > LARGEST_ERROR[name.split()[1]] for name, one in found.items()))


def compared(folder: Path, generation: str, dtype: str, turns: Turns) -> dict[str, float]:
    """Tokens a second of both, the ratio, and how far our last logits are from the package's in float32, relative."""
    os.environ |= {"RWKV_V7_ON": "0", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    from rwkv.model import RWKV

    shape, path = Shape.named(SIZE), folder / f"rwkv{generation}-{SIZE}.pth"
    if not path.exists():
        sizes = {"vocabulary": shape.vocabulary, "width": shape.width, "head_size": 64, "layers": shape.layers}
        torch.save(tiny_tensors(generation=generation, **sizes), path)
    tokens = [(place * 7919 + 13) % 65000 + 1 for place in range(PROMPT)]
    expected = RWKV(model=str(path.with_suffix("")), strategy="cpu fp32").forward(tokens, None)[0].float()
    theirs = RWKV(model=str(path.with_suffix("")), strategy=f"cpu {dtype}")
    ours = rwkv_runtime.load(path, dtype=dtype)
    logits = ours.forward(tokens, ours.initial_state()).logits
    work = {"theirs": lambda: theirs.forward(tokens, None), "ours": lambda: ours.forward(tokens, ours.initial_state())}
    seconds = turns(work)
    return {
        **{f"{name}_tokens_per_s": round(PROMPT / one, 1) for name, one in seconds.items()},
        "ratio": round(seconds["theirs"] / seconds["ours"], 2),
        "error": float((logits - expected).norm() / expected.norm()),
    }


if __name__ == "__main__":
    sys.exit(main())
