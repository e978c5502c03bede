"""Windows of tokens through all layers of RWKV-7 in one native call: what layer by layer gives, to the bit."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime import generations
from rwkv_runtime.errors import StateError
from rwkv_runtime.layers import Stack
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.model import Model
from rwkv_runtime.native import whole7
from rwkv_runtime.native.operations import NativeOperations
from rwkv_runtime.placement import CPU, Part, Placement, Plan
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.many_rows import libraries_of_many_rows
from tests.rwkv_runtime.tiny import ByteTokenizer, tiny_tensors

LIBRARIES = libraries_of_many_rows()
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no instruction set here has products of many rows")
SHAPES = {"usual": (64, 16, 3), "odd heads": (66, 22, 2), "one head": (96, 96, 2), "one layer": (64, 64, 1)}
DTYPES = ["fp32", "bf16", "int8", "int4"]
MIXED = [("int8", "bf16"), ("int4", "fp32")]
"""Precisions between whose matrices rows are of one type."""
WITHOUT = (("odd heads", "int8"), ("odd heads", "int4"))
"""Rows of 66 steps, or of none of int4's groups, fill no whole words."""


@cache
def network(shape: str, *dtypes: str) -> Stack:
    """A tiny network, its first layer in the first precision."""
    width, size, layers = SHAPES[shape]
    *parts, last = (Part(Placement(CPU, PRECISIONS[dtype]), 1) for dtype in dtypes)
    plan = Plan((*parts, dataclasses.replace(last, layers=None)), "tiny").computed_by(NativeOperations(LIBRARIES[0]))
    return generations.read(Weights("tiny", tiny_tensors(width=width, head_size=size, layers=layers)), plan)


def random_state(stack: Stack, lanes: int, draw: torch.Generator) -> dict[str, Tensor]:
    return {
        name: torch.randn(len(one), lanes, *one.shape[1:], generator=draw)
        for name, one in stack.initial_state().items()
    }


def layer_by_layer(stack: Stack) -> Stack:
    return dataclasses.replace(stack, step=None, window_step=None)


CASES = [(shape, (dtype,)) for shape in SHAPES for dtype in DTYPES if (shape, dtype) not in WITHOUT]


@pytest.mark.parametrize(("shape", "dtypes"), [*CASES, *(("usual", mixed) for mixed in MIXED)], ids=str)
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_a_window_in_one_call_is_to_the_bit_the_one_layer_by_layer(shape, dtypes, data):
    stack = network(shape, *dtypes)
    fewest = stack.window_step.fewest_tokens
    tokens = data.draw(st.integers(1, 90), "tokens")
    lanes = data.draw(
        st.integers(65, 70) if tokens == 1 else st.integers(-(-fewest // tokens), 3 + 33 // tokens), "lanes"
    )
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
        ends, ended = stack.ending(ids, state, lengths)
    finally:
        torch.set_num_threads(before)
    expected, after_expected = layer_by_layer(stack).window(ids, state, lengths)
    for lane, length in enumerate(lengths):
        assert torch.equal(residual[lane, :length], expected[lane, :length])
        assert not length or torch.equal(ends[lane], expected[lane, length - 1])
    for name, one in after_expected.items():
        assert all(torch.equal(found[name], one) for found in (after, advanced, ended))
        assert torch.equal(state[name], kept[name]) and after[name] is room[name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["usual", "one head"])
def test_the_kernel_stays_within_its_scratch_and_trusts_nothing_in_it(monkeypatch, shape, dtype):
    stack, guards = network(shape, dtype), list[Tensor]()
    draw = torch.Generator().manual_seed(3)
    state, ids = random_state(stack, 3, draw), torch.randint(0, 257, (3, 41), generator=draw)
    expected, expected_after = stack.window(ids, state, [41, 0, 17])
    room = whole7.huge_pages.room

    def guarded(shape, device):
        if len(shape) > 1:
            return room(shape, device)
        around = torch.full((shape[0] + 2048,), float("nan"))
        guards.append(around)
        return around[1024:-1024]

    monkeypatch.setattr(whole7.huge_pages, "room", guarded)
    found, after = stack.window(ids, state, [41, 0, 17])
    advanced = stack.advance(ids, state, [41, 0, 17])
    ends, ended = stack.ending(ids, state, [41, 0, 17])
    assert torch.equal(ends[0], expected[0, 40]) and torch.equal(ends[2], expected[2, 16])
    assert torch.equal(found[0], expected[0]) and torch.equal(found[2, :17], expected[2, :17])
    for name, one in expected_after.items():
        assert all(torch.equal(found[name], one) for found in (after, advanced, ended))
    assert len(guards) == 3
    assert all(bool(guard[:1024].isnan().all() and guard[-1024:].isnan().all()) for guard in guards)
    assert not any(bool(guard.isnan().all()) for guard in guards)


def test_the_last_rows_of_single_tokens_are_those_of_a_step():
    stack, draw = network("usual", "bf16"), torch.Generator().manual_seed(2)
    state, ids = random_state(stack, 40, draw), torch.randint(0, 257, (40, 1), generator=draw)
    residual, after = stack.window(ids, state, [1] * 40)
    ends, ended = stack.ending(ids, state, [1] * 40)
    assert torch.equal(ends, residual[:, 0])
    assert all(torch.equal(ended[name], one) for name, one in after.items())


def test_room_of_another_shape_is_refused():
    stack = network("usual", "fp32")
    state, ids = random_state(stack, 2, torch.Generator().manual_seed(1)), torch.zeros(2, 40, dtype=torch.long)
    room = {name: one[:, :1].clone() for name, one in state.items()}
    with pytest.raises(StateError, match=r"room for att_shift is \[3, 1, 64\], the state is \[3, 2, 64\]"):
        stack.window(ids, state, [40, 40], room)


@pytest.mark.parametrize(("shape", "dtypes"), [("usual", ("bf16", "fp32")), *((a, (b,)) for a, b in WITHOUT)], ids=str)
def test_layers_between_which_types_change_and_odd_words_go_one_by_one(shape, dtypes):
    assert network(shape, *dtypes).window_step is None


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
        residual, after, taps = layer_by_layer(stack).tapped(ids, state, [len(tokens)], layers or (1,))
    assert torch.equal(found.residual, residual[0, : len(tokens)])
    assert torch.equal(found.hidden, stack.final_norm(residual)[0, : len(tokens)])
    assert found.tapped is None if not layers else torch.equal(found.tapped, taps[0, : len(tokens)])
    for name, one in after.items():
        assert torch.equal(found.state.tensors[name], one.squeeze(1))
        assert torch.equal(advanced.tensors[name], one.squeeze(1))
