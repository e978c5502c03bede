"""Sentence vectors from summed features."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_runtime.errors import ShapeError, WeightsError
from rwkv_runtime.model import Model
from rwkv_runtime.pooling import EmbeddingHead, MeanPooler, SpanPooler, choose
from rwkv_runtime.weights import Weights
from rwkv_runtime.weights.row_scaled import joined, split
from rwkv_runtime.words import REACH
from tests.rwkv_runtime.tiny import tiny_head, tiny_model, tiny_perceptron, tiny_words, tokens_of

TOKENS = tokens_of(60)
WORDS = [TOKENS[3:5], TOKENS[2:5], TOKENS[20:28], TOKENS[40:43], [1, 1]]
"""Two words that end at token 4, of which the second is longer, one that ends at 27, one at 42, and one nowhere."""


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(head=True)


def numbers(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name.removeprefix("embed_head."): one.double().numpy() for name, one in tensors.items()}


@pytest.fixture(scope="module")
def bent() -> EmbeddingHead:
    """A head with a perceptron."""
    return EmbeddingHead.read(Weights("tiny", tiny_head() | tiny_perceptron()), 64, 257)


@pytest.fixture(scope="module")
def wordy() -> EmbeddingHead:
    """A head with words."""
    return EmbeddingHead.read(Weights("tiny", tiny_head() | tiny_words(WORDS)), 64, 257)


@pytest.fixture(params=["embed_head", "bent", "wordy", "mean"])
def pooler(request, model, bent, wordy) -> SpanPooler:
    heads = {"bent": bent, "wordy": wordy}
    return heads.get(request.param) or choose(request.param, model.embedding_head, model.config.n_embd)


def features_of(model: Model, pooler: SpanPooler, cuts: list[int]) -> np.ndarray:
    """Features of TOKENS, read in windows that end at `cuts`."""
    state, rows = model.initial_state(), []
    for begin, end in zip([0, *cuts], [*cuts, len(TOKENS)], strict=True):
        output = model.forward(TOKENS[begin:end], state, logits="none")
        rows.append(pooler.features(output, TOKENS[begin:end], TOKENS[max(begin - REACH, 0) : begin]))
        state = output.state
    return np.concatenate(rows)


def vectors_of(pooler: SpanPooler, features: np.ndarray, spans: list[tuple[int, int]]) -> np.ndarray:
    sums = np.stack([features[begin:end].sum(axis=0) for begin, end in spans])
    last = np.stack([features[end - 1] for _, end in spans])
    return pooler.finish(sums, last, np.array([end - begin for begin, end in spans]))


@given(cuts=st.sets(st.integers(1, 59), max_size=5), span=st.tuples(st.integers(0, 59), st.integers(1, 60)))
@settings(deadline=None, max_examples=20)
def test_a_span_cut_anywhere_has_the_same_vector(model, wordy, cuts, span):
    begin, end = min(span), max(max(span), min(span) + 1)
    for pooler in (choose("auto", model.embedding_head, 64), choose("mean", None, 64), wordy):
        whole = features_of(model, pooler, [])
        pieces = features_of(model, pooler, sorted(cuts))
        cut = vectors_of(pooler, pieces, [(begin, end)])
        np.testing.assert_allclose(cut, vectors_of(pooler, whole, [(begin, end)]), atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["plain", "bent", "wordy"])
def test_vectors_of_the_head_are_those_of_its_formula(model, bent, wordy, kind):
    w = numbers(tiny_head())
    x = model.forward(TOKENS, model.initial_state()).residual.double().numpy()
    h = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w["ln.weight"] + w["ln.bias"]
    g = 1 / (1 + np.exp(-(h @ w["gate.weight"][0] + w["gate.bias"])))[:, None]
    e = w["static.weight"][TOKENS]
    if kind == "wordy":
        own = numbers(tiny_words(WORDS))["words.weight"]
        for word, last in ((1, 4), (2, 27), (3, 42)):
            e[last] += own[word]
    span = slice(4, 28)
    mean, static = ((g * one)[span].sum(0) / g[span].sum() for one in (h, e))
    z = w["w_mean.weight"] @ mean + w["w_last.weight"] @ h[27] + static
    if kind == "bent":
        p = numbers(tiny_perceptron())
        inner = p["mlp.up.weight"] @ np.concatenate([mean, static / np.linalg.norm(static)]) + p["mlp.up.bias"]
        z += p["mlp.down.weight"] @ np.maximum(inner, 0) ** 2

    head = {"plain": choose("auto", model.embedding_head, 64), "bent": bent, "wordy": wordy}[kind]
    assert kind != "plain" or head is model.embedding_head
    vector = vectors_of(head, features_of(model, head, []), [(4, 28)])[0]
    np.testing.assert_allclose(vector, z / np.linalg.norm(z), atol=1e-5)


def words_of(features: np.ndarray) -> np.ndarray:
    """g*v of features."""
    return features[:, 64 : 64 + 24]


@given(cuts=st.sets(st.integers(1, 59), max_size=8))
@settings(deadline=None, max_examples=40)
def test_rows_cut_anywhere_have_the_same_features_to_the_bit_if_the_tokens_in_front_are_told(model, wordy, cuts):
    # the bits of a sigmoid depend on how many are computed beside it: here it is 1
    opened = replace(wordy, gate_weight=torch.zeros(1, 64), gate_bias=torch.full((1,), 100.0))
    whole = model.forward(TOKENS, model.initial_state(), logits="none")
    edges, rows = [0, *sorted(cuts), 60], []
    for begin, end in pairwise(edges):
        output = replace(whole, hidden=whole.hidden[begin:end], residual=whole.residual[begin:end])
        rows.append(opened.features(output, TOKENS[begin:end], TOKENS[:begin]))
    assert np.concatenate(rows).tobytes() == opened.features(whole, TOKENS).tobytes()


def test_words_change_the_features_of_their_last_tokens_alone(model, wordy):
    plain, found = (features_of(model, pooler, []) for pooler in (model.embedding_head, wordy))
    own = tiny_words(WORDS)["embed_head.words.weight"].numpy()
    gate = found[:, 88:89]
    added = np.zeros((60, 24), np.float32)
    for word, last in ((1, 4), (2, 27), (3, 42)):
        added[last] = own[word]
    changed = np.flatnonzero(added.any(1))
    np.testing.assert_allclose((words_of(found) - words_of(plain))[changed], (gate * added)[changed], atol=1e-5)
    other = np.delete(np.arange(60), changed)
    assert found[other].tobytes() == plain[other].tobytes()
    for columns in (slice(64), slice(88, None)):
        assert found[:, columns].tobytes() == plain[:, columns].tobytes()


def test_words_may_be_stored_as_whole_numbers_with_a_scale_for_each_row(wordy):
    tensors = tiny_words(WORDS)
    stored, scale = split(tensors["embed_head.words.weight"])
    scaled = {"embed_head.words.weight": stored, "embed_head.words.weight.scale": scale}
    weights = Weights("tiny", joined(tiny_head() | tensors | scaled))
    head = EmbeddingHead.read(weights, 64, 257)
    weights.finish()
    assert head.words.weight.dtype == torch.bfloat16
    torch.testing.assert_close(head.words.weight.float(), wordy.words.weight, rtol=0.01, atol=0.03)


def test_words_are_read_strictly():
    def refused(match: str, **changes: torch.Tensor | None) -> None:
        tensors = tiny_words(WORDS) | {f"embed_head.words.{name}": one for name, one in changes.items()}
        kept = {name: one for name, one in tensors.items() if one is not None}
        weights = Weights("tiny", tiny_head() | kept)
        with pytest.raises(WeightsError, match=match):
            EmbeddingHead.read(weights, 64, 257)
            weights.finish()

    tokens = tiny_words(WORDS)["embed_head.words.tokens"]
    refused(r"embed_head\.words\.tokens is missing", tokens=None)
    refused(r"embed_head\.words\.tokens", weight=None)
    refused(r"words\.tokens is stored as float32; int32 is needed", tokens=tokens.float())
    refused(r"words\.weight should be \[5, 24\], but is \[5, 23\]", weight=torch.zeros(5, 23))
    refused(r"^tiny: embed_head\.words\.tokens: words of \[4, 24\] do not fit .* \[5, 8\]", weight=torch.zeros(4, 24))
    refused(r"^tiny: embed_head\.words\.tokens: word 0 has the tokens .* below 257", tokens=tokens + 200)


def test_the_mean_is_that_of_the_hidden_states(model):
    hidden = model.forward(TOKENS, model.initial_state()).hidden.numpy()
    pooler = choose("mean", model.embedding_head, 64)
    mean = hidden[5:9].mean(axis=0)
    vector = vectors_of(pooler, features_of(model, pooler, []), [(5, 9)])[0]
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_vector_has_the_same_bits_whichever_spans_are_finished_with_it(model, pooler):
    features = features_of(model, pooler, [])
    spans = [(begin, begin + 1 + begin % 7) for begin in range(50)]
    together = vectors_of(pooler, features, spans)
    for row, span in enumerate(spans):
        assert np.array_equal(vectors_of(pooler, features, [span])[0], together[row])


def test_sizes_are_those_that_are_announced(model, pooler):
    features = features_of(model, pooler, [])
    assert features.shape == (60, pooler.feature_size)
    assert vectors_of(pooler, features, [(0, 3), (3, 9)]).shape == (2, pooler.dimensions)
    nothing = np.zeros((0, pooler.feature_size), np.float32)
    assert pooler.finish(nothing, nothing, np.zeros(0, np.int64)).shape == (0, pooler.dimensions)


def test_rows_that_do_not_fit_and_empty_spans_are_refused(model, pooler):
    rows = np.ones((2, pooler.feature_size), np.float32)
    with pytest.raises(ShapeError, match="must both be"):
        pooler.finish(rows, rows[:1], np.array([1, 1]))
    with pytest.raises(ShapeError, match="span 1 has 0 tokens"):
        pooler.finish(rows, rows, np.array([1, 0]))
    with pytest.raises(ShapeError, match="do not fit an output of 3 rows"):
        pooler.features(model.forward([1, 2, 3], model.initial_state()), [1, 2])


def test_auto_is_the_head_where_there_is_one_and_else_the_mean(model):
    assert choose("auto", model.embedding_head, 64).name == "embed_head"
    assert choose("auto", None, 64) == MeanPooler(64)
    for name, head in (("embed_head", None), ("median", model.embedding_head)):
        with pytest.raises(ShapeError, match="use auto or mean"):
            choose(name, head, 64)


def test_a_head_is_read_strictly():
    weights = Weights("tiny", tiny_head())
    head = EmbeddingHead.read(weights, 64, 257)
    weights.finish()
    assert head.rotation is not None and head.rotation.shape == (24, 24)
    assert head.perceptron is None and head.words is None
    with pytest.raises(WeightsError, match=r"embed_head\.mlp\.down\.weight"):
        wrong = {"embed_head.mlp.down.weight": torch.zeros(24, 41)}
        EmbeddingHead.read(Weights("tiny", tiny_head() | tiny_perceptron() | wrong), 64, 257)
    with pytest.raises(WeightsError, match=r"embed_head\.w_last\.weight"):
        EmbeddingHead.read(Weights("tiny", tiny_head() | {"embed_head.w_last.weight": torch.zeros(2, 2)}), 64, 257)
