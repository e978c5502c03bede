"""Every precision of a matrix against the same product in float64, and the models that are loaded in one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkv_runtime
from rwkv_runtime import generations
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.matrices import (
    PRECISIONS,
    Float16Matrix,
    Int8Matrix,
    OneDnnMatrix,
    PlainMatrix,
    Precision,
    TorchInt4Matrix,
    for_torch,
    fp16,
    int4,
    int4_groups,
    int8,
    int8_product,
    int8_rows,
    packed_steps,
    unpacked_steps,
)
from rwkv_runtime.model import Model
from rwkv_runtime.placement import CPU, Plan
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import GENERATIONS, KERNELS, ByteTokenizer, tiny_model, tiny_tensors, tokens_of

ERRORS = {"fp32": 2e-6, "bf16": 5e-3, "fp16": 5e-4, "int8": 2e-2, "int4": 0.15}
"""Relative errors of a product of normal numbers that each precision may have."""


@pytest.fixture(params=PRECISIONS.values(), ids=lambda one: one.name)
def precision(request) -> Precision:
    return request.param


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("shape", [(48, 64), (65, 64), (224, 96), (7, 33)])
@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65])
def test_a_product_is_that_in_float64_to_the_error_of_the_precision(precision, shape, tokens):
    weight, x = normal(*shape, seed=tokens), normal(2, tokens, shape[1], seed=1)
    matrix = precision.keep(weight.bfloat16())
    found = matrix(x)
    assert (matrix.rows, matrix.columns, found.dtype, tuple(found.shape)) == (
        *shape,
        torch.float32,
        (2, tokens, shape[0]),
    )
    assert relative(found, x.double() @ weight.bfloat16().double().T) < ERRORS[precision.name]


def test_a_matrix_takes_the_bytes_of_its_precision(precision):
    sizes = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5 + 4 / 32}
    matrix = precision.keep(normal(512, 512))
    assert matrix.precision == precision.name
    assert matrix.nbytes == pytest.approx(sizes[precision.name] * 512 * 512, rel=0.01)


def test_bf16_weights_are_not_copied():
    weight = normal(32, 64).bfloat16()
    assert PRECISIONS["bf16"].keep(weight).weight.data_ptr() == weight.data_ptr()


def test_a_row_of_zeros_gives_zeros_and_a_row_does_not_depend_on_its_neighbours(precision):
    matrix, x = precision.keep(normal(48, 64)), normal(64, 64, seed=1)
    x[3] = 0
    other = normal(64, 64, seed=2) * 1000
    other[5] = x[5]
    assert not matrix(x)[3].any()
    assert torch.equal(matrix(x)[5], matrix(other)[5])


@settings(deadline=None)
@given(tokens=st.integers(1, 70), seed=st.integers(0, 2**31 - 1))
def test_int8_gives_the_same_bits_however_many_rows_there_are(tokens, seed):
    matrix, x = int8(normal(33, 40)), normal(tokens, 40, seed=seed)
    assert torch.equal(matrix(x), torch.cat([matrix(row.unsqueeze(0)) for row in x]))


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 70),
    rows=st.integers(1, 70),
    columns=st.one_of(st.integers(1, 70), st.integers(1020, 1045), st.integers(2040, 3100)),
    extreme=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_product_of_int8_in_float32_is_that_in_integers(count, rows, columns, extreme, seed):
    draw = torch.Generator().manual_seed(seed)
    steps, weight = (torch.randint(-128, 128, (n, columns), dtype=torch.int8, generator=draw) for n in (count, rows))
    if extreme:  # the largest sums that there can be, of either sign, beside those of any other
        steps[0], weight[0], weight[-1] = -128, -128, 127
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rwkv_runtime.matrices.multiplies_int8", lambda: False)
        patch.setattr("rwkv_runtime.matrices.BLOCK_ROWS", 32)
        patch.setattr(torch, "_int_mm", None)
        found = int8_product(steps, weight)
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), steps.long() @ weight.long().T)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rwkv_runtime.matrices.multiplies_int8", lambda: True)
        assert torch.equal(found, int8_product(steps, weight))


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_model_in_int8_gives_the_same_bits_where_torch_has_no_instructions_for_it(kernels, monkeypatch):
    if kernels == "native":
        monkeypatch.setattr("rwkv_runtime.native.matrices.in_words", lambda library, matrix: False)
    model, tokens = tiny_model(kernels=kernels, dtype="int8", generation="6"), tokens_of(100)
    outputs = []
    for has in (True, False):
        monkeypatch.setattr("rwkv_runtime.matrices.multiplies_int8", lambda has=has: has)
        outputs.append(model.forward(tokens, model.initial_state(), "all"))
    assert torch.equal(outputs[0].logits, outputs[1].logits)


@settings(deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 70), power=st.integers(-30, 30), seed=st.integers(0, 2**31 - 1))
def test_int8_steps_are_within_half_a_step(rows, columns, power, seed):
    x = normal(rows, columns, seed=seed) * 2.0**power
    steps, scales = int8_rows(x)
    assert steps.abs().max() <= 127
    assert bool(((steps.double() * scales.double() - x.double()).abs() <= scales.double() * 0.5001 + 1e-29).all())


@settings(deadline=None)
@given(rows=st.integers(1, 9), groups=st.integers(1, 3), offset=st.floats(-2, 2), seed=st.integers(0, 2**31 - 1))
def test_int4_values_are_within_a_step_of_the_weights(rows, groups, offset, seed):
    weight = normal(rows, 32 * groups, seed=seed) + offset
    kept = int4_groups(weight)
    scale, middle = (one.float().repeat_interleave(32, 1) for one in (kept.scale, kept.middle))
    assert bool((((kept.steps.float() - 8) * scale + middle - weight).abs() <= scale * 1.2).all())


@pytest.mark.parametrize("columns", [64, 128, 192, 320])
def test_packed_int4_steps_come_back(columns):
    steps = torch.randint(0, 16, (9, columns), dtype=torch.uint8, generator=torch.Generator().manual_seed(columns))
    packed = packed_steps(steps)
    assert packed.shape == (9, columns // 2)
    assert torch.equal(unpacked_steps(packed), steps)


def test_int4_rows_are_the_same_whether_unpacked_at_once_or_in_blocks(monkeypatch):
    matrix, x = int4(normal(50, 64)), normal(3, 64, seed=1)
    whole = matrix(x)
    monkeypatch.setattr("rwkv_runtime.matrices.BLOCK_ROWS", 16)
    assert torch.allclose(matrix(x), whole, rtol=1e-2, atol=1e-2)


def test_torchs_own_int4_is_the_same_matrix_within_bfloat16():
    matrix, x = int4(normal(48, 192)), normal(5, 192, seed=1)
    other = for_torch(matrix)
    assert isinstance(other, TorchInt4Matrix)
    assert (other.rows, other.columns, other.nbytes) == (matrix.rows, matrix.columns, matrix.nbytes)
    assert relative(other(x), matrix(x)) < 5e-3
    assert for_torch(ragged := int4(normal(49, 192))) is ragged


def test_float32_through_onednn_is_float32():
    weight, x = normal(384, 256), normal(64, 256, seed=1)
    for matrix in (OneDnnMatrix(weight), PlainMatrix(weight)):
        assert relative(matrix(x), x.double() @ weight.double().T) < 1e-6


@pytest.mark.parametrize("largest", [1e-20, 1.0, 3e9])
def test_float16_arithmetic_neither_overflows_nor_vanishes(largest):
    weight, x = normal(48, 64), normal(5, 64, seed=1) * largest
    matrix = fp16(weight)
    assert isinstance(matrix, Float16Matrix)
    assert relative(matrix.in_float16(x), x.double() @ weight.double().T) < 2e-3


def test_int8_weights_with_bfloat16_inputs_are_as_good():
    weight, x = normal(48, 64), normal(5, 64, seed=1)
    matrix = int8(weight)
    assert isinstance(matrix, Int8Matrix)
    assert relative(matrix.with_bfloat16(x), x.double() @ weight.double().T) < ERRORS["int8"]


def test_weights_beyond_float16_are_refused():
    with pytest.raises(UnsupportedModelError, match=r"100000 is beyond float16; load it as bf16"):
        fp16(torch.tensor([[1e5]]))


def model_of(generation: str, name: str) -> Model:
    tensors = {key: tensor.bfloat16() for key, tensor in tiny_tensors(generation=generation).items()}
    network = generations.read(Weights("tiny", tensors), Plan.uniform(CPU, PRECISIONS[name]))
    return Model(network, ByteTokenizer(), "tiny", dtype=name)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_in_every_precision_is_near_float32_in_one_piece_and_in_two(generation, precision):
    tokens = tokens_of(100)
    exact = model_of(generation, "fp32")
    model = model_of(generation, precision.name)
    expected = exact.forward(tokens, exact.initial_state(), logits="all")
    output = model.forward(tokens, model.initial_state(), logits="all")
    start = model.forward(tokens[:37], model.initial_state())
    rest = model.forward(tokens[37:], start.state, logits="all")

    assert output.hidden.dtype == output.logits.dtype == torch.float32
    within = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 6e-2, "int8": 0.15, "int4": 0.6}[precision.name]
    assert relative(output.hidden, expected.hidden) < within
    assert relative(rest.hidden, output.hidden[37:]) < within
    assert all(tensor.dtype == torch.float32 for tensor in output.state.tensors.values())


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_state_alone_has_the_bits_that_it_has_beside_features(generation, precision):
    engine = Engine(model_of(generation, precision.name), window=64, lanes=2)
    feeds = [Feed(tuple(tokens_of(n, n)), engine.model.initial_state(), False) for n in (0, 1, 64)]
    alone = engine.feed(feeds)
    beside = engine.feed([Feed(feed.tokens, feed.state, True) for feed in feeds])
    mixed = engine.feed([Feed(feed.tokens, feed.state, n == 1) for n, feed in enumerate(feeds)])
    for one, other, third in zip(alone, beside, mixed, strict=True):
        assert one.features is None
        assert one.state.to_bytes() == other.state.to_bytes() == third.state.to_bytes()


def test_the_numeric_fingerprint_tells_precisions_apart():
    found = {name: Engine(model_of("7", name), window=64, lanes=1).numeric_fingerprint() for name in PRECISIONS}
    assert len(set(found.values())) == len(PRECISIONS)


def test_a_dtype_is_loaded_by_name():
    assert rwkv_runtime.load(dtype="bf16").dtype == "bf16"


def test_large_matrices_are_kept_in_the_precision_and_low_rank_ones_in_no_less_than_bfloat16():
    model = model_of("7", "int8")
    layer = model._network.layers[0]
    mixes = [layer.time_mix.receptance, layer.time_mix.key, layer.time_mix.value, layer.time_mix.output]
    assert {one.precision for one in (*mixes, layer.channel_mix.key, layer.channel_mix.value)} == {"int8"}
    assert {layer.time_mix.decay.down.precision, layer.time_mix.gate_up.precision} == {"bf16"}
