"""Checks the kernels on an NVIDIA GPU and measures how fast models of the public shapes read and write there.

    python -m tests.bench.gpu [--out FOLDER] [--budget-s 520] [--only PART ...]

Needs torch with CUDA and triton, and nothing of the network: weights are drawn on the device. The parts run in the
order of their value, each in a process of its own with its own time limit, so that one that fails or hangs costs no
other; every finding is a JSON line in FOLDER/results.jsonl (by default $OUT, else the current folder) as soon as it is
there, a failure with its error. Kernels that are not right stop what is measured with them: no speed is printed then.
`--tiny` runs the same parts on a CPU at tiny shapes with torch's operations, to see that they run at all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_runtime import generations
from rwkv_runtime.decode_graph import GraphDecoder
from rwkv_runtime.layers import Stack
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.operations import TorchOperations
from rwkv_runtime.placement import Plan
from rwkv_runtime.weights import Weights

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shape:
    """A public RWKV-7 model: layers, width, and the ranks of its low-rank matrices (w, a, v, g)."""

    layers: int
    width: int
    ranks: tuple[int, int, int, int]
    vocabulary: int = 65536


SHAPES = {
    "0.1B": Shape(12, 768, (64, 64, 32, 128)),
    "1.5B": Shape(24, 2048, (96, 96, 64, 256)),
    "7.2B": Shape(32, 4096, (128, 128, 96, 480)),
    "14B": Shape(61, 4096, (192, 192, 128, 384)),
    "tiny": Shape(2, 64, (8, 8, 8, 8), 300),
}


class Drawn(Weights):
    """Random weights of a shape, drawn on the device when they are taken and never kept."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        super().__init__("drawn", {name: torch.empty(size, device="meta") for name, size in tensors_of(shape)})
        self._generator = torch.Generator(device).manual_seed(1)
        self._at = device

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor; matrices keep activations of order 1."""
        del self._tensors[name]
        spread = 1.0 if len(shape) < 2 else 1 / math.sqrt(shape[-1])
        return torch.randn(shape, generator=self._generator, device=self._at, dtype=torch.bfloat16) * spread


def tensors_of(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of every tensor."""
    width = shape.width
    yield from (("emb.weight", (shape.vocabulary, width)), ("head.weight", (shape.vocabulary, width)))
    for name in ("ln_out", "blocks.0.ln0"):
        yield from ((f"{name}.weight", (width,)), (f"{name}.bias", (width,)))
    for layer in range(shape.layers):
        block, att = f"blocks.{layer}.", f"blocks.{layer}.att."
        for name in (f"{block}ln1", f"{block}ln2", f"{att}ln_x"):
            yield from ((f"{name}.weight", (width,)), (f"{name}.bias", (width,)))
        yield from (
            (f"{att}{name}", (1, 1, width)) for name in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a")
        )
        yield f"{att}r_k", (width // 64 if width > 64 else 1, 64)
        yield from ((f"{att}{name}.weight", (width, width)) for name in ("receptance", "key", "value", "output"))
        for letter, rank in zip("wavg", shape.ranks, strict=True):
            if letter != "v" or layer:
                yield from ((f"{att}{letter}1", (width, rank)), (f"{att}{letter}2", (rank, width)))
                if letter != "g":
                    yield f"{att}{letter}0", (1, 1, width)
        yield f"{block}ffn.x_k", (1, 1, width)
        yield from ((f"{block}ffn.key.weight", (4 * width, width)), (f"{block}ffn.value.weight", (width, 4 * width)))


def network_of(shape: Shape, dtype: str, device: torch.device) -> Stack:
    """A model of a shape with the kernels of the device."""
    plan = Plan.uniform(device, PRECISIONS[dtype]).computed_by(operations_on(device), "cuda")
    drawn = Drawn(shape, device)
    network = generations.read(drawn, plan)
    drawn.finish()
    assert isinstance(network, Stack)
    return network


def operations_on(device: torch.device) -> Any:
    if device.type == "cpu":
        return TorchOperations()
    from rwkv_runtime.triton.operations import TritonOperations

    return TritonOperations()


def in_place_on(device: torch.device) -> Any:
    if device.type == "cpu":
        return TorchOperations()
    from rwkv_runtime.triton.operations import InPlaceOperations

    return InPlaceOperations()


def matrix_flops(shape: Shape) -> int:
    """Floating-point operations of a token in the matrices of all layers, without the head."""
    return 2 * shape.layers * (12 * shape.width**2 + 2 * shape.width * sum(shape.ranks))


@dataclass(frozen=True)
class Bench:
    """Where is measured, and at what size."""

    device: torch.device
    tiny: bool

    def shape(self, name: str) -> Shape:
        return SHAPES["tiny" if self.tiny else name]

    def sized(self, count: int, tiny: int) -> int:
        return tiny if self.tiny else count

    def seconds(self, run: Callable[[], object], rounds: int = 5) -> float:
        """The median of a few runs behind a warm-up, each to its end on the device."""
        run()
        found = []
        for _ in range(rounds):
            self.wait()
            begun = time.perf_counter()
            run()
            self.wait()
            found.append(time.perf_counter() - begun)
        return statistics.median(found)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    def matrix_peak(self) -> float:
        """Operations a second of a large bf16 product of random numbers."""
        size = self.sized(8192, 64)
        a, b = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * size**3 / self.seconds(lambda: a @ b, 10)

    def copy_rate(self) -> float:
        """Bytes a second that a large copy reads and writes."""
        count = self.sized(1 << 31, 1 << 16)
        a, b = (torch.zeros(count, dtype=torch.uint8, device=self.device) for _ in range(2))
        return 2 * count / self.seconds(lambda: a.copy_(b), 10)


def correctness(bench: Bench) -> Iterator[dict[str, Any]]:
    """Every kernel against the slow recurrence, at the shapes of the tests."""
    if bench.tiny:
        yield {"cases": 0, "worst": 0.0}
        return
    from tests.rwkv_runtime.triton_cases import cases

    found: dict[str, float] = {}
    for name, run in cases(bench.device):
        try:
            found[name] = run()
        except Exception as error:  # the other kernels are still to be looked at
            yield {"case": name, "error": f"{type(error).__name__}: {error}"[-1500:]}
            found[name] = math.inf
    bad = {name: excess for name, excess in found.items() if not excess <= 1}
    yield {"cases": len(found), "worst": max(found.values()), "bad": bad}
    if bad:
        raise SystemExit(f"{len(bad)} of {len(found)} cases are not right")


def repeated(bench: Bench) -> Iterator[dict[str, Any]]:
    """Keys that repeat for hundreds of tokens and never fade, in bf16 and float32: the error over what is allowed.

    Matrix units that cut float32 short (TF32) show here first.
    """
    if bench.tiny:
        yield {"tokens": 0, "excess": 0.0}
        return
    from tests.rwkv_runtime import triton_cases

    for dtype in (torch.bfloat16, torch.float32):
        for tokens in (320, 1024):
            yield {
                "tokens": tokens, "dtype": str(dtype),
                "excess": triton_cases.repeated(bench.device, tokens, 64, dtype),
            }  # fmt: skip


def independence(bench: Bench) -> Iterator[dict[str, Any]]:
    """Whether a lane's bits depend on its neighbours or its place, at a fixed shape."""
    network = network_of(bench.shape("0.1B"), "bf16", bench.device)
    lanes, width = 8, bench.sized(512, 32)
    tokens = torch.randint(0, network.config.vocab_size, (lanes, width))
    state = lanes_of(network, lanes)
    with torch.inference_mode():
        whole, _ = network.window(tokens, state, [width] * lanes)
        turned, _ = network.window(tokens.roll(3, 0), state, [width] * lanes)
        ragged, _ = network.window(tokens, state, [width - lane for lane in range(lanes)])
    yield {
        "same_at_another_place": torch.equal(whole.roll(3, 0), turned),
        "same_beside_others": all(torch.equal(whole[i, : width - i], ragged[i, : width - i]) for i in range(lanes)),
    }


def prefill_1b5(bench: Bench) -> Iterator[dict[str, Any]]:
    """The shape of 1.5B, bf16, several windows."""
    yield from _prefill(bench, "1.5B", "bf16", [(1, 8192), (4, 4096), (8, 2048), (16, 512)])


def prefill_0b1(bench: Bench) -> Iterator[dict[str, Any]]:
    """The shape of 0.1B, bf16."""
    yield from _prefill(bench, "0.1B", "bf16", [(1, 8192), (16, 2048)])


def prefill_7b(bench: Bench) -> Iterator[dict[str, Any]]:
    """The shape of 7.2B, bf16 and int8."""
    for dtype in ("bf16", "int8"):
        yield from _prefill(bench, "7.2B", dtype, [(1, 4096), (4, 2048)])


def _prefill(bench: Bench, name: str, dtype: str, windows: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    shape, peak = bench.shape(name), bench.matrix_peak()
    network = network_of(shape, dtype, bench.device)
    for lanes, width in [(1, 48)] if bench.tiny else windows:
        tokens = torch.randint(0, shape.vocabulary, (lanes, width))
        state = lanes_of(network, lanes)

        def read(tokens: Tensor = tokens, state: dict[str, Tensor] = state, lengths: int = width) -> None:
            with torch.inference_mode():
                network.window(tokens, state, [lengths] * len(tokens))

        speed = lanes * width / bench.seconds(read)
        yield {
            "model": name, "dtype": dtype, "lanes": lanes, "window": width, "tokens_per_second": round(speed),
            "matrix_peak_tflops": round(peak / 1e12, 1), "share_of_peak": round(speed * matrix_flops(shape) / peak, 4),
            "peak_bytes": bench.peak_bytes(),
        }  # fmt: skip
    yield {"model": name, "dtype": dtype, "lanes": lanes, "window": width, "kernels_us": profile(bench, read)}


def profile(bench: Bench, run: Callable[[], None]) -> dict[str, int]:
    """Microseconds of the kernels that take the longest, each name's together, in one run."""
    if bench.device.type == "cpu":
        return {}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        run()
        bench.wait()
    spent = {event.key[:70]: int(event.self_device_time_total) for event in found.key_averages()}
    return dict(sorted(spent.items(), key=lambda item: -item[1])[:14])


def long_document(bench: Bench) -> Iterator[dict[str, Any]]:
    """100,000 tokens through the shape of 14B in int8 and bf16, and whether memory grows with the length."""
    shape, width = bench.shape("14B"), bench.sized(4096, 32)
    for dtype in ("int8", "bf16"):
        network = network_of(shape, dtype, bench.device)
        tokens = torch.randint(0, shape.vocabulary, (1, bench.sized(100_000, 70)))
        peaks, state = [], lanes_of(network, 1)
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            network.advance(tokens[:, :width], state, [width])
            bench.wait()
            begun = time.perf_counter()
            for begin in range(0, tokens.shape[1], width):
                part = tokens[:, begin : begin + width]
                count = part.shape[1]
                part = torch.nn.functional.pad(part, (0, width - count))
                state = network.advance(part, state, [count])
                peaks.append(bench.peak_bytes())
            bench.wait()
        yield {
            "model": "14B", "dtype": dtype, "tokens": tokens.shape[1], "window": width,
            "seconds": round(time.perf_counter() - begun, 3), "peak_bytes": peaks[-1],
            "grown_bytes_after_the_first_window": peaks[-1] - peaks[0],
            "finite": all(bool(torch.isfinite(x).all()) for x in state.values()),
        }  # fmt: skip
        del network


def decode_7b(bench: Bench) -> Iterator[dict[str, Any]]:
    """The shape of 7.2B at 1, 64 and 512 lanes."""
    yield from _decode(bench, "7.2B", [("bf16", 512), ("bf16", 64), ("bf16", 1), ("int8", 1)])


def decode_small(bench: Bench) -> Iterator[dict[str, Any]]:
    """The shapes of 1.5B and 0.1B."""
    for name in ("1.5B", "0.1B"):
        yield from _decode(bench, name, [("bf16", 512), ("bf16", 64), ("bf16", 1)])


def _decode(bench: Bench, name: str, runs: list[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    shape, rate = bench.shape(name), bench.copy_rate()
    networks = {dtype: network_of(shape, dtype, bench.device) for dtype in {dtype for dtype, _ in runs}}
    for dtype, lanes in [("bf16", 2)] if bench.tiny else runs:
        network = networks[dtype]
        decoder = GraphDecoder(network, lanes_of(network, lanes), in_place_on(bench.device))
        tokens = torch.randint(0, shape.vocabulary, (lanes,)).tolist()

        def step(decoder: GraphDecoder = decoder, tokens: list[int] = tokens) -> None:
            for _ in range(8):
                decoder.step(tokens)

        seconds = bench.seconds(step) / 8
        moved = weight_bytes(shape, dtype) + 2 * sum(x.nbytes for x in decoder.state.values())
        yield {
            "model": name, "dtype": dtype, "lanes": lanes, "tokens_per_second": round(lanes / seconds),
            "bytes_a_second_of_copy": round(rate), "share_of_copy": round(moved / seconds / rate, 4),
            "finite": all(bool(torch.isfinite(x).all()) for x in decoder.state.values()),
            "peak_bytes": bench.peak_bytes(), "kernels_us": profile(bench, step),
        }  # fmt: skip


def weight_bytes(shape: Shape, dtype: str) -> int:
    """What one step has to read of the weights."""
    return (matrix_flops(shape) // 2 + shape.vocabulary * shape.width) * {"bf16": 2, "int8": 1}[dtype]


def graphs(bench: Bench) -> Iterator[dict[str, Any]]:
    """Whether recorded steps give what steps without a recording give, and leave a lane without a token alone."""
    network = network_of(bench.shape("0.1B"), "fp32", bench.device)
    lanes, worst = lanes_of(network, 3), 0.0
    decoder = GraphDecoder(network, lanes, in_place_on(bench.device))
    for tokens in ([5, 6, None], [7, None, 8], [9, 10, 11]):
        logits = decoder.step(tokens)
        rows = torch.tensor([[token or 0] for token in tokens])
        counts = [int(token is not None) for token in tokens]
        with torch.inference_mode():
            residual, lanes = network.window(rows, lanes, counts)
            wanted = network.logits(network.final_norm(residual[:, 0]))
        pairs = [(logits[i], wanted[i]) for i in range(3) if counts[i]]
        pairs += [(decoder.state[name], lanes[name]) for name in lanes]
        worst = max([worst, *(float((a - b).norm() / (b.norm() + 1e-9)) for a, b in pairs)])
    yield {"worst_relative_difference": worst}
    if not worst < 1e-5:
        raise SystemExit("recorded steps differ")


def lanes_of(network: Stack, count: int) -> dict[str, Tensor]:
    """The first state in so many lanes."""
    return {name: torch.stack([x] * count, dim=1) for name, x in network.initial_state().items()}


PARTS: dict[str, tuple[Callable[[Bench], Iterator[dict[str, Any]]], int]] = {
    "correctness": (correctness, 150),
    "repeated": (repeated, 40),
    "independence": (independence, 40),
    "graphs": (graphs, 40),
    "prefill_1.5B": (prefill_1b5, 60),
    "long_document": (long_document, 110),
    "decode_7.2B": (decode_7b, 80),
    "prefill_0.1B": (prefill_0b1, 40),
    "decode_small": (decode_small, 70),
    "prefill_7.2B": (prefill_7b, 80),
}
"""In the order of their value, each with its limit in seconds."""


def facts(bench: Bench) -> dict[str, Any]:
    """What every line says of where it was measured."""
    named = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    card = torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.machine()
    return {"commit": named.stdout.strip() or "unknown", "card": card, "torch": torch.__version__}


def run_part(name: str, bench: Bench, results: Path) -> None:
    """One part in this process; what it finds is written as it comes."""
    with results.open("a", encoding="utf-8") as file:
        begun = time.monotonic()
        for found in PARTS[name][0](bench):
            line = {
                "bench": "gpu",
                "part": name,
                **facts(bench),
                **found,
                "after_s": round(time.monotonic() - begun, 1),
            }
            print(json.dumps(line), file=file, flush=True)
            print(json.dumps(line), flush=True)


def run_all(arguments: argparse.Namespace, results: Path) -> int:
    """Each part in a process of its own, within the time that is left."""
    ends, failed = time.monotonic() + arguments.budget_s, 0
    for name, (_, limit) in PARTS.items():
        if arguments.only and name not in arguments.only:
            continue
        left = min(limit, ends - time.monotonic())
        command = [sys.executable, "-m", "tests.bench.gpu", "--part", name, "--out", str(results.parent)]
        problem = "no time was left" if left < 5 else _problem(command + ["--tiny"] * arguments.tiny, left)
        if problem is not None:
            failed += 1
            line = json.dumps({"bench": "gpu", "part": name, "error": problem})
            print(line, flush=True)
            with results.open("a", encoding="utf-8") as file:
                print(line, file=file)
    return int(failed > 0)


def _problem(command: list[str], seconds: float) -> str | None:
    try:
        done = subprocess.run(command, cwd=REPOSITORY, timeout=seconds, stderr=subprocess.PIPE, text=True)
    except subprocess.TimeoutExpired:
        return f"took more than {seconds:.0f} s"
    return None if done.returncode == 0 else done.stderr[-2000:]


def main() -> int:
    """Run every part, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--budget-s", type=float, default=520)
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        print("torch sees no NVIDIA GPU here; --tiny runs the same parts at tiny shapes on a CPU", file=sys.stderr)
        return 2
    results = arguments.out / "results.jsonl"
    if arguments.part is None:
        return run_all(arguments, results)
    run_part(arguments.part, Bench(torch.device("cpu" if arguments.tiny else "cuda"), arguments.tiny), results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
