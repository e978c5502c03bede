"""What people pass as tokens and states is read, or refused in one line with the value."""

from __future__ import annotations

from array import array
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rwkv_runtime.decoding import Request, decode
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.errors import RwkvError, ShapeError, StateError
from tests.rwkv_runtime.tiny import tiny_model

READ = {
    "tuple": (1, 2, 3),
    "range": range(1, 4),
    "array": array("i", [1, 2, 3]),
    "int64 tensor": torch.tensor([1, 2, 3]),
    "uint8 tensor": torch.tensor([1, 2, 3], dtype=torch.uint8),
    "int32 numbers": np.array([1, 2, 3], np.int32),
    "list of numbers": list(np.array([1, 2, 3])),
}
REFUSED = {
    "str": ("abc", "'abc' are of the type str"),
    "bytes": (b"abc", "b'abc' are of the type bytes"),
    "generator": ((one for one in (1, 2)), "type generator"),
    "none": (None, "None are of the type NoneType"),
    "one": (7, "7 are of the type int"),
    "fraction": ([1, 1.5], r"token 1\.5 at position 1 is no whole number"),
    "string in a list": ([1, "a"], "token 'a' at position 1 is no whole number"),
    "fractions": (torch.tensor([1.0, 2.0]), r"\[1\.0, 2\.0\] are torch\.float32"),
    "truths": (np.array([True, False]), r"\[True, False\] are bool"),
    "two axes": (torch.tensor([[1, 2]]), r"shape \[1, 2\] have 2 axes"),
    "no axis": (np.array(3), r"shape \[\] have 0 axes"),
    "negative": (torch.tensor([1, -1]), "token -1 at position 1 is outside"),
    "huge": ([1, 2**70, "a"], f"token {2**70} at position 1 is outside"),
}


@pytest.fixture(scope="module")
def model():
    return tiny_model(layers=2)


@pytest.mark.parametrize("tokens", READ.values(), ids=READ)
def test_every_sequence_of_whole_numbers_is_read_like_a_list(model, tokens):
    start, plain = model.initial_state(), [1, 2, 3]
    hidden = model.forward(plain, start).hidden
    engine = Engine(model, window=64, lanes=2)

    assert model.forward(tokens, start).state.to_bytes() == model.forward(plain, start).state.to_bytes()
    [found], [wanted] = (model.advance_padded([(ids, start)], 2, 64) for ids in (tokens, plain))
    assert found.to_bytes() == wanted.to_bytes()
    assert model.surprises(hidden, tokens).tolist() == model.surprises(hidden, plain).tolist()
    [found], [wanted] = (engine.feed([Feed(ids, start, True, ids)]) for ids in (tokens, tuple(plain)))
    assert found.state.to_bytes() == wanted.state.to_bytes()
    assert found.surprise.tobytes() == wanted.surprise.tobytes()


@pytest.mark.parametrize(("tokens", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_token_is_refused_with_the_value(model, tokens, said):
    start = model.initial_state()
    readings = {
        "forward": lambda: model.forward(tokens, start),
        "prefill": lambda: model.prefill(tokens, start),
        "forward_padded": lambda: model.forward_padded([(tokens, start)], 1, 64),
        "advance_padded": lambda: model.advance_padded([(tokens, start)], 1, 64),
        "surprises": lambda: model.surprises(torch.zeros(2, 64), tokens),
        "feed": lambda: Engine(model, window=64, lanes=1).feed([Feed(tokens, start, True)]),
    }
    for read in readings.values():
        with pytest.raises(ShapeError, match=said) as found:
            read()
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "state", [None, "state", {}, SimpleNamespace(tensors={})], ids=["none", "str", "dict", "other"]
)
def test_what_is_no_state_is_refused_with_the_value(model, state):
    with pytest.raises(StateError, match=r"is no state; start from initial_state\(\)"):
        model.forward([1, 2], state)
    with pytest.raises(StateError, match="is no state"):
        model.forward_padded([([1], state)], 1, 64)
    with pytest.raises(StateError):
        Engine(model, window=64, lanes=1).feed([Feed((1, 2), state, True)])
    if state is not None:
        with pytest.raises(StateError, match="is no state"):
            decode(model, [Request("a", state)], lanes=1)


def test_a_step_and_hidden_states_of_another_kind_are_refused(model):
    with pytest.raises(StateError, match="None are no tensors of a state"):
        model.step([1], None)
    with pytest.raises(ShapeError, match="token 'a' at position 0"):
        model.step(["a"], model.initial_lanes(1))
    with pytest.raises(ShapeError, match="0 lanes"):
        model.initial_lanes(0)
    for hidden, said in ((None, "None"), (torch.zeros(2), r"\[2\]"), (torch.zeros(1, 3), r"\[1, 3\]")):
        with pytest.raises(ShapeError, match=rf"hidden states {said} must be a tensor \[n, 64\]"):
            model.surprises(hidden, [1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": 5}, "the prompt 5 is no text"),
        ({"prompt": "a", "max_tokens": 1.5}, r"max_tokens 1\.5 is no whole number"),
        ({"prompt": "a", "stop": "END"}, r"stop 'END' is one text.* give \['END'\]"),
        ({"prompt": "a", "stop": [1]}, r"stop \(1,\) must be strings"),
    ],
)
def test_what_cannot_be_written_from_is_refused_with_the_value(model, options, said):
    with pytest.raises(RwkvError, match=said):
        model.generate(**options)
