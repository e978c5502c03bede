"""Items read together, as a model on a GPU does it: here on a CPU, by a model that is told to."""

from __future__ import annotations

import pytest
import torch

from rwkv_runtime.errors import NotFiniteError
from rwkv_runtime.model import Item, Model
from rwkv_runtime.state import State
from tests.rwkv_runtime.tiny import GENERATIONS, tiny_model, tokens_of

LANES, WIDTH = 4, 64


def batching(generation: str = "7") -> Model:
    model = tiny_model(generation=generation)
    model._batches = True
    return model


def items_of(model: Model) -> list[Item]:
    """Two texts, one of them from the middle on, and an empty one."""
    read = model.forward(tokens_of(20, seed=3), model.initial_state(), "none").state
    return [(tokens_of(50), model.initial_state()), (tokens_of(9, seed=2), read), ([], read)]


def assert_near(found: State, wanted: State) -> None:
    assert found.tokens_seen == wanted.tokens_seen
    for name, tensor in wanted.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_items_read_together_give_what_each_gives_alone(generation: str) -> None:
    together, alone = batching(generation), tiny_model(generation=generation)
    items = items_of(alone)
    outputs = together.forward_padded(items, LANES, WIDTH)
    states = together.advance_padded(items, LANES, WIDTH)
    for item, output, state, wanted in zip(
        items, outputs, states, alone.forward_padded(items, LANES, WIDTH), strict=True
    ):
        torch.testing.assert_close(output.hidden, wanted.hidden, rtol=1e-4, atol=1e-4)
        assert_near(output.state, wanted.state)
        assert_near(state, wanted.state)
        if not item[0]:
            assert state.tensors == item[1].tensors


def test_neighbours_change_no_bit() -> None:
    model = batching()
    items = items_of(model)
    first = model.forward_padded(items[:1], LANES, WIDTH)[0]
    again = model.forward_padded([items[0], items[1], (tokens_of(64, seed=8), items[1][1])], LANES, WIDTH)[0]
    assert torch.equal(first.hidden, again.hidden)
    assert all(torch.equal(first.state.tensors[name], again.state.tensors[name]) for name in first.state.tensors)


def test_an_item_that_gives_a_nan_is_named_whatever_lane_it_is_in() -> None:
    model = batching()
    items = items_of(model)
    broken = State(
        items[1][1].generation, "tiny", 20, {name: x * float("nan") for name, x in items[1][1].tensors.items()}
    )
    with pytest.raises(NotFiniteError, match="the state before token 20 holds a NaN"):
        model.forward_padded([items[0], (items[1][0], broken)], LANES, WIDTH)
