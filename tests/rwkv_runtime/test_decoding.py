"""Texts written together are those written alone."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_runtime.decoding import Completion, Request, decode
from rwkv_runtime.errors import RwkvError, ShapeError
from rwkv_runtime.model import Model
from rwkv_runtime.sampling import SamplingOptions
from tests.rwkv_runtime.tiny import tiny_model

GENERATIONS = ["4", "5.0", "5.1", "5.2", "6", "7", "7a"]
MODEL = tiny_model()


def requests_of(model: Model, count: int, seed: int) -> list[Request]:
    """Prompts, budgets, options and starting states of many kinds."""
    draw = random.Random(seed)
    read = model.forward(model.tokenizer.encode("read before"), model.initial_state()).state
    return [
        Request(
            "".join(draw.choices("abc \n水", k=draw.randint(1, 12))),
            state=draw.choice([None, read]),
            max_tokens=draw.randint(0, 14),
            sampling=SamplingOptions(
                draw.choice([0.0, 1.0, 2.0]), draw.choice([0.7, 1.0]), draw.choice([0, 20]), 0.3, 0.2
            ),
            stop=draw.choice([(), ("a",), ("\n", "é")]),
            seed=draw.randint(0, 99),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_text_is_what_it_would_be_alone_to_the_bit(generation: str) -> None:
    model = tiny_model(generation=generation)
    requests = requests_of(model, 20, seed=3)
    together = decode(model, requests)

    assert together == [decode(model, [request])[0] for request in requests]
    assert len({completion.text for completion in together}) > 9


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 19), data=st.data())
def test_the_order_of_the_requests_changes_nothing(seed: int, count: int, data: st.DataObject) -> None:
    requests = requests_of(MODEL, count, seed)
    order = data.draw(st.permutations(range(count)))
    found = decode(MODEL, requests)

    assert decode(MODEL, [requests[place] for place in order]) == [found[place] for place in order]


def test_lanes_change_no_token_and_log_probabilities_by_rounding_only() -> None:
    requests = requests_of(MODEL, 8, seed=5)
    one, many = (decode(MODEL, requests, lanes=lanes) for lanes in (1, 16))

    assert [found.tokens for found in one] == [found.tokens for found in many]
    differences = [
        abs(a - b) for x, y in zip(one, many, strict=True) for a, b in zip(x.logprobs, y.logprobs, strict=True)
    ]
    assert max(differences) < 1e-4


def test_log_probabilities_are_those_of_reading_the_text() -> None:
    request = Request("once upon", max_tokens=9, sampling=SamplingOptions(1.5, 0.9, 0, 0.5, 0.5), seed=4)
    [found] = decode(MODEL, [request])
    prompt = MODEL.tokenizer.encode(request.prompt)
    out = MODEL.forward([*prompt, *found.tokens], MODEL.initial_state(), logits="all")
    assert out.logits is not None
    scores = torch.log_softmax(out.logits[len(prompt) - 1 : -1], dim=-1)

    expected = [float(scores[place, token]) for place, token in enumerate(found.tokens)]
    assert found.logprobs == pytest.approx(expected, abs=1e-4)
    assert len(found.tokens) == 9


def test_the_text_says_why_it_ended() -> None:
    greedy = decode(MODEL, [Request("x", max_tokens=20)])[0]
    assert (greedy.finish_reason, len(greedy.tokens)) == ("length", 20)
    stop = greedy.text[len(greedy.text) // 2 :][:2]
    stopped = decode(MODEL, [Request("x", max_tokens=20, stop=(stop,))])[0]
    assert (stopped.finish_reason, stopped.text) == ("stop", greedy.text[: greedy.text.index(stop)])
    assert decode(MODEL, [Request("x", max_tokens=0)]) == [Completion("", (), (), "length")]
    ends = decode(MODEL, [Request("x", max_tokens=400, sampling=SamplingOptions(3.0), seed=s) for s in range(8)])
    ended = [text for text in ends if text.finish_reason == "end"]
    assert ended
    assert all(0 not in text.tokens and len(text.tokens) < 400 for text in ended)


def test_a_state_that_a_text_starts_from_is_left_as_it_was() -> None:
    state = MODEL.forward(MODEL.tokenizer.encode("before"), MODEL.initial_state()).state
    before = state.to_bytes()
    decode(MODEL, [Request("a", state, max_tokens=5)] * 3)

    assert state.to_bytes() == before


def test_what_cannot_be_continued_is_refused_in_one_line() -> None:
    with pytest.raises(RwkvError, match="nothing to continue"):
        decode(MODEL, [Request("")])
    for lanes in (0, -1, 3, 24):
        with pytest.raises(ShapeError, match=f"lanes {lanes} must be 1 or a multiple of 16"):
            decode(MODEL, [Request("a")], lanes=lanes)
    with pytest.raises(ShapeError, match="token 300 at position 1"):
        MODEL.step([1, 300], {})
