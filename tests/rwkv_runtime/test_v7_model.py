"""The RWKV-7 network and the model around it, on tiny random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from rwkv_runtime import generations
from rwkv_runtime.errors import RwkvError, ShapeError, StateError, WeightsError
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import tiny_model, tiny_tensors, tokens_of

seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def assert_same_bits(left: State, right: State) -> None:
    assert left.tokens_seen == right.tokens_seen
    assert left.to_bytes() == right.to_bytes()


def plain_numpy(tensors: dict[str, torch.Tensor], tokens: list[int]) -> np.ndarray:
    """Logits [T, V] after the formulas of RWKV-7, one token and one float64 number at a time."""
    w = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    heads, size = w["blocks.0.att.r_k"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
    width = heads * size
    att, ffn = np.zeros((layers, width)), np.zeros((layers, width))
    memory = np.zeros((layers, heads, size, size))

    def norm(x, name):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    rows = []
    for token in tokens:
        x = norm(w["emb.weight"][token], "blocks.0.ln0")
        for i in range(layers):
            p = {
                name.removeprefix(f"blocks.{i}.att."): z for name, z in w.items() if name.startswith(f"blocks.{i}.att.")
            }
            p = {name: z[0, 0] if z.ndim == 3 else z for name, z in p.items()}
            now = norm(x, f"blocks.{i}.ln1")
            xr, xw, xk, xv, xa, xg = (now + (att[i] - now) * p[f"x_{c}"] for c in "rwkvag")
            att[i] = now
            r, k, v = p["receptance.weight"] @ xr, p["key.weight"] @ xk, p["value.weight"] @ xv
            decay = np.exp(-0.606531 * sigmoid(p["w0"] + np.tanh(xw @ p["w1"]) @ p["w2"]))
            a = sigmoid(p["a0"] + xa @ p["a1"] @ p["a2"])
            gate = sigmoid(xg @ p["g1"]) @ p["g2"]
            kk = (k * p["k_k"]).reshape(heads, size)
            kk = kk / np.maximum(np.linalg.norm(kk, axis=1, keepdims=True), 1e-12)
            k = k * (1 + (a - 1) * p["k_a"])
            if i == 0:
                first = v
            else:
                v = v + (first - v) * sigmoid(p["v0"] + xv @ p["v1"] @ p["v2"])
            y = np.zeros((heads, size))
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                s = memory[i, h]
                s = s * decay[part] - np.outer(s @ kk[h], kk[h] * a[part]) + np.outer(v[part], k[part])
                memory[i, h] = s
                z = s @ r[part]
                y[h] = (z - z.mean()) / np.sqrt(z.var() + 64e-5) * p["ln_x.weight"][part] + p["ln_x.bias"][part]
                y[h] += (r[part] * k[part] * p["r_k"][h]).sum() * v[part]
            x = x + p["output.weight"] @ (y.reshape(-1) * gate)
            now = norm(x, f"blocks.{i}.ln2")
            mixed = now + (ffn[i] - now) * w[f"blocks.{i}.ffn.x_k"][0, 0]
            ffn[i] = now
            x = x + w[f"blocks.{i}.ffn.value.weight"] @ np.maximum(w[f"blocks.{i}.ffn.key.weight"] @ mixed, 0) ** 2
        rows.append(w["head.weight"] @ norm(x, "ln_out"))
    return np.stack(rows)


@pytest.mark.parametrize("sizes", [{"layers": 1}, {"layers": 3}, {"width": 32, "head_size": 32, "layers": 2}])
def test_logits_are_those_of_the_formulas_in_plain_numpy(sizes):
    tokens = tokens_of(70)
    model = tiny_model(**sizes)
    logits = model.forward(tokens, model.initial_state(), logits="all").logits
    expected = plain_numpy(tiny_tensors(**sizes), tokens)
    assert logits is not None
    assert np.abs(logits.numpy() - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_text_of_several_windows_is_read_like_its_windows(model):
    tokens = tokens_of(1300)
    whole = model.forward(tokens, model.initial_state())
    state = model.initial_state()
    for begin in (0, 512, 1024):
        state = model.forward(tokens[begin : begin + 512], state, logits="none").state
    assert_same_bits(state, whole.state)
    assert whole.hidden.shape == whole.residual.shape == (1300, 64)


def test_nothing_to_read_gives_the_same_state_and_no_rows_of_logits(model):
    state = model.forward(tokens_of(5), model.initial_state()).state
    for logits in ("none", "last", "all"):
        output = model.forward([], state, logits=logits)
        assert_same_bits(output.state, state)
        assert output.hidden.shape == (0, 64)
        if logits == "all":
            assert output.logits.shape == (0, model.config.vocab_size)
        else:
            assert output.logits is None


def test_reading_leaves_the_state_it_starts_from_as_it_was(model):
    state = model.forward(tokens_of(5), model.initial_state()).state
    before = state.to_bytes()
    model.forward(tokens_of(70, seed=1), state)
    model.forward([3], state)
    model.forward_padded([(tokens_of(9), state), (tokens_of(64), state)], lanes=2, width=64)
    model.generate("on", state)
    assert state.to_bytes() == before


def test_logits_are_those_asked_for(model):
    tokens = tokens_of(9)
    every = model.forward(tokens, model.initial_state(), logits="all").logits
    last = model.forward(tokens, model.initial_state()).logits
    assert every is not None and last is not None
    assert every.shape == (9, 257) and last.shape == (257,)
    torch.testing.assert_close(every[-1], last)
    assert model.forward(tokens, model.initial_state(), logits="none").logits is None
    with pytest.raises(ShapeError, match="none, last or all"):
        model.forward(tokens, model.initial_state(), logits="first")


@pytest.mark.parametrize("token", [-1, 257, 10**6])
def test_a_token_outside_the_vocabulary_is_named_with_its_place(model, token):
    with pytest.raises(ShapeError, match=f"token {token} at position 1 is outside the model's 257"):
        model.forward([5, token], model.initial_state())


def test_a_state_of_another_model_is_refused(model):
    other = tiny_model(fingerprint="another")
    with pytest.raises(StateError, match="another"):
        model.forward([5], other.initial_state())


def test_more_items_than_lanes_or_more_tokens_than_the_width_are_refused(model):
    state = model.initial_state()
    with pytest.raises(ShapeError, match="do not fit 1 lanes of 64"):
        model.forward_padded([([1], state), ([2], state)], lanes=1, width=64)
    with pytest.raises(ShapeError, match="up to 65 tokens"):
        model.forward_padded([(tokens_of(65), state)], lanes=1, width=64)


@pytest.mark.parametrize("present", [True, False])
def test_the_unused_value_blend_of_the_first_layer_may_be_there_or_not(present):
    tensors = tiny_tensors()
    if not present:
        for letter in "012":
            del tensors[f"blocks.0.att.v{letter}"]
    weights = Weights("tiny", tensors)
    generations.read(weights)
    weights.finish()


@pytest.mark.parametrize(
    "name", ["blocks.1.att.receptance.weight", "blocks.2.ffn.x_k", "ln_out.bias", "blocks.1.att.g1"]
)
def test_a_missing_tensor_is_named(name):
    tensors = tiny_tensors()
    del tensors[name]
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        generations.read(Weights("file.pth", tensors))


@pytest.mark.parametrize("name", ["blocks.0.att.w2", "blocks.1.ffn.value.weight", "head.weight", "blocks.2.ln1.weight"])
def test_a_misshaped_tensor_is_named(name):
    tensors = tiny_tensors()
    tensors[name] = torch.zeros(3, 5)
    with pytest.raises(WeightsError, match=name):
        generations.read(Weights("file.pth", tensors))


def test_heads_that_do_not_make_the_width_are_refused():
    tensors = tiny_tensors() | {"blocks.0.att.r_k": torch.zeros(3, 16)}
    with pytest.raises(WeightsError, match="3 heads of size 16"):
        generations.read(Weights("file.pth", tensors))


def test_generation_is_repeatable_and_depends_on_the_seed(model):
    texts = [model.generate("once", max_tokens=12, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_greedy_generation_takes_the_most_likely_token_each_time(model):
    tokens = model.tokenizer.encode("once upon")
    output, expected = model.forward(tokens, model.initial_state()), []
    for _ in range(8):
        assert output.logits is not None
        expected.append(int(output.logits.argmax()))
        output = model.forward([expected[-1]], output.state)
    text = model.generate("once upon", max_tokens=8)
    assert 0 not in expected
    assert model.tokenizer.decode(expected).startswith(text)
    assert text == "" or text.encode()[:1] == model.tokenizer.token_bytes(expected[0])


def test_generation_goes_on_from_a_state(model):
    state = model.forward(model.tokenizer.encode("once "), model.initial_state()).state
    assert model.generate("upon", state, max_tokens=9) == model.generate("once upon", max_tokens=9)


def test_an_empty_prompt_is_refused_in_one_line(model):
    with pytest.raises(RwkvError, match="nothing to continue"):
        model.generate("")
