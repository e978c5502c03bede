"""Compares prefill and decode with llama.cpp and the `rwkv` package, on the same weights and threads.

    python -m tests.bench.peers FOLDER [--dtypes fp32 bf16 int8 int4] [--rounds 5] [--threads 1]

FOLDER receives random weights in the shape of RWKV-7 0.1B. All take turns in every round, each in a process of its own:
beside torch's threads in the same process llama.cpp reads a third more slowly. Of one thread the speeds are tokens per
second of processor time, so that other processes on the machine hardly count, of several by the wall clock.
llama.cpp (llama-cpp-python) reads the GGUF files, the `rwkv` package the .pth in float32, where they are installed. The
precisions are first held to float32. Beside them stands the ceiling: the large products of a window alone, at the rate
of the library that computes them. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

import rwkv_runtime
from rwkv_runtime.synthetic import Shape
from tests.bench.peer_models import SIZE, facts, made

PROMPT, WRITTEN, LANES, STEPS = 512, 16, 32, 8
LARGEST_ERROR = {"fp32": 1e-5, "bf16": 0.01, "int8": 0.03, "int4": 0.2}


@dataclass(frozen=True)
class Contestant:
    """What is timed: a prompt up to the logits of its last token, single tokens, and tokens in many lanes."""

    prefill: Callable[[], object]
    decode: Callable[[], object] | None = None
    batch: Callable[[], object] | None = None


def main() -> int:
    arguments = _arguments()
    pth, ggufs = made(arguments.folder)
    errors = errors_of(pth, arguments.dtypes)
    if bad := [name for name, error in errors.items() if error > LARGEST_ERROR[name]]:
        print(f"{bad[0]} is {errors[bad[0]]:.1e} off; no speed is worth measuring", file=sys.stderr)
        return 1
    makers = {f"unspool {dtype}": partial(ours, pth, dtype) for dtype in arguments.dtypes}
    if find_spec("llama_cpp"):
        kinds = {path.stem.rpartition("-")[2]: path for path in ggufs}
        makers |= {f"llama.cpp {kind}": partial(llama, path, arguments.threads) for kind, path in kinds.items()}
    if find_spec("rwkv"):
        makers["rwkv package fp32"] = partial(package, pth)
    makers["ceiling"] = ceiling
    with ExitStack() as stack:
        rivals = {name: stack.enter_context(rival(make, arguments.threads)) for name, make in makers.items()}
        found = measured(rivals, arguments.rounds)
    unit = "tokens_per_processor_second" if arguments.threads == 1 else "tokens_per_s"
    print(json.dumps({**facts("peers", arguments.rounds, arguments.threads), "errors": errors, unit: found}))
    return 0


@contextmanager
def rival(make: Callable[[], Contestant], threads: int) -> Iterator[Connection]:
    """A contestant in a process of its own. Sent a kind of work, it does it and answers with the seconds, or None."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=compete, args=(make, threads, there), daemon=True)
    process.start()
    try:
        yield here
    finally:
        here.send(None)
        process.join()


def compete(make: Callable[[], Contestant], threads: int, told: Connection) -> None:
    """What runs in that process."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    contestant = make()
    work = {"prefill": contestant.prefill, "decode": contestant.decode, f"decode of {LANES}": contestant.batch}
    while (kind := told.recv()) is not None:
        one, started = work[kind], clock()
        if one is not None:
            one()
        told.send(clock() - started if one is not None else None)


def measured(rivals: dict[str, Connection], rounds: int) -> dict[str, dict[str, float]]:
    """Tokens a second of each contestant: the medians of the rounds, after one to warm up."""
    kinds = {"prefill": PROMPT, "decode": WRITTEN, f"decode of {LANES}": LANES * STEPS}
    found: dict[str, dict[str, float]] = {name: {} for name in rivals}
    for kind, count in kinds.items():
        taken: dict[str, list[float]] = {name: [] for name in rivals}
        for number in range(rounds + 1):
            for name, told in rivals.items():
                told.send(kind)
                seconds = told.recv()
                if number and seconds is not None:
                    taken[name].append(seconds)
        for name, times in taken.items():
            if times:
                found[name][kind] = round(count / statistics.median(times), 1)
    return found


def ceiling() -> Contestant:
    """The large bfloat16 products of a prompt's window by themselves, as torch's library computes them."""
    shape = Shape.named(SIZE)
    width, rows = shape.width, torch.randn(PROMPT, shape.width).bfloat16()
    square, key = torch.randn(width, width).bfloat16(), torch.randn(4 * width, width).bfloat16()
    value, hidden = torch.randn(width, 4 * width).bfloat16(), torch.randn(PROMPT, 4 * width).bfloat16()

    def products() -> None:
        for layer in range(shape.layers):
            for _ in range(4):
                F.linear(rows, square)
            if layer + 1 < shape.layers:  # whose channel mix nobody needs but for the last token
                F.linear(rows, key)
                F.linear(hidden, value)

    return Contestant(products)


def prompt() -> list[int]:
    """The tokens that all read."""
    return [(place * 7919 + 13) % 65000 + 1 for place in range(PROMPT)]


def errors_of(path: Path, dtypes: list[str]) -> dict[str, float]:
    """The relative error of each precision's hidden states against torch in float32."""
    exact = rwkv_runtime.load(path, kernels="torch")
    expected, errors = exact.forward(prompt(), exact.initial_state()).hidden, {}
    for dtype in dtypes:
        model = rwkv_runtime.load(path, dtype=dtype)
        hidden = model.forward(prompt(), model.initial_state()).hidden
        errors[dtype] = float((hidden - expected).norm() / expected.norm())
    return errors


def ours(path: Path, dtype: str) -> Contestant:
    """Unspool in one precision."""
    model, tokens = rwkv_runtime.load(path, dtype=dtype), prompt()

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


def llama(path: Path, threads: int) -> Contestant:
    """llama.cpp, as its Python package calls it; batches by its C interface."""
    import llama_cpp

    sizes = {"n_ctx": 8192, "n_batch": PROMPT, "n_ubatch": PROMPT}
    model = llama_cpp.Llama(str(path), **sizes, n_threads=threads, n_threads_batch=threads, verbose=False)

    def prefill() -> None:
        model.reset()
        model.eval(prompt())

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


def package(path: Path) -> Contestant:
    """The official package, in float32 as on every CPU."""
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    from rwkv.model import RWKV

    model = RWKV(model=str(path.with_suffix("")), strategy="cpu fp32")

    def write() -> None:
        state = None
        for token in range(1, WRITTEN + 1):
            _, state = model.forward([token], state)

    return Contestant(lambda: model.forward(prompt(), None), write)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prefill and decode beside llama.cpp and the rwkv package.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=[*LARGEST_ERROR], choices=list(LARGEST_ERROR))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
