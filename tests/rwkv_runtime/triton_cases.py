"""The Triton kernels against the slow recurrences, at small shapes. Run in a process of its own: see `main`.

The interpreter has to be chosen before triton is first imported, so test_triton_kernels.py starts this module with
TRITON_INTERPRET=1. On a GPU tests/bench/gpu.py calls the same cases with that device.

    TRITON_INTERPRET=1 python -m tests.rwkv_runtime.triton_cases [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rwkv_runtime import generations
from rwkv_runtime.decode_graph import GraphDecoder
from rwkv_runtime.kernels.wkv4 import EMPTY, Sums
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.model import Model
from rwkv_runtime.norms import HeadNorm, Norm
from rwkv_runtime.operations import (
    Operations,
    Parameters4,
    Parameters6,
    Parameters7,
    Steps4,
    Steps6,
    Steps7,
    Stream,
    TorchOperations,
)
from rwkv_runtime.placement import Plan
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import ByteTokenizer, tiny_tensors, tokens_of

SHAPES = [((5, 1, 0, 16), 2, 16), ((39, 0, 7), 1, 32), ((65,), 2, 16), ((20, 33), 1, 64), ((20,), 1, 128)]
KINDS = ("usual", "forgetting", "remembering", "mixed")
WITHIN = {torch.float32: 3e-5, torch.bfloat16: 8e-3}


@dataclass
class Draw:
    """Seeded tensors on a device."""

    seed: int
    device: torch.device
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, *shape: int, dtype: torch.dtype = torch.float32, spread: float = 1.0) -> Tensor:
        return (spread * torch.randn(shape, generator=self.generator)).to(self.device, dtype)

    def decays(self, kind: str, *shape: int) -> Tensor:
        """Numbers before a sigmoid or a double exponential: usual, extreme one way, the other, or both by turns."""
        drawn = self(*shape, spread=2.0)
        shifts = {"usual": torch.zeros(()), "forgetting": torch.tensor(6.0), "remembering": torch.tensor(-9.0)}
        either = torch.where(torch.rand(shape, generator=self.generator) < 0.5, 6.0, -12.0)
        return drawn + shifts.get(kind, either).to(self.device)


class Slow(TorchOperations):
    """The specification: torch in float32 with the slow recurrences, whatever the number of tokens."""

    def time_mix7(self, steps: Steps7, own: Parameters7, wkv: Tensor, lengths: Sequence[int]) -> Any:
        return self._by_token(lambda s, m, n: super(Slow, self).time_mix7(s, own, m, n), steps, wkv, lengths)

    def time_mix6(self, steps: Steps6, own: Parameters6, wkv: Tensor, lengths: Sequence[int]) -> Any:
        return self._by_token(lambda s, m, n: super(Slow, self).time_mix6(s, own, m, n), steps, wkv, lengths)

    def time_mix4(self, steps: Steps4, own: Parameters4, sums: Sums, lengths: Sequence[int]) -> Any:
        return self._by_token(lambda s, m, n: super(Slow, self).time_mix4(s, own, m, n), steps, sums, lengths)

    def _by_token(self, mix: Callable[..., Any], steps: Any, memory: Any, lengths: Sequence[int]) -> Any:
        """One token at a time, of which torch takes the recurrence that is the specification."""
        parts, others = [], []
        for t in range(steps.key.shape[1]):
            one = type(steps)(*(None if x is None else x[:, t : t + 1].float() for x in steps))
            mixed, memory, *more = mix(one, memory, [int(t < n) for n in lengths])
            parts.append(mixed)
            others.append(more)
        handed = [torch.cat(x, 1) for x in zip(*others, strict=True)]
        return torch.cat(parts, 1), memory, *handed


def cases(device: torch.device) -> Iterator[tuple[str, Callable[[], float]]]:
    """Every case: what is claimed, and a function that gives its largest error over what is allowed (at most 1)."""
    for name, case in {"time mix 7": mix7, "time mix 6": mix6, "time mix 5": mix5, "time mix 4": mix4}.items():
        for seed, (lengths, heads, size) in enumerate(SHAPES):
            for kind in KINDS if case in (mix7, mix6) and seed < 3 else KINDS[-1:]:
                dtype = torch.bfloat16 if seed == 1 else torch.float32
                yield (
                    f"{name} {kind} {lengths} {heads}x{size} {dtype}",
                    lambda a=(case, device, seed, lengths, heads, size, kind, dtype): a[0](*a[1:]),
                )
    yield "removals that repeat and never fade", lambda: repeated(device)
    yield "removals that repeat for 320 tokens in bf16", lambda: repeated(device, 320, 16, torch.bfloat16)
    yield "memory in its place", lambda: in_place(device)
    for lengths, width in [((37,), 64), ((0, 5, 1), 7), ((16, 3), 100), ((1,), 256)]:
        yield f"enter {lengths} {width}", lambda a=(lengths, width): enter(device, *a)
        yield f"mixed by {lengths} {width}", lambda a=(lengths, width): mixed_by(device, *a)
    yield "squared ReLU", lambda: squared_relu(device)
    for generation in ("4", "5.0", "5.2", "6", "7"):
        yield f"model {generation}", lambda a=generation: whole_model(device, a, "fp32")
    yield "model written by a decoder", lambda: decoder(device)
    for precision in ("bf16", "int8"):
        yield f"model 7 in {precision}", lambda a=precision: whole_model(device, "7", a)


def triton_operations() -> Any:
    """Imported late: triton reads TRITON_INTERPRET when it is."""
    from rwkv_runtime.triton.operations import TritonOperations

    class Poisoned(TritonOperations):
        """Whose memories start as NaN."""

        def memory_after(self, memory: Tensor) -> Tensor:
            return torch.full_like(memory, float("nan"))

    return Poisoned()


def excess(found: Tensor, exact: Tensor, lengths: Sequence[int] | None, dtype: torch.dtype) -> float:
    """The relative error over what is allowed, of the rows that count; infinite for a NaN among them."""
    if lengths is not None:
        found, exact = ([x[i, :n] for i, n in enumerate(lengths)] for x in (found, exact))
        found, exact = torch.cat(found), torch.cat(exact)
    if not torch.isfinite(found).all():
        return float("inf")
    error = (found.double() - exact.double()).norm() / (exact.double().norm() + 1e-9)
    return float(error) / WITHIN[dtype]


def compared(mix: str, steps: Any, own: Any, memory: Any, lengths: Sequence[int], dtype: torch.dtype) -> float:
    """Compare a time mix with the slow one; a lane without a token must keep its memory to the bit."""
    poisoned = [None if x is None else x.to(dtype if x.dtype == dtype else x.dtype).clone() for x in steps]
    for x in poisoned:
        for lane, n in enumerate(lengths):
            if x is not None:
                x[lane, n:] = float("nan")
    found = getattr(triton_operations(), mix)(type(steps)(*poisoned), own, memory, lengths)
    clean = type(steps)(*(None if x is None else x.float() for x in steps))
    exact = getattr(Slow(), mix)(clean, own, memory, lengths)
    errors = [excess(found[0], exact[0], lengths, dtype)]
    for new, wanted, old in zip(_parts(found[1]), _parts(exact[1]), _parts(memory), strict=True):
        errors.append(excess(new, wanted, None, dtype))
        still = [lane for lane, n in enumerate(lengths) if n == 0]
        if not torch.equal(new[still], old[still]):
            return float("inf")
    return max(errors)


def _parts(memory: Any) -> list[Tensor]:
    return [memory] if isinstance(memory, Tensor) else list(memory)


def mix7(device, seed, lengths, heads, size, kind, dtype, first=True) -> float:
    draw, lanes, tokens, width = Draw(seed, device), len(lengths), max(lengths), heads * size
    rows = lambda: draw(lanes, tokens, width, dtype=dtype)  # noqa: E731
    late = seed % 2 == 0
    steps = Steps7(
        rows(), rows(), rows(), rows(), draw.decays(kind, lanes, tokens, width), draw(lanes, tokens, width, spread=3.0),
        draw(lanes, tokens, width) if late else None, rows() if late else None,
    )  # fmt: skip
    own = Parameters7(
        *(draw(width) for _ in range(2)), draw(width) if late else None, draw(width), draw(width), draw(heads, size),
        HeadNorm(draw(width), draw(width)), -0.606531,
    )  # fmt: skip
    return compared("time_mix7", steps, own, draw(lanes, heads, size, size), lengths, dtype)


def mix6(device, seed, lengths, heads, size, kind, dtype) -> float:
    draw, lanes, tokens, width = Draw(seed, device), len(lengths), max(lengths), heads * size
    steps = Steps6(
        *(draw(lanes, tokens, width, dtype=dtype) for _ in range(4)), draw.decays(kind, lanes, tokens, width)
    )
    own = Parameters6(draw(width), draw(heads, size), HeadNorm(draw(width), draw(width)))
    return compared("time_mix6", steps, own, draw(lanes, heads, size, size), lengths, dtype)


def mix5(device, seed, lengths, heads, size, kind, dtype) -> float:
    draw, lanes, tokens, width = Draw(seed, device), len(lengths), max(lengths), heads * size
    gate = draw(lanes, tokens, width, dtype=dtype) if seed % 2 else None
    steps = Steps6(*(draw(lanes, tokens, width, dtype=dtype) for _ in range(3)), gate, None)
    own = Parameters6(draw.decays(kind, width), draw(heads, size), HeadNorm(draw(width), draw(width)))
    return compared("time_mix6", steps, own, draw(lanes, heads, size, size), lengths, dtype)


def mix4(device, seed, lengths, heads, size, kind, dtype) -> float:
    draw, lanes, tokens, width = Draw(seed, device), len(lengths), max(lengths), heads * size + 3
    steps = Steps4(*(draw(lanes, tokens, width, dtype=dtype, spread=4.0) for _ in range(3)))
    own = Parameters4(-draw.decays(kind, width).exp(), draw(width))
    empty = torch.zeros(lanes, width, device=device)
    sums = Sums(empty, empty, empty + EMPTY) if seed % 2 else Sums(draw(lanes, width), draw(lanes, width).exp(), empty)
    return compared("time_mix4", steps, own, sums, lengths, dtype)


def repeated(device: torch.device, tokens: int = 64, size: int = 16, dtype: torch.dtype = torch.float32) -> float:
    """The hardest chunk to invert: every token removes the same direction wholly, and nothing fades."""
    zeros = torch.zeros(1, tokens, size, device=device)
    draw, key = Draw(9, device), torch.ones(1, tokens, size, device=device, dtype=dtype)
    read, value = (draw(1, tokens, size, dtype=dtype) for _ in range(2))
    steps = Steps7(read, key, value, key, zeros - 40, zeros + 40, None, None)
    flat = torch.zeros(size, device=device)
    norm = HeadNorm(flat + 1, flat)
    own = Parameters7(flat, flat, None, flat + 1, flat, flat.view(1, size), norm, -0.606531)
    return compared("time_mix7", steps, own, draw(1, 1, size, size), [tokens], dtype)


def in_place(device: torch.device) -> float:
    """One token read in the memory's place gives what it gives in a new one, to the bit."""
    from rwkv_runtime.triton.operations import InPlaceOperations, TritonOperations

    draw, width = Draw(4, device), 32
    steps = Steps7(*(draw(3, 1, width) for _ in range(6)), None, None)
    own = Parameters7(
        draw(width), draw(width), None, draw(width), draw(width), draw(2, 16), HeadNorm(draw(width), draw(width)), -0.6
    )
    memory = draw(3, 2, 16, 16)
    wanted, after, _ = TritonOperations().time_mix7(steps, own, memory, [1, 0, 1])
    mixed, same, _ = InPlaceOperations().time_mix7(steps, own, memory, [1, 0, 1])
    fits = same.data_ptr() == memory.data_ptr() and torch.equal(memory, after) and torch.equal(mixed, wanted)
    return 0.0 if fits else float("inf")


def enter(device: torch.device, lengths: Sequence[int], width: int) -> float:
    draw, lanes, tokens, worst = Draw(width, device), len(lengths), max(lengths), 0.0
    norm, previous = Norm(draw(width), draw(width)), draw(lanes, width)
    for dtype, mixes in ((torch.float32, 6), (torch.bfloat16, 1)):
        stream, mix = (
            Stream(draw(lanes, tokens, width), draw(lanes, tokens, width, dtype=dtype)),
            draw(mixes, 1, 1, width),
        )
        for one in (stream, stream._replace(added=None)):
            found = triton_operations().enter(one, norm, previous, mix, lengths, dtype)
            exact = TorchOperations().enter(one, norm, previous, mix, lengths, dtype)
            same = torch.equal(found.x, exact.x)
            pairs = [(found.mixes[m], exact.mixes[m]) for m in range(mixes)]
            errors = [excess(a, b, lengths, dtype) for a, b in pairs] + [excess(found.last, exact.last, None, dtype)]
            worst = max([worst, *errors]) if same else float("inf")
    return worst


def mixed_by(device: torch.device, lengths: Sequence[int], width: int) -> float:
    draw, lanes, tokens = Draw(width, device), len(lengths), max(lengths)
    given = draw(lanes, tokens, width), draw(lanes, width), draw(5, lanes, tokens, width)
    found = triton_operations().mixed_by(*given, torch.float32)
    return excess(found, TorchOperations().mixed_by(*given, torch.float32), None, torch.float32)


def squared_relu(device: torch.device) -> float:
    x = Draw(1, device)(3, 7, 61)
    found = triton_operations().after_squared_relu(x.clone(), lambda rows: rows)
    return 0.0 if torch.equal(found, x.relu().square()) else float("inf")


def whole_model(device: torch.device, generation: str, precision: str) -> float:
    """A model with these kernels gives what torch gives, in any of its ways to read, with a state from one to the next.

    In bf16 and int8 it is as near to float32 as torch is, half as far again at most.
    """
    exact, plain, ours = (
        model_of(generation, device, one, operations)
        for one, operations in (
            ("fp32", TorchOperations()), (precision, TorchOperations()), (precision, triton_operations()),
        )
    )  # fmt: skip
    found, wanted, near = (hidden_states(model) for model in (ours, exact, plain))
    if precision == "fp32":
        return excess(found, wanted, None, torch.float32) / 10
    return float((found - wanted).norm() / (1.5 * (near - wanted).norm()))


def decoder(device: torch.device) -> float:
    """Steps in the memory's place give what the layers give, and leave a lane without a token alone."""
    from rwkv_runtime.triton.operations import InPlaceOperations, TritonOperations

    weights = Weights("tiny", tiny_tensors(layers=2, head_size=32))
    plan = Plan.uniform(device, PRECISIONS["fp32"]).computed_by(TritonOperations(), device.type)
    network = generations.read(weights, plan)
    lanes = {name: torch.stack([x] * 3, dim=1) for name, x in network.initial_state().items()}
    writer, worst = GraphDecoder(network, lanes, InPlaceOperations()), 0.0
    for tokens in ([5, 6, None], [7, None, 8]):
        logits, counts = writer.step(tokens), [int(token is not None) for token in tokens]
        residual, lanes = network.window(torch.tensor([[token or 0] for token in tokens]), lanes, counts)
        wanted = network.logits(network.final_norm(residual[:, 0]))
        pairs = [(logits[i], wanted[i]) for i in range(3) if counts[i]]
        pairs += [(writer.state[name], lanes[name]) for name in lanes]
        worst = max([worst, *(excess(a, b, None, torch.float32) for a, b in pairs)])
    return worst


def hidden_states(model: Model) -> Tensor:
    state = model.initial_state()
    rows = []
    for begin, end in ((0, 20), (20, 21)):
        output = model.forward(tokens_of(21)[begin:end], state)
        state = output.state
        rows.append(output.hidden)
    return torch.cat(rows)


def model_of(generation: str, device: torch.device, precision: str, operations: Operations) -> Model:
    weights = Weights("tiny", tiny_tensors(generation=generation, layers=2, head_size=32))
    plan = Plan.uniform(device, PRECISIONS[precision]).computed_by(operations, device.type)
    return Model(generations.read(weights, plan), ByteTokenizer(), "tiny")


def main() -> int:
    """Run every case; print a JSON object of name to excess, and return 1 if one is above 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    torch.use_deterministic_algorithms(True, warn_only=True)  # so that torch.empty is full of NaN
    with torch.inference_mode():
        found = {name: run() for name, run in cases(device)}
    sys.stdout.write(json.dumps(found) + "\n")
    return int(max(found.values()) > 1)


if __name__ == "__main__":
    raise SystemExit(main())
