"""Compares prefill of RWKV-4, 5.2 and 6 with the `rwkv` package: float32, random weights in the 0.1B shape, one thread.

    python -m tests.bench.older_generations FOLDER [--rounds 5]

FOLDER receives the weights. Times are of the processor, in turns; hidden states are first held to the package's logits.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

import torch

import rwkv_runtime
from rwkv_runtime.synthetic import Shape
from tests.bench.peer_models import SIZE, facts, seconds_in_turns
from tests.rwkv_runtime.tiny import tiny_tensors

GENERATIONS, PROMPT, LARGEST_ERROR = ("4", "5.2", "6"), 512, 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description="Prefill of older generations beside the rwkv package.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(sys.stderr):  # the package prints every tensor
        found = {name: compared(arguments.folder, name, arguments.rounds) for name in GENERATIONS}
    print(json.dumps({**facts("older_generations", arguments.rounds), "prefill": found}))
    return int(any(one["error"] > LARGEST_ERROR for one in found.values()))


def compared(folder: Path, generation: str, rounds: int) -> dict[str, float]:
    """Tokens a second of both, the ratio, and how far the last logits are apart, relative."""
    os.environ |= {"RWKV_V7_ON": "0", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    from rwkv.model import RWKV

    shape, path = Shape.named(SIZE), folder / f"rwkv{generation}-{SIZE}.pth"
    if not path.exists():
        sizes = {"vocabulary": shape.vocabulary, "width": shape.width, "head_size": 64, "layers": shape.layers}
        torch.save(tiny_tensors(generation=generation, **sizes), path)
    tokens = [(place * 7919 + 13) % 65000 + 1 for place in range(PROMPT)]
    theirs, ours = RWKV(model=str(path.with_suffix("")), strategy="cpu fp32"), rwkv_runtime.load(path)
    expected = theirs.forward(tokens, None)[0].float()
    logits = ours.forward(tokens, ours.initial_state()).logits
    work = {"theirs": lambda: theirs.forward(tokens, None), "ours": lambda: ours.forward(tokens, ours.initial_state())}
    seconds = seconds_in_turns(work, rounds)
    return {
        **{f"{name}_tokens_per_processor_second": round(PROMPT / one, 1) for name, one in seconds.items()},
        "ratio": round(seconds["theirs"] / seconds["ours"], 2),
        "error": float((logits - expected).norm() / expected.norm()),
    }


if __name__ == "__main__":
    sys.exit(main())
