"""States in the layouts of other programs: there and back, and where each number lies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rwkv_runtime import state_layouts as layouts
from rwkv_runtime.errors import StateError
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from tests.rwkv_runtime.tiny import GENERATIONS, tiny_model, tokens_of

THROUGH: dict[str, tuple[tuple[str, ...], Callable[[State, Model], State]]] = {
    "rwkv": (GENERATIONS, lambda s, m: layouts.from_rwkv(layouts.to_rwkv(s), m, s.tokens_seen)),
    "transformers": (("4",), lambda s, m: layouts.from_transformers(layouts.to_transformers(s), m, s.tokens_seen)),
    "rwkv.cpp": (("4", "7", "7a"), lambda s, m: layouts.from_rwkv_cpp(layouts.to_rwkv_cpp(s), m, s.tokens_seen)),
    "web-rwkv": (GENERATIONS[1:], lambda s, m: layouts.from_web_rwkv(layouts.to_web_rwkv(s), m, s.tokens_seen)),
    "Albatross vk_v1": (
        ("7", "7a"),
        lambda s, m: layouts.from_albatross(*layouts.to_albatross(s, "vk_v1"), "vk_v1", m, s.tokens_seen),
    ),
    "Albatross kv_v2": (
        ("7", "7a"),
        lambda s, m: layouts.from_albatross(*layouts.to_albatross(s, "kv_v2"), "kv_v2", m, s.tokens_seen),
    ),
}


@pytest.fixture(scope="module", params=GENERATIONS)
def model(request) -> Model:
    return tiny_model(generation=request.param, layers=2)


@pytest.fixture(scope="module")
def state(model: Model) -> State:
    return model.forward(tokens_of(9), model.initial_state()).state


@pytest.mark.parametrize("program", THROUGH)
def test_there_and_back_is_the_same_state_or_refused_by_name(model, state, program):
    known, through = THROUGH[program]
    if model.config.generation in known:
        assert through(state, model).to_bytes() == state.to_bytes()
    else:
        with pytest.raises(StateError, match=f"no layout of {program.split()[0]} for RWKV-{model.config.generation}"):
            through(state, model)


def test_writing_to_what_was_handed_out_or_in_leaves_the_state_as_it_was(model, state):
    before = state.to_bytes()
    slots = layouts.to_rwkv(state)
    back = layouts.from_rwkv(slots, model, 9)
    for slot in slots:
        slot.fill_(7.0)
    if model.config.generation != "4":
        layouts.to_web_rwkv(state).fill_(7.0)
    if model.config.generation in ("4", "7"):
        flat = layouts.to_rwkv_cpp(state)
        other = layouts.from_rwkv_cpp(flat, model, 9)
        flat.fill_(7.0)
        assert other.to_bytes() == before
    assert back.to_bytes() == state.to_bytes() == before


def of(generation: str) -> State:
    model = tiny_model(generation=generation, layers=2)
    return model.forward(tokens_of(9), model.initial_state()).state


@pytest.mark.parametrize(("generation", "by_key"), [("5.2", lambda s: s), ("7", lambda s: s.mT)])
def test_a_row_of_web_rwkv_is_a_key_channel_of_all_heads(generation, by_key):
    state = of(generation)
    rows, wkv = layouts.to_web_rwkv(state), by_key(state.tensors["wkv"])
    assert rows.shape == (2, 16 + 2, 64)
    assert torch.equal(rows[:, 0], state.tensors["att_shift"])
    assert torch.equal(rows[:, -1], state.tensors["ffn_shift"])
    assert rows[1, 1 + 5, 3 * 16 + 2] == wkv[1, 3, 5, 2]


def test_rwkv_cpp_starts_a_layer_with_the_shift_of_the_channel_mix():
    four, seven = layouts.to_rwkv_cpp(of("4")), layouts.to_rwkv_cpp(of("7"))
    for numbers, state in ((four.view(2, -1), of("4")), (seven.view(2, -1), of("7"))):
        assert torch.equal(numbers[:, :64], state.tensors["ffn_shift"])
        assert torch.equal(numbers[:, 64:128], state.tensors["att_shift"])
    assert torch.equal(four.view(2, 5, 64)[:, 4], of("4").tensors["wkv_max"])
    assert torch.equal(seven.view(2, -1)[:, 128:], of("7").tensors["wkv"].flatten(1))


def test_transformers_and_albatross_lay_out_their_axes_as_they_say():
    four, seven = of("4"), of("7")
    slots = layouts.to_transformers(four)
    assert [slot.shape for slot in slots] == [(1, 64, 2)] * 5
    assert torch.equal(slots[2][0, :, 1], four.tensors["wkv_num"][1])
    shifts, wkv = layouts.to_albatross(seven, "kv_v2")
    assert shifts.shape == (2, 2, 1, 64) and wkv.shape == (2, 1, 4, 16, 16)
    assert torch.equal(shifts[1, 1, 0], seven.tensors["ffn_shift"][1])
    assert wkv[1, 0, 2, 5, 3] == seven.tensors["wkv"][1, 2, 3, 5]


def test_a_state_of_another_size_is_refused():
    small, large = tiny_model(generation="7", layers=2), tiny_model(generation="7", layers=3)
    state = large.initial_state()
    with pytest.raises(StateError, match="9 tensors should be 6"):
        layouts.from_rwkv(layouts.to_rwkv(state), small, 0)
    with pytest.raises(StateError, match="should be"):
        layouts.from_web_rwkv(layouts.to_web_rwkv(state), small, 0)
    with pytest.raises(StateError, match="should be"):
        layouts.from_rwkv_cpp(layouts.to_rwkv_cpp(state), small, 0)
    with pytest.raises(StateError, match="should be"):
        layouts.from_albatross(*layouts.to_albatross(state, "vk_v1"), "vk_v1", small, 0)
    slots = layouts.to_rwkv(small.initial_state())
    with pytest.raises(StateError, match="wkv"):
        layouts.from_rwkv([slots[0], slots[1][:2], slots[2], slots[3], slots[4][:2], slots[5]], small, 0)
