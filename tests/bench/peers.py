"""Compares prefill and decode with llama.cpp and the `rwkv` package, on the same weights and threads.

    python -m tests.bench.peers FOLDER [--dtypes fp32 bf16 int8 int4] [--rounds 5] [--threads 1]

FOLDER receives random weights in the shape of RWKV-7 0.1B. All take turns in every round. Of one thread the speeds are
tokens per second of processor time, so that other processes on the machine hardly count, of several by the wall clock.
llama.cpp (llama-cpp-python) reads the GGUF files, the `rwkv` package the .pth in float32, where they are installed. The
precisions are first held to float32. Beside them stands the ceiling: the large products of a window alone, at the rate
of the library that computes them. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

import rwkv_runtime
from rwkv_runtime.synthetic import Shape
from tests.bench.peer_models import SIZE, Turns, facts, made, seconds_in_turns

PROMPT, WRITTEN, LANES, STEPS = 512, 16, 32, 8
LARGEST_ERROR = {"fp32": 1e-5, "bf16": 0.01, "int8": 0.03, "int4": 0.2}


@dataclass(frozen=True)
class Contestant:
    """What is timed: a prompt up to the logits of its last token, single tokens, and tokens in many lanes."""

    prefill: Callable[[], object]
    decode: Callable[[], object]
    batch: Callable[[], object] | None = None


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    pth, ggufs = made(arguments.folder)
    tokens = [(place * 7919 + 13) % 65000 + 1 for place in range(PROMPT)]
    contestants, errors = ours(pth, arguments.dtypes, tokens)
    if bad := [name for name, error in errors.items() if error > LARGEST_ERROR[name]]:
        print(f"{bad[0]} is {errors[bad[0]]:.1e} off; no speed is worth measuring", file=sys.stderr)
        return 1
    if find_spec("llama_cpp"):
        kinds = {path.stem.rpartition("-")[2]: path for path in ggufs}
        contestants |= {f"llama.cpp {kind}": llama(path, tokens, arguments.threads) for kind, path in kinds.items()}
    if find_spec("rwkv"):
        contestants["rwkv package fp32"] = package(pth, tokens)
    turns = partial(seconds_in_turns, rounds=arguments.rounds, threads=arguments.threads)
    found = measured(contestants, turns) | {"ceiling": {"bf16": ceiling(turns)}}
    unit = "tokens_per_processor_second" if arguments.threads == 1 else "tokens_per_s"
    print(json.dumps({**facts("peers", arguments.rounds, arguments.threads), "errors": errors, unit: found}))
    return 0


def measured(contestants: dict[str, Contestant], turns: Turns) -> dict[str, dict[str, float]]:
    """Tokens a second of each contestant."""
    kinds = {
        "prefill": (PROMPT, {name: one.prefill for name, one in contestants.items()}),
        "decode": (WRITTEN, {name: one.decode for name, one in contestants.items()}),
        f"decode of {LANES}": (LANES * STEPS, {n: one.batch for n, one in contestants.items() if one.batch}),
    }
    found: dict[str, dict[str, float]] = {name: {} for name in contestants}
    for kind, (count, work) in kinds.items():
        for name, seconds in turns(work).items():
            found[name][kind] = round(count / seconds, 1)
    return found


def ceiling(turns: Turns) -> float:
    """Tokens a second if the large bfloat16 products of a window were all there is to do."""
    shape = Shape.named(SIZE)
    width, rows = shape.width, torch.randn(PROMPT, shape.width).bfloat16()
    square, key = torch.randn(width, width).bfloat16(), torch.randn(4 * width, width).bfloat16()
    value, hidden = torch.randn(width, 4 * width).bfloat16(), torch.randn(PROMPT, 4 * width).bfloat16()

    def products() -> None:
        for _ in range(shape.layers):
            for _ in range(4):
                F.linear(rows, square)
            F.linear(rows, key)
            F.linear(hidden, value)

    return round(PROMPT / turns({"products": products})["products"], 1)


def ours(path: Path, dtypes: list[str], tokens: list[int]) -> tuple[dict[str, Contestant], dict[str, float]]:
    """Our precisions, and the relative error of each one's hidden states against torch in float32."""
    exact = rwkv_runtime.load(path, kernels="torch")
    expected = exact.forward(tokens, exact.initial_state()).hidden
    contestants, errors = {}, {}
    for dtype in dtypes:
        model = rwkv_runtime.load(path, dtype=dtype)
        hidden = model.forward(tokens, model.initial_state()).hidden
        errors[dtype] = float((hidden - expected).norm() / expected.norm())
        contestants[f"unspool {dtype}"] = _our_own(model, tokens)
    return contestants, errors


def _our_own(model: rwkv_runtime.Model, tokens: list[int]) -> Contestant:
    def write() -> None:
        state = model.initial_state()
        for token in range(1, WRITTEN + 1):
            state = model.forward([token], state).state

    def write_many() -> None:
        lanes, older = model.initial_lanes(LANES), None
        for _ in range(STEPS):
            _, after = model.step(range(1, LANES + 1), lanes, older)
            lanes, older = after, lanes

    return Contestant(lambda: model.prefill(tokens, model.initial_state()), write, write_many)


def llama(path: Path, tokens: list[int], threads: int) -> Contestant:
    """llama.cpp, as its Python package calls it; batches by its C interface."""
    import llama_cpp

    sizes = {"n_ctx": 8192, "n_batch": PROMPT, "n_ubatch": PROMPT}
    model = llama_cpp.Llama(str(path), **sizes, n_threads=threads, n_threads_batch=threads, verbose=False)

    def prefill() -> None:
        model.reset()
        model.eval(tokens)

    def write() -> None:
        for token in range(1, WRITTEN + 1):
            model.eval([token])

    return Contestant(prefill, write, _llama_lanes(path, threads))


def _llama_lanes(path: Path, threads: int) -> Callable[[], object]:
    import llama_cpp

    options = llama_cpp.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = 8192, LANES, LANES, LANES
    options.n_threads = options.n_threads_batch = threads
    weights = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    context = llama_cpp.llama_init_from_model(weights, options)
    batch, written = llama_cpp.llama_batch_init(LANES, 0, 1), [0]

    def write() -> None:
        for _ in range(STEPS):
            batch.n_tokens = LANES
            for lane in range(LANES):
                batch.token[lane], batch.pos[lane], batch.logits[lane] = lane + 1, written[0], 1
                batch.n_seq_id[lane], batch.seq_id[lane][0] = 1, lane
            if llama_cpp.llama_decode(context, batch):
                raise RuntimeError(f"llama.cpp could not decode {LANES} lanes of {path.name}")
            written[0] += 1

    return write


def package(path: Path, tokens: list[int]) -> Contestant:
    """The official package, in float32 as on every CPU."""
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    from rwkv.model import RWKV

    model = RWKV(model=str(path.with_suffix("")), strategy="cpu fp32")

    def write() -> None:
        state = None
        for token in range(1, WRITTEN + 1):
            _, state = model.forward([token], state)

    return Contestant(lambda: model.forward(tokens, None), write)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prefill and decode beside llama.cpp and the rwkv package.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=[*LARGEST_ERROR], choices=list(LARGEST_ERROR))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
