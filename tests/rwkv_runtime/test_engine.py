"""The engine: fixed shapes, and results that depend on one feed alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_runtime.engine import Engine, Fed, Feed
from rwkv_runtime.errors import ShapeError
from rwkv_runtime.model import Model
from rwkv_runtime.pooling import EmbeddingHead
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import tiny_head, tiny_model, tiny_words, tokens_of


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(head=True)


def assert_same_bits(left: Fed, right: Fed) -> None:
    assert left.state.to_bytes() == right.state.to_bytes()
    assert (left.features is None) == (right.features is None)
    if left.features is not None and right.features is not None:
        assert left.features.tobytes() == right.features.tobytes()


@given(
    lengths=st.lists(st.integers(0, 256), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    lanes=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=20)
def test_a_feed_gives_the_same_bits_alone_and_in_any_batch_and_order(model, lengths, order, lanes, seed):
    engine = Engine(model, window=256, lanes=lanes)
    start = model.forward(tokens_of(9, seed), model.initial_state()).state
    feeds = [
        Feed(tuple(tokens_of(length, seed + place)), start if place % 2 else model.initial_state(), place % 3 > 0)
        for place, length in enumerate(lengths)
    ]
    shuffled = list(range(len(feeds)))
    order.shuffle(shuffled)
    together = engine.feed([feeds[place] for place in shuffled])
    for place, fed in zip(shuffled, together, strict=True):
        assert_same_bits(fed, engine.feed([feeds[place]])[0])


def test_features_come_only_where_they_are_wanted_and_a_row_per_token(model):
    engine = Engine(model, window=64, lanes=2)
    start = model.initial_state()
    wanted, unwanted, empty = engine.feed(
        [Feed((1, 2, 3), start, True), Feed((1,), start, False), Feed((), start, True)]
    )
    assert wanted.features is not None and wanted.features.shape == (3, engine.pooler.feature_size)
    assert wanted.features.dtype == np.float32
    assert unwanted.features is None
    assert empty.features is not None and empty.features.shape == (0, engine.pooler.feature_size)
    assert [fed.state.tokens_seen for fed in (wanted, unwanted, empty)] == [3, 1, 0]


def test_feeds_on_the_window_grid_are_the_whole_text(model):
    engine = Engine(model, window=64, lanes=1)
    tokens, state = tokens_of(150), model.initial_state()
    for begin in range(0, 150, 64):
        state = engine.feed([Feed(tuple(tokens[begin : begin + 64]), state, False)])[0].state
    whole = model.forward(tokens, model.initial_state()).state
    for name, tensor in whole.tensors.items():
        np.testing.assert_allclose(state.tensors[name].numpy(), tensor.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("window", "lanes"), [(32, 1), (96, 1), (0, 1), (64, 0)])
def test_windows_that_are_no_power_of_two_and_no_lanes_are_refused(model, window, lanes):
    with pytest.raises(ShapeError, match="power of two"):
        Engine(model, window=window, lanes=lanes)


def test_a_feed_longer_than_the_window_is_refused(model):
    engine = Engine(model, window=64, lanes=1)
    with pytest.raises(ShapeError, match="65 tokens is longer than the window of 64"):
        engine.feed([Feed(tuple(tokens_of(65)), model.initial_state(), False)])


def test_the_numeric_fingerprint_tells_models_and_windows_apart_but_not_lanes(model):
    mark = Engine(model, window=64, lanes=2).numeric_fingerprint()

    assert Engine(model, window=64, lanes=3).numeric_fingerprint() == mark
    assert Engine(model, window=128, lanes=2).numeric_fingerprint() != mark
    assert Engine(tiny_model(head=True, seed=9), window=64, lanes=2).numeric_fingerprint() != mark


def test_the_numeric_fingerprint_is_the_same_in_another_process(model):
    code = (
        "import torch; torch.set_num_threads({threads})\n"
        "from tests.rwkv_runtime.tiny import tiny_model\n"
        "from rwkv_runtime.engine import Engine\n"
        "import sys; sys.stdout.write(Engine(tiny_model(head=True), window=64, lanes=2).numeric_fingerprint())"
    )
    child = [sys.executable, "-c", code.format(threads=torch.get_num_threads())]
    other = subprocess.run(child, capture_output=True, text=True, check=True, timeout=120).stdout
    assert other == Engine(model, window=64, lanes=2).numeric_fingerprint()


@given(length=st.integers(1, 130), seed=st.integers(0, 1000), count=st.integers(1, 130))
@settings(deadline=None, max_examples=20)
def test_the_nats_of_a_follower_are_those_of_all_logits_and_do_not_depend_on_how_many_are_asked(
    model, length, seed, count
):
    engine = Engine(model, window=256, lanes=1)
    tokens, start = tokens_of(length + 1, seed), model.initial_state()
    asked = tuple(tokens[1 : 1 + count])
    fed, all_of_them = (
        engine.feed([Feed(tuple(tokens[:length]), start, False, followers)])[0]
        for followers in (asked, tuple(tokens[1:]))
    )
    logits = model.forward(tokens[:length], start, logits="all").logits
    expected = -torch.log_softmax(logits.double(), dim=-1)[torch.arange(len(asked)), list(asked)]
    np.testing.assert_allclose(fed.surprise, expected, rtol=1e-4, atol=1e-5)
    assert fed.surprise.tobytes() == all_of_them.surprise[: len(asked)].tobytes()
    assert fed.state.to_bytes() == engine.feed([Feed(tuple(tokens[:length]), start, False)])[0].state.to_bytes()


@given(length=st.integers(2, 130), seed=st.integers(0, 1000), first=st.integers(0, 129), count=st.integers(1, 130))
@settings(deadline=None, max_examples=20)
def test_the_nats_of_the_last_tokens_alone_are_those_of_all_to_the_bit(model, length, seed, first, count):
    engine, first = Engine(model, window=256, lanes=1), min(first, length - 1)
    tokens, start = tokens_of(length + 1, seed), model.initial_state()
    asked = tuple(tokens[first + 1 :][:count])
    part = engine.feed([Feed(tuple(tokens[:length]), start, True, asked, first)])[0]
    whole = engine.feed([Feed(tuple(tokens[:length]), start, True, tuple(tokens[1:]))])[0]

    assert part.surprise.tobytes() == whole.surprise[first:][: len(asked)].tobytes()
    assert part.features.tobytes() == whole.features.tobytes()


def test_words_that_begin_in_front_of_a_feed_count_if_these_tokens_are_told(model):
    tokens = tokens_of(90)
    tensors = tiny_head() | tiny_words([tokens[62:66], tokens[69:71]])
    engine = Engine(model, window=64, lanes=1, pooling=EmbeddingHead.read(Weights("tiny", tensors), 64, 257))
    start = engine.feed([Feed(tuple(tokens[:64]), model.initial_state(), False)])[0].state

    def features(before: object) -> np.ndarray:
        return engine.feed([Feed(tuple(tokens[64:]), start, True, before=before)])[0].features  # type: ignore[arg-type]

    told = features(tuple(tokens[56:64]))
    assert told.tobytes() == features(tokens[62:64]).tobytes() == features(torch.tensor(tokens[:64])).tobytes()
    assert np.flatnonzero((told != features(())).any(1)).tolist() == [1]
    for wrong in ((257,), [257], [1.5]):
        with pytest.raises(ShapeError, match=r"outside the model's 257|no whole number"):
            features(wrong)
    with pytest.raises(ShapeError, match=r"outside the model's 257"):
        Engine(model, window=64, lanes=1).feed([Feed((1,), start, False, before=[257])])  # type: ignore[arg-type]


def test_more_followers_than_tokens_and_tokens_outside_the_vocabulary_are_refused(model):
    engine = Engine(model, window=64, lanes=1)
    with pytest.raises(ShapeError, match="3 tokens cannot each follow one of 2"):
        engine.feed([Feed((1, 2), model.initial_state(), False, (2, 3, 4))])
    with pytest.raises(ShapeError, match="2 tokens cannot each follow one of 2 from number 1 on"):
        engine.feed([Feed((1, 2), model.initial_state(), False, (2, 3), 1)])
    with pytest.raises(ShapeError, match="outside"):
        engine.feed([Feed((1, 2), model.initial_state(), False, (257,))])
