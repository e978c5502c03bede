"""Windows of tokens through all layers of RWKV-7 in one native call: what layer by layer gives, to the bit."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime import generations, native
from rwkv_runtime.layers import Stack
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.model import Model
from rwkv_runtime.native import whole7
from rwkv_runtime.native.operations import NativeOperations
from rwkv_runtime.native.whole7 import Window7
from rwkv_runtime.placement import CPU, Part, Placement, Plan
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import ByteTokenizer, tiny_tensors

SHAPES = {"usual": (64, 16), "odd heads": (132, 22), "one head": (96, 96)}
DTYPES = ["fp32", "bf16", "int8", "int4"]


@cache
def network(shape: str, dtype: str) -> Stack:
    """A tiny network with its way through windows. Skips the test where this processor has none."""
    library = native.load()
    if library is None or not library.multiplies_many:
        pytest.skip("no native products of many rows here")
    width, size = SHAPES[shape]
    plan = Plan.uniform(CPU, PRECISIONS[dtype]).computed_by(NativeOperations(library))
    return generations.read(Weights("tiny", tiny_tensors(width=width, head_size=size)), plan)


def random_state(stack: Stack, lanes: int, draw: torch.Generator) -> dict[str, Tensor]:
    return {
        name: torch.randn(len(one), lanes, *one.shape[1:], generator=draw)
        for name, one in stack.initial_state().items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_a_window_in_one_call_is_to_the_bit_the_one_layer_by_layer(shape, dtype, data):
    stack = network(shape, dtype)
    if stack.whole is None:
        assert (shape, dtype) == ("odd heads", "int4")  # whose rows of 132 are no whole groups
        return
    tokens = data.draw(st.integers(1, 90), "tokens")
    lanes = data.draw(st.integers(-(-stack.whole.fewest_tokens // tokens), 3 + 33 // tokens), "lanes")
    lengths = data.draw(st.lists(st.integers(0, tokens), min_size=lanes, max_size=lanes), "lengths")
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 9), "seed"))
    state, ids = random_state(stack, lanes, draw), torch.randint(0, 257, (lanes, tokens), generator=draw)
    kept = {name: one.clone() for name, one in state.items()}
    room = {name: torch.full_like(one, float("nan")) for name, one in state.items()}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(data.draw(st.integers(1, 5), "threads"))
        residual, after = stack.window(ids, state, lengths, room)
        advanced = stack.advance(ids, state, lengths)
    finally:
        torch.set_num_threads(before)
    expected, after_expected = dataclasses.replace(stack, whole=None).window(ids, state, lengths)
    for lane, length in enumerate(lengths):
        assert torch.equal(residual[lane, :length], expected[lane, :length])
    for name, one in after_expected.items():
        assert (
            torch.equal(after[name], one) and torch.equal(advanced[name], one) and torch.equal(state[name], kept[name])
        )
        assert after[name] is room[name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["usual", "one head"])
def test_the_kernel_stays_within_its_scratch_and_trusts_nothing_in_it(monkeypatch, shape, dtype):
    stack, guards = network(shape, dtype), list[Tensor]()
    draw = torch.Generator().manual_seed(3)
    state, ids = random_state(stack, 3, draw), torch.randint(0, 257, (3, 41), generator=draw)
    expected, _ = stack.window(ids, state, [41, 0, 17])
    empty = torch.empty

    def guarded(*shape, **options):
        if options.get("dtype") != torch.uint8:
            return empty(*shape, **options)
        whole = torch.full((shape[0] + 4096,), 0xFF, dtype=torch.uint8)  # of which every float is a NaN
        guards.append(whole[shape[0] :])
        return whole[: shape[0]]

    monkeypatch.setattr(whole7.torch, "empty", guarded)
    found, _ = stack.window(ids, state, [41, 0, 17])
    assert torch.equal(found[0], expected[0]) and torch.equal(found[2, :17], expected[2, :17])
    assert len(guards) == 1 and bool((guards[0] == 0xFF).all())


def test_layers_of_several_precisions_go_one_by_one():
    library = native.load()
    if library is None:
        pytest.skip(native.status().reason)
    parts = (Part(Placement(CPU, PRECISIONS["bf16"]), 1), Part(Placement(CPU, PRECISIONS["fp32"])))
    plan = Plan(parts, "both").computed_by(NativeOperations(library))
    stack = generations.read(Weights("tiny", tiny_tensors()), plan)
    assert stack.whole is None
    uniform = Plan.uniform(CPU, PRECISIONS["fp32"]).computed_by(NativeOperations(library))
    whole = generations.read(Weights("tiny", tiny_tensors()), uniform).whole
    assert isinstance(whole, Window7) == library.multiplies_many


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [(), (1, 3)], ids=["plain", "tapped"])
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_a_text_has_the_same_bits_at_every_width_that_it_may_be_padded_to(dtype, layers, data):
    stack = network("usual", dtype)
    model = Model(stack, ByteTokenizer(), "tiny")
    width = data.draw(st.integers(2, 600), "width")
    tokens = data.draw(st.lists(st.integers(0, 256), min_size=1, max_size=min(width, 80)), "tokens")
    begun = model.forward([1, 2, 3], model.initial_state()).state
    found = model.forward_padded([(tokens, begun)], 1, width, layers)[0]
    advanced = model.advance_padded([(tokens, begun)], 1, width)[0]
    ids = torch.tensor([tokens + [0] * (width - len(tokens))])
    state = {name: one.unsqueeze(1) for name, one in begun.tensors.items()}
    with torch.inference_mode():
        residual, after = dataclasses.replace(stack, whole=None).window(ids, state, [len(tokens)])
    assert torch.equal(found.residual, residual[0, : len(tokens)])
    for name, one in after.items():
        assert torch.equal(found.state.tensors[name], one.squeeze(1))
        assert torch.equal(advanced.tensors[name], one.squeeze(1))
