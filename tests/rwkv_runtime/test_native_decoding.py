"""One token through all layers in one native call, for models that a file may hold although nobody trains them."""

from __future__ import annotations

import pytest
import torch

from rwkv_runtime import generations
from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.model import Model
from rwkv_runtime.native import whole7
from rwkv_runtime.native.library import LARGEST_HEAD
from rwkv_runtime.native.whole7 import Step7
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import ByteTokenizer, plan_of, tiny_tensors

RANK = 5000  # far beyond the width of 64 and the 256 hidden channels


def both(tensors: dict[str, torch.Tensor]) -> tuple[Model, Model]:
    torch_model, native_model = (
        Model(generations.read(Weights("tiny", dict(tensors)), plan_of(kernels)), ByteTokenizer(), "tiny")
        for kernels in ("torch", "native")
    )
    return torch_model, native_model


def assert_same_logits(one: Model, other: Model) -> None:
    expected, found = one.forward([5], one.initial_state()), other.forward([5], other.initial_state())
    assert expected.logits is not None and found.logits is not None
    assert torch.allclose(found.logits, expected.logits, atol=1e-4)


@pytest.mark.parametrize("letter", "wavg")
def test_the_room_for_a_token_suffices_where_a_later_layer_has_the_largest_rank(letter):
    tensors = tiny_tensors()
    for name in (f"blocks.1.att.{letter}1", f"blocks.1.att.{letter}2"):
        axis = int(name.endswith("1"))
        shape = [*tensors[name].shape]
        shape[axis] = RANK - shape[axis]
        tensors[name] = torch.cat([tensors[name], torch.zeros(shape)], dim=axis)
    plain, native = both(tensors)
    step = native._network.step
    assert isinstance(step, Step7) and step.described.hidden == RANK
    assert_same_logits(plain, native)


def test_the_layers_are_described_to_the_kernels_once(monkeypatch):
    described = []
    describe = whole7._described_layer
    monkeypatch.setattr(whole7, "_described_layer", lambda layer: (described.append(layer), describe(layer))[1])
    _, native = both(tiny_tensors(layers=3))

    assert native._network.step is not None and len(described) == 3


def test_a_head_beyond_what_the_kernels_hold_is_refused_for_single_tokens_too():
    _, native = both(tiny_tensors(width=2 * LARGEST_HEAD, head_size=2 * LARGEST_HEAD, layers=1))
    for tokens in ([1], [1, 2]):
        with pytest.raises(UnsupportedModelError, match="heads of a size of 512 is beyond the native kernels' 256"):
            native.forward(tokens, native.initial_state())


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_a_step_of_many_lanes_is_to_the_bit_that_of_each_alone_and_leaves_those_without_a_token(dtype):
    network = generations.read(Weights("tiny", tiny_tensors()), plan_of("native", dtype))
    model = Model(network, ByteTokenizer(), "tiny")
    prompts = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14], [15]]
    tokens = [20, None, 21, 22, 23]
    states = [model.forward(prompt, model.initial_state()).state for prompt in prompts]
    lanes = {name: torch.stack([state.tensors[name] for state in states], dim=1) for name in states[0].tensors}
    logits, after = model.step(tokens, lanes)
    room = {name: torch.full_like(tensor, float("nan")) for name, tensor in lanes.items()}
    again, after_again = model.step(tokens, lanes, room)

    assert torch.equal(logits, again)
    for lane, (token, state) in enumerate(zip(tokens, states, strict=True)):
        own = state if token is None else model.forward([token], state).state
        for name, tensor in own.tensors.items():
            assert torch.equal(after[name][:, lane], tensor)
            assert torch.equal(after_again[name][:, lane], tensor)
        if token is not None:
            assert torch.equal(logits[lane], model.forward([token], state).logits)


@pytest.mark.parametrize("generation", ["5.1", "6", "7"])
def test_vectors_whose_numbers_a_file_shares_or_spreads_are_read_right(generation):
    tensors = tiny_tensors(generation=generation)
    names = [
        name for name in tensors if name.endswith(("ln1.weight", "ln2.bias", "ln_x.weight", "r_k", "faaaa", "k_k"))
    ]
    for name in names:
        spread = torch.full((*tensors[name].shape, 3), float("nan"))
        spread[..., 0] = tensors[name]
        tensors[name] = spread[..., 0]
    shared = tensors["blocks.0.ln2.weight"]
    tensors["blocks.0.ln2.weight"] = torch.ones(1).expand(shared.shape)
    assert_same_logits(*both(tensors))
