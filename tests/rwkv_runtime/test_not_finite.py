"""A NaN or an infinity ends in one line that says where it came from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rwkv_runtime import generations
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.errors import NotFiniteError, StateError, WeightsError
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import GENERATIONS, KERNELS, ByteTokenizer, plan_of, tiny_model, tiny_tensors

BAD_TOKEN = 7


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("part", ["att.output", "ffn.value"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_layer_and_the_token_are_named(generation, part, layer):
    tensors = tiny_tensors(generation=generation)
    weight = tensors[f"blocks.{layer}.{part}.weight"]
    weight.copy_(weight.sign() * 3e38)
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    started = State(generation, "tiny", 1000, model.initial_state().tensors)
    for read in (model.forward, model.prefill):
        with pytest.raises(NotFiniteError) as found:
            read([5] * 90, started)
        assert f"layer {layer} gives a NaN or an infinity at token 1000 (id 5); check it" in str(found.value)
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("place", [0, 40, 70])
def test_the_token_is_the_one_that_overflows_and_not_the_first(place, features):
    tensors = tiny_tensors(generation="7a")
    tensors["blocks.1.ffn.s_emb.weight"][BAD_TOKEN] = 3e38
    tensors["blocks.1.ffn.s_emb.weight"][BAD_TOKEN, ::2] = -3e38
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    tokens = [3] * place + [BAD_TOKEN] + [3] * 10
    engine = Engine(model, window=128, lanes=1)
    with pytest.raises(NotFiniteError, match=rf"layer 1 gives a NaN or an infinity at token {place} \(id 7\)"):
        engine.feed([Feed(tuple(tokens), model.initial_state(), features)])
    assert engine.feed([Feed((3,) * 60, model.initial_state(), features)])[0].state.is_finite()


def test_what_overflows_in_hidden_states_that_a_prompt_does_not_need_is_no_error_of_it():
    tensors = tiny_tensors(generation="7a")
    tensors["blocks.2.ffn.s_emb.weight"][BAD_TOKEN] = 3e38
    tensors["blocks.2.ffn.s_emb.weight"][BAD_TOKEN, ::2] = -3e38
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    tokens = [3] * 600
    tokens[300] = BAD_TOKEN
    with pytest.raises(NotFiniteError, match=r"layer 2 gives a NaN or an infinity at token 300 \(id 7\)"):
        model.forward(tokens, model.initial_state())
    logits, state = model.prefill(tokens, model.initial_state())
    assert logits.isfinite().all() and state.is_finite() and state.tokens_seen == 600


def test_a_state_that_holds_one_is_named_as_such():
    model = tiny_model()
    start = model.initial_state()
    wkv = start.tensors["wkv"].clone()
    wkv[1, 0, 0, 0] = float("nan")
    bad = replace(start, tensors={**start.tensors, "wkv": wkv}, tokens_seen=12)
    with pytest.raises(NotFiniteError, match="the state before token 12 holds a NaN or an infinity"):
        model.forward([1, 2], bad)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_step_of_several_lanes_names_the_layer_and_the_lane(generation, kernels):
    tensors = tiny_tensors(generation=generation)
    weight = tensors["blocks.1.att.output.weight"]
    weight.copy_(weight.sign() * 3e38)
    model = Model(generations.read(Weights("tiny", tensors), plan_of(kernels)), ByteTokenizer(), "tiny")
    lanes = {name: torch.stack([tensor] * 3, dim=1) for name, tensor in model.initial_state().tensors.items()}
    with pytest.raises(NotFiniteError, match=r"layer 1 gives a NaN or an infinity at the token \(id 5\) in lane 1;"):
        model.step([None, 5, 6], lanes)


def test_a_head_that_overflows_in_a_step_is_named_and_a_lane_without_a_token_is_no_error():
    tensors = tiny_tensors()
    tensors["head.weight"] = tensors["head.weight"].sign() * 3e38
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    lanes = {name: tensor.unsqueeze(1) for name, tensor in model.initial_state().tensors.items()}
    with pytest.raises(NotFiniteError, match="the head gives a NaN or an infinity"):
        model.step([5], lanes)
    model.step([None], lanes)


def test_a_state_of_another_shape_or_type_is_refused_before_anything_is_read():
    model = tiny_model(kernels="native")
    start = model.initial_state()
    short = replace(start, tensors={**start.tensors, "wkv": start.tensors["wkv"][:2]})
    with pytest.raises(StateError, match=r"of the shapes .*'wkv': \[2, 4, 16, 16\].*but the model's"):
        model.forward([1], short)
    with pytest.raises(StateError, match=r"the state's wkv is torch\.float64"):
        model.forward([1], replace(start, tensors={**start.tensors, "wkv": start.tensors["wkv"].double()}))
    with pytest.raises(StateError, match="of the shapes"):
        model.step([1, 2], {name: tensor.unsqueeze(1) for name, tensor in start.tensors.items()})


@pytest.mark.parametrize("logits", ["last", "all"])
def test_logits_that_overflow_are_named_by_their_token(logits):
    tensors = tiny_tensors()
    tensors["head.weight"] = torch.full_like(tensors["head.weight"], 3e38)
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    assert model.forward([1, 2, 3], model.initial_state(), "none").state.is_finite()
    with pytest.raises(
        NotFiniteError, match=f"the head gives a NaN or an infinity for token {2 if logits == 'last' else 0}"
    ):
        model.forward([1, 2, 3], model.initial_state(), logits)


def test_finite_numbers_whose_sum_is_not_are_no_error():
    model = tiny_model(generation="4")
    start = model.initial_state()
    large = torch.full_like(start.tensors["wkv_den"], 1e37)
    output = model.forward([1], replace(start, tensors={**start.tensors, "wkv_den": large, "wkv_num": large}))
    assert output.state.is_finite()


def test_a_weight_that_is_not_finite_is_named_when_the_model_is_read():
    tensors = tiny_tensors()
    tensors["blocks.2.ffn.key.weight"][3, 4] = float("inf")
    with pytest.raises(WeightsError, match=r"blocks\.2\.ffn\.key\.weight holds a NaN or an infinity"):
        generations.read(Weights("tiny", tensors))
