"""How fast models read and write: what `unspool bench` measures.

What is compared takes turns in every round, so that a busy moment hits all alike; ratios between rows of one run mean
more than any of them. A speed stands beside the error of the same build against torch in float32. Knows nothing of
tables, files or pictures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from rwkv_runtime.loading import operations_of
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.memory import peak_memory_bytes
from rwkv_runtime.model import Model
from rwkv_runtime.placement import CPU, Plan
from rwkv_runtime.state import State
from rwkv_runtime.synthetic import Shape, model

Name = TypeVar("Name", bound=Hashable)

PROMPT, WRITTEN, PROBE = 512, 8, 64  # tokens: of a prefill, of a decode, and of the check before them
TEXT = "The whale, which had until then been swimming quietly, turned; and in that moment everything was still.\n"


@dataclass(frozen=True)
class Speed:
    """A variant's tokens a second, medians of the rounds. `error` is that of its hidden states, relative."""

    size: str
    dtype: str
    kernels: str
    prefill: float
    decode: float
    error: float


@dataclass(frozen=True)
class Growth:
    """Reading a document of so many tokens: seconds a token, and the process's peak memory afterwards."""

    tokens: int
    seconds_per_token: float
    peak_bytes: int


@dataclass(frozen=True)
class Costs:
    """What is not reading: seconds to save and to load a state of so many bytes, and tokens a second of a tokenizer."""

    state_bytes: int
    save_seconds: float
    load_seconds: float
    tokenizer: str
    tokens_per_second: float


def torch_with(threads: int | None) -> tuple[str, int]:
    """Give torch so many threads, or leave it those that it has; returns (its version, its threads)."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.__version__, torch.get_num_threads()


def speeds(size: str, dtypes: Sequence[str], kernels: Sequence[str], rounds: int) -> list[Speed]:
    """Measure every precision with every kind of kernels on random weights of a size. Raises RwkvError."""
    shape, plain = Shape.named(size), model_of(size, "fp32", "torch")
    probe = _tokens(PROBE, shape.vocabulary)
    exact = plain.forward(probe, plain.initial_state(), "none").hidden
    variants = {(dtype, kind): model_of(size, dtype, kind) for kind in kernels for dtype in dtypes}
    errors = {}
    for name, variant in variants.items():
        hidden = variant.forward(probe, variant.initial_state(), "none").hidden
        errors[name] = float((hidden - exact).norm() / exact.norm())
    prefills = in_turns({name: _prefill(one) for name, one in variants.items()}, rounds)
    decodes = in_turns({name: _decode(one) for name, one in variants.items()}, rounds)
    return [Speed(size, *name, PROMPT / prefills[name], WRITTEN / decodes[name], errors[name]) for name in variants]


def growth(reader: Model, longest: int) -> list[Growth]:
    """Read documents of 1024 tokens and twice as many each time, up to `longest`."""
    found, tokens = list[Growth](), 1024
    while tokens <= longest:
        state, started = reader.initial_state(), time.perf_counter()
        for begin in range(0, tokens, PROMPT):
            state = reader.forward(_tokens(PROMPT, reader.config.vocab_size, begin), state, "none").state
        found.append(Growth(tokens, (time.perf_counter() - started) / tokens, peak_memory_bytes()))
        tokens *= 2
    return found


def costs(reader: Model, rounds: int) -> Costs:
    """Measure what a checkpoint's state and a tokenizer take."""
    state = reader.forward(_tokens(PROBE, reader.config.vocab_size), reader.initial_state(), "none").state
    stored, text = state.to_bytes(), TEXT * 200
    taken = in_turns(
        {
            "save": state.to_bytes,
            "load": lambda: State.from_bytes(stored, reader),
            "encode": lambda: reader.tokenizer.encode(text),
        },
        rounds,
    )
    count = len(reader.tokenizer.encode(text))
    return Costs(len(stored), taken["save"], taken["load"], reader.tokenizer.name, count / taken["encode"])


def in_turns(work: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, float]:
    """The median of each one's seconds, after one round to warm up."""
    taken: dict[Name, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, one in work.items():
            started = time.perf_counter()
            one()
            if number:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in taken.items()}


def model_of(size: str, dtype: str, kernels: str) -> Model:
    """A model of random weights. Raises RwkvError for an unknown size or kernels that are not there."""
    plan = Plan.uniform(CPU, PRECISIONS[dtype]).computed_by(operations_of(kernels))
    return model(Shape.named(size), plan.unshared())


def _prefill(reader: Model) -> Callable[[], object]:
    tokens, state = _tokens(PROMPT, reader.config.vocab_size), reader.initial_state()
    return lambda: reader.forward(tokens, state, "none")


def _decode(writer: Model) -> Callable[[], object]:
    def write() -> None:
        state, token = writer.initial_state(), 1
        for _ in range(WRITTEN):
            output = writer.forward([token], state)
            assert output.logits is not None
            state, token = output.state, int(output.logits.argmax())

    return write


def _tokens(count: int, vocabulary: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = torch.randint(1, vocabulary, (count,), generator=generator).tolist()
    return tokens
