"""A NaN or an infinity ends in one line that says where it came from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rwkv_runtime import generations
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.errors import NotFiniteError, WeightsError
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import GENERATIONS, ByteTokenizer, tiny_model, tiny_tensors

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
    with pytest.raises(NotFiniteError) as found:
        model.forward([5] * 90, started)
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


def test_a_state_that_holds_one_is_named_as_such():
    model = tiny_model()
    start = model.initial_state()
    wkv = start.tensors["wkv"].clone()
    wkv[1, 0, 0, 0] = float("nan")
    bad = replace(start, tensors={**start.tensors, "wkv": wkv}, tokens_seen=12)
    with pytest.raises(NotFiniteError, match="the state before token 12 holds a NaN or an infinity"):
        model.forward([1, 2], bad)


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
