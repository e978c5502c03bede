"""What holds for every generation that runs here, on tiny random weights."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime import generations
from rwkv_runtime.engine import Engine, Fed, Feed
from rwkv_runtime.errors import ShapeError, StateError, WeightsError
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import GENERATIONS, KERNELS, ByteTokenizer, plan_of, tiny_model, tiny_tensors, tokens_of

seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module", params=[(one, kernels) for one in GENERATIONS for kernels in KERNELS], ids="-".join)
def origin(request) -> dict[str, str]:
    return dict(zip(("generation", "kernels"), request.param, strict=True))


@pytest.fixture(scope="module")
def model(origin) -> Model:
    return tiny_model(**origin)


def model_of(tensors: dict[str, Tensor]) -> Model:
    weights = Weights("tiny", tensors)
    network = generations.read(weights)
    weights.finish()
    return Model(network, ByteTokenizer(), "tiny")


def assert_same_bits(left: State, right: State) -> None:
    assert left.tokens_seen == right.tokens_seen
    assert left.to_bytes() == right.to_bytes()


def assert_close(left: State, right: State, tolerance: float = 2e-4) -> None:
    assert left.tokens_seen == right.tokens_seen
    for name, tensor in left.tensors.items():
        torch.testing.assert_close(tensor, right.tensors[name], rtol=tolerance, atol=tolerance)


def test_every_module_of_the_folder_is_tested_here():
    assert sorted(name for module in generations.modules() for name in module.GENERATIONS) == sorted(GENERATIONS)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_exactly_one_module_recognises_the_tensors_in_any_order(generation):
    tensors = tiny_tensors(generation=generation)
    for names in (sorted(tensors), sorted(tensors, reverse=True)):
        weights = Weights("tiny", {name: tensors[name] for name in names})
        assert generations.recognise(weights) == (generation, None)
    kinds = frozenset(name.split(".", 2)[2] for name in tensors if name.startswith("blocks."))
    found = [module.recognise(weights, kinds) for module in generations.modules()]
    assert [name for name in found if name is not None] == [generation]


def test_the_configuration_is_read_from_the_shapes(model):
    config = model.config
    hidden = 256 if config.generation in ("4", "5.0", "7", "7a") else 224
    heads = (64, 1) if config.generation == "4" else (4, 16)
    assert (config.n_layer, config.n_embd, config.n_head, config.head_size) == (3, 64, *heads)
    assert (config.n_ffn, config.vocab_size) == (hidden, 257)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("sizes", [{"layers": 1}, {"width": 32, "head_size": 32, "layers": 2}])
def test_one_layer_and_one_head_are_read_and_recognised(generation, sizes):
    small = tiny_model(generation=generation, **sizes)
    assert small.config.generation == generation
    assert torch.isfinite(small.forward(tokens_of(40), small.initial_state()).hidden).all()


@given(length=st.integers(0, 90), cuts=st.lists(st.integers(0, 90), max_size=4), seed=seeds)
@settings(deadline=None, max_examples=10)
def test_reading_in_parts_is_reading_at_once(model, length, cuts, seed):
    tokens = tokens_of(length, seed)
    state, hidden = model.initial_state(), []
    for begin, end in pairwise([0, *sorted(min(cut, length) for cut in cuts), length]):
        output = model.forward(tokens[begin:end], state, logits="none")
        state = output.state
        hidden.append(output.hidden)

    at_once = model.forward(tokens, model.initial_state())
    assert_close(state, at_once.state)
    torch.testing.assert_close(torch.cat(hidden), at_once.hidden, rtol=1e-3, atol=1e-3)


def test_token_by_token_is_all_at_once(model):
    tokens = tokens_of(80)
    state = model.initial_state()
    for token in tokens:
        output = model.forward([token], state)
        state = output.state
    at_once = model.forward(tokens, model.initial_state())
    assert_close(state, at_once.state)
    torch.testing.assert_close(output.logits, at_once.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [1, 2, 40, 512, 513, 530])
def test_a_prompt_gives_the_logits_and_the_state_that_reading_gives_to_the_bit(model, length):
    begun = model.forward(tokens_of(7, 1), model.initial_state()).state
    whole = model.forward(tokens_of(length, 2), begun)
    logits, state = model.prefill(tokens_of(length, 2), begun)
    assert whole.logits is not None and torch.equal(logits, whole.logits)
    assert_same_bits(state, whole.state)


def test_a_prompt_without_a_token_is_refused(model):
    with pytest.raises(ShapeError, match="a prompt of 0 tokens has no last one"):
        model.prefill([], model.initial_state())


def test_reading_leaves_the_state_it_starts_from_as_it_was(model):
    for state in (model.initial_state(), model.forward(tokens_of(5), model.initial_state()).state):
        before = state.to_bytes()
        model.forward(tokens_of(70, seed=1), state)
        model.forward([3], state)
        model.forward_padded([(tokens_of(9), state), (tokens_of(64), state)], lanes=2, width=64)
        assert state.to_bytes() == before


@given(lengths=st.lists(st.integers(0, 64), min_size=1, max_size=4), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=8)
def test_a_lane_gives_the_same_bits_alone_and_at_any_place_of_a_batch(model, lengths, seed):
    states = [model.initial_state(), model.forward(tokens_of(20, seed), model.initial_state()).state]
    items = [(tokens_of(length, seed + place), states[place % 2]) for place, length in enumerate(lengths)]
    together = model.forward_padded(items, lanes=4, width=64)
    backwards = model.forward_padded(items[::-1], lanes=4, width=64)[::-1]
    for item, one, other in zip(items, together, backwards, strict=True):
        alone = model.forward_padded([item], lanes=4, width=64)[0]
        for output in (one, other):
            assert torch.equal(output.residual, alone.residual)
            assert torch.equal(output.hidden, alone.hidden)
            assert_same_bits(output.state, alone.state)


@pytest.mark.parametrize("length", [1, 33, 64])
def test_padding_never_touches_a_state(model, length):
    tokens = tokens_of(length)
    padded = model.forward_padded([(tokens, model.initial_state())], lanes=1, width=256)[0]
    plain = model.forward(tokens, model.initial_state())
    assert_close(padded.state, plain.state, tolerance=2e-5)
    torch.testing.assert_close(padded.hidden, plain.hidden, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_lanes_of_one_window_read_each_its_own_tokens_and_no_padding(generation, kernels):
    network = generations.read(Weights("tiny", tiny_tensors(generation=generation)), plan_of(kernels))
    lengths, tokens = [40, 0, 7], torch.tensor([tokens_of(40, seed=lane) for lane in range(3)])
    start = {name: torch.stack([tensor] * 3, dim=1) for name, tensor in network.initial_state().items()}
    with torch.inference_mode():
        residual, state = network.window(tokens, start, lengths)
        for lane, length in enumerate(lengths):
            one = {name: tensor[:, lane : lane + 1] for name, tensor in start.items()}
            alone, after = network.window(tokens[lane : lane + 1, :length], one, [length]) if length else (None, one)
            if alone is not None:
                torch.testing.assert_close(residual[lane, :length], alone[0], rtol=1e-4, atol=1e-4)
            for name, tensor in after.items():
                torch.testing.assert_close(state[name][:, lane], tensor[:, 0], rtol=1e-4, atol=1e-4)


@given(length=st.integers(1, 300), stops=st.sets(st.integers(0, 4), max_size=3), seed=seeds)
@settings(deadline=None, max_examples=5)
def test_a_document_stopped_saved_and_continued_on_the_grid_gives_the_same_bits(
    model, tmp_path_factory, length, stops, seed
):
    folder, tokens = tmp_path_factory.mktemp("states"), tokens_of(length, seed)

    def read(saving: set[int]) -> State:
        state = model.initial_state()
        for window, begin in enumerate(range(0, length, 64)):
            state = model.forward_padded([(tokens[begin : begin + 64], state)], lanes=2, width=64)[0].state
            if window in saving:
                state.to_arrow(folder / "state.arrow")
                state = State.from_arrow(folder / "state.arrow", model)
        return state

    assert_same_bits(read(stops), read(set()))


def test_a_state_of_another_generation_is_refused(model):
    other = tiny_model(generation="4" if model.config.generation != "4" else "7", fingerprint="another")
    with pytest.raises(StateError, match="another"):
        model.forward([5], other.initial_state())
    with pytest.raises(StateError, match=f"but the model is RWKV-{model.config.generation}"):
        State.from_bytes(other.initial_state().to_bytes(), model)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_weights_in_bf16_compute_what_the_same_values_in_fp32_do(generation):
    rounded = {name: tensor.bfloat16() for name, tensor in tiny_tensors(generation=generation).items()}
    small, large = model_of(rounded), model_of({name: tensor.float() for name, tensor in rounded.items()})
    tokens = tokens_of(40)
    left, right = (model.forward(tokens, model.initial_state(), logits="all") for model in (small, large))
    assert torch.equal(left.logits, right.logits)
    assert_same_bits(left.state, right.state)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_any_missing_or_misshaped_tensor_is_named(generation):
    tensors = tiny_tensors(generation=generation, layers=2)
    for name in (name for name in tensors if name.startswith("blocks.1.")):
        newest = name.replace("time_first", "time_faaaa") if generation == "5.0" else name
        with pytest.raises(WeightsError, match=f"{newest} is missing"):
            model_of({other: tensor for other, tensor in tensors.items() if other != name})
        with pytest.raises(WeightsError):
            model_of(tensors | {name: torch.zeros(3, 5)})


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_tensor_without_a_place_is_refused(generation):
    with pytest.raises(WeightsError, match="1 tensor"):
        model_of(tiny_tensors(generation=generation) | {"blocks.1.att.something": torch.zeros(2)})


@pytest.mark.parametrize("generation", GENERATIONS)
def test_vectors_may_be_stored_with_and_without_axes_of_one(generation):
    tensors = tiny_tensors(generation=generation)
    if generation == "4":  # a decay with one axis of length 1 behind it is that of RWKV-3
        vectors = {name: tensor.squeeze() for name, tensor in tensors.items() if tensor.dim() == 3}
    else:
        vectors = {
            name: tensor.squeeze() if tensor.dim() == 3 else tensor.view(*tensor.shape, 1, 1)
            for name, tensor in tensors.items()
            if tensor.dim() == 3 or name.endswith(("decay", "first"))
        }
    left, right = model_of(tensors), model_of(tensors | vectors)
    tokens = tokens_of(20)
    assert_same_bits(*(model.forward(tokens, model.initial_state()).state for model in (left, right)))


def same_bits(left: Fed, right: Fed) -> bool:
    assert left.features is not None and right.features is not None
    return left.state.to_bytes() == right.state.to_bytes() and left.features.tobytes() == right.features.tobytes()


def test_the_engine_pools_feeds_whose_bits_depend_on_nothing_else(model):
    engine = Engine(model, window=128, lanes=2)
    feeds = [Feed(tuple(tokens_of(length, length)), model.initial_state(), True) for length in (5, 128, 70, 1)]
    together = engine.feed(feeds)
    assert all(same_bits(fed, engine.feed([feed])[0]) for fed, feed in zip(together, feeds, strict=True))
    features = together[0].features
    assert features is not None and features.shape == (5, engine.pooler.feature_size)


def test_the_numeric_fingerprint_is_that_of_the_weights(model, origin):
    mark = Engine(model, window=64, lanes=1).numeric_fingerprint()
    assert Engine(tiny_model(**origin), window=64, lanes=1).numeric_fingerprint() == mark
    assert Engine(tiny_model(**origin, seed=9), window=64, lanes=1).numeric_fingerprint() != mark


@pytest.mark.parametrize("generation", GENERATIONS)
def test_native_kernels_give_what_torch_gives_but_other_bits_and_another_fingerprint(generation):
    models = [tiny_model(generation=generation, kernels=kernels) for kernels in KERNELS]
    tokens = tokens_of(200)
    plain, native = (model.forward(tokens, model.initial_state(), logits="all") for model in models)
    assert_close(plain.state, native.state, tolerance=2e-5)
    torch.testing.assert_close(plain.logits, native.logits, rtol=1e-4, atol=1e-4)
    assert len({Engine(model, window=64, lanes=1).numeric_fingerprint() for model in models}) == 2


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_single_tokens_are_as_near_to_float32_in_native_kernels_as_windows_are(generation, dtype):
    model, tokens = tiny_model(generation=generation, kernels="native", dtype=dtype), tokens_of(30)
    plain = tiny_model(generation=generation)
    exact = plain.forward(tokens, plain.initial_state()).hidden
    state, hidden = model.initial_state(), []
    for token in tokens:
        output = model.forward([token], state)
        state = output.state
        hidden.append(output.hidden)
    at_once = model.forward(tokens, model.initial_state())
    one_by_one, window = (float((one - exact).norm() / exact.norm()) for one in (torch.cat(hidden), at_once.hidden))
    assert one_by_one < max(1.5 * window, 1e-5)
    assert one_by_one < {"fp32": 1e-5, "bf16": 0.02, "int8": 0.05, "int4": 0.4}[dtype]


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_native_kernels_are_as_near_to_float32_in_other_precisions_as_torch_is(generation, dtype):
    tokens, exact = tokens_of(100), tiny_model(generation=generation)
    hidden = exact.forward(tokens, exact.initial_state()).hidden
    models = [tiny_model(generation=generation, kernels=kernels, dtype=dtype) for kernels in KERNELS]
    plain, native = (
        float((model.forward(tokens, model.initial_state()).hidden - hidden).norm() / hidden.norm()) for model in models
    )
    assert native < max(1.5 * plain, 0.01 if dtype == "bf16" else 0.03)


@pytest.mark.parametrize("generation", ["4", "5.0", "5.1", "5.2", "6"])
@pytest.mark.parametrize("stored", [-30.0, 2.0, 4.6, 90.0])
def test_adversarial_decays_give_the_same_in_chunks_and_token_by_token(generation, stored):
    tensors = tiny_tensors(generation=generation, layers=2)
    decays = {name: z for name, z in tensors.items() if name.endswith("time_decay")}
    every_other = {name: torch.where(torch.arange(z.numel()) % 2 == 0, stored, -6.0) for name, z in decays.items()}
    extreme = model_of(tensors | {name: every_other[name].view(z.shape) for name, z in decays.items()})
    tokens, state = tokens_of(70), extreme.initial_state()
    for token in tokens:
        state = extreme.forward([token], state, logits="none").state
    at_once = extreme.forward(tokens, extreme.initial_state())
    assert state.is_finite() and at_once.state.is_finite()
    assert_close(state, at_once.state)
