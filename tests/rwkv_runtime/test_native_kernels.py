"""The native kernels against the slow recurrences and plain formulas, in every instruction set of this processor.

Outputs start as NaN between sentinels, so a row left out or a write beside one shows.
"""

from __future__ import annotations

import ctypes

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime import native
from rwkv_runtime.kernels.wkv4 import EMPTY, Sums, wkv4_recurrent
from rwkv_runtime.kernels.wkv6 import wkv6_recurrent
from rwkv_runtime.kernels.wkv7 import wkv7_recurrent
from rwkv_runtime.matrices import PRECISIONS, PlainMatrix, unpacked_steps
from rwkv_runtime.native import matrices as native_matrices
from rwkv_runtime.native.library import INSTRUCTION_SETS, Library, LibraryError
from rwkv_runtime.native.matrices import NativeRows
from rwkv_runtime.native.operations import NativeOperations
from tests.rwkv_runtime.guarded import Guarded

LIBRARIES = {name: library for name in INSTRUCTION_SETS if (library := native.load(name))}
pytestmark = pytest.mark.skipif(not LIBRARIES, reason=native.status().reason)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMULAS = {
    "squared_relu": lambda x: x.relu().square(),
    "hyperbolic_tangent": torch.tanh,
    "sigmoid": torch.sigmoid,
}
DECAY_SCALE, HEAD_EPS, EPS = -0.606531, 64e-5, 1e-5
LENGTHS = [(7,), (0, 5, 33), (64, 1)]
HEADS = [(2, 32), (1, 64), (1, 128), (3, 16), (2, 5), (1, 48)]
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(params=LIBRARIES)
def library(request) -> Library:
    return LIBRARIES[request.param]


class Draw:
    """Seeded tensors of order 1 in the type that a kernel is to be given."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def rows(self, *shape: int, spread: float = 1.0) -> Tensor:
        return (spread * torch.randn(shape, generator=self._generator)).to(self.dtype)

    def vector(self, *shape: int, spread: float = 1.0) -> Tensor:
        return spread * torch.randn(shape, generator=self._generator)

    def any_length(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)


def assert_near(found: Tensor, exact: Tensor, rounding: torch.dtype = torch.float32, within: float = 2e-5) -> None:
    tolerance = within if rounding == torch.float32 else 6e-3
    assert torch.isfinite(found).all()
    assert float((found.double() - exact).norm()) <= tolerance * (float(exact.norm()) + 1e-9)


def masked(rows: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Zeros at and after each lane's length."""
    inside = torch.arange(rows.shape[1]).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    return rows * inside.unsqueeze(-1)


def layer_norm_mixes(
    summed: Tensor, weight: Tensor, bias: Tensor, previous: Tensor, mix: Tensor
) -> tuple[Tensor, Tensor]:
    normed = F.layer_norm(summed.double(), weight.shape, weight.double(), bias.double(), EPS)
    before = torch.cat([previous.double().unsqueeze(1), normed[:, :-1]], dim=1)
    return normed, torch.lerp(normed, before, mix.double()[:, None, None])


@pytest.mark.parametrize("added_type", DTYPES)
@pytest.mark.parametrize("mixed_type", DTYPES)
@pytest.mark.parametrize(
    ("lengths", "width", "mixes"), [((37,), 64, 6), ((0, 5, 1), 7, 1), ((16, 3), 100, 5), ((1,), 256, 2)]
)
def test_addition_norm_shift_and_mixes_are_the_formulas(library, lengths, width, mixes, added_type, mixed_type):
    lanes, tokens, draw, out = len(lengths), max(lengths), Draw(width), Guarded()
    stream, previous = draw.vector(lanes, tokens, width), draw.vector(lanes, width)
    added = draw.vector(lanes, tokens, width).to(DTYPES[added_type])
    weight, bias, mix = draw.vector(width), draw.vector(width), draw.vector(mixes, width)
    summed, last = out.output(lanes, tokens, width), out.output(lanes, width)
    mixed = out.output(mixes, lanes, tokens, width, dtype=DTYPES[mixed_type])
    sizes = {"lanes": lanes, "tokens": tokens, "width": width, "mixes": mixes, "epsilon": EPS}
    outputs = {"summed": summed, "mixed": mixed, "last": last}
    given = {"stream": stream, "weight": weight, "bias": bias, "previous": previous, "mix": mix}
    library.call(
        "shift_mix", **sizes, **given, **outputs, lengths=torch.tensor(lengths), added=added,
    )  # fmt: skip
    normed, expected = layer_norm_mixes(stream + added.float(), weight, bias, previous, mix)

    assert torch.equal(summed, stream + added.float())
    assert_near(mixed, expected, mixed.dtype)
    assert_near(last, torch.stack([normed[i, n - 1] if n else previous[i].double() for i, n in enumerate(lengths)]))
    assert out.intact()


def test_without_an_addition_the_stream_itself_is_normed_and_no_sum_written(library):
    draw, out = Draw(1), Guarded()
    stream, previous, mix = draw.vector(1, 20, 24), draw.vector(1, 24), draw.vector(1, 24)
    weight, bias = draw.vector(24), draw.vector(24)
    summed, mixed, last = out.output(1, 20, 24), out.output(1, 1, 20, 24), out.output(1, 24)
    library.call(
        "shift_mix", lanes=1, tokens=20, width=24, mixes=1, lengths=torch.tensor([20]), stream=stream, weight=weight,
        bias=bias, previous=previous, mix=mix, summed=summed, mixed=mixed, last=last, epsilon=EPS,
    )  # fmt: skip
    assert_near(mixed, layer_norm_mixes(stream, weight, bias, previous, mix)[1])
    assert torch.isnan(summed).all()


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_lerps_with_amounts_of_each_token_are_the_formula(library, dtype):
    draw, out = Draw(3), Guarded()
    normed, previous, amounts = draw.vector(2, 9, 21), draw.vector(2, 21), draw.vector(5, 2, 9, 21)
    mixed = out.output(5, 2, 9, 21, dtype=dtype)
    library.call(
        "lerp_rows", lanes=2, tokens=9, width=21, mixes=5, normed=normed, previous=previous, amounts=amounts,
        mixed=mixed,
    )  # fmt: skip
    before = torch.cat([previous.unsqueeze(1), normed[:, :-1]], dim=1)
    assert_near(mixed, torch.lerp(normed, before, amounts).double(), dtype)
    assert out.intact()


class Case7:
    """Inputs of the time mix of RWKV-7, what they should give, and a call of the kernel."""

    def __init__(
        self, lengths: tuple[int, ...], heads: int, size: int, dtype: torch.dtype, low: torch.dtype, seed: int
    ):
        self.lengths, self.heads, self.size, self.dtype, self.low = lengths, heads, size, dtype, low
        draw, small, shape = Draw(seed, dtype), Draw(seed + 1, low), (len(lengths), max(lengths), heads * size)
        self.rows = {name: draw.rows(*shape) for name in ("receptance", "key", "value", "first_value")}
        self.rows["gate"] = small.rows(*shape)
        self.rows |= {name: small.rows(*shape, spread=3.0) for name in ("decay", "rate", "blend")}
        names = "decay_bias rate_bias blend_bias removal_scale key_rate bonus norm_weight norm_bias"
        self.vectors = {name: draw.vector(heads * size) for name in names.split()}
        self.memory = draw.vector(len(lengths), heads, size, size)

    def call(self, library: Library, out: Guarded) -> tuple[Tensor, Tensor]:
        lanes, tokens, width = self.rows["key"].shape
        mixed, after = out.output(lanes, tokens, width, dtype=self.dtype), out.output(*self.memory.shape)
        library.call(
            "time_mix7", lanes=lanes, tokens=tokens, heads=self.heads, size=self.size, **self.rows, **self.vectors,
            lengths=torch.tensor(self.lengths), memory=self.memory, memory_after=after, mixed=mixed,
            decay_scale=DECAY_SCALE, norm_epsilon=HEAD_EPS,
        )  # fmt: skip
        return mixed, after

    def expected(self) -> tuple[Tensor, Tensor]:
        rows = {name: x.double() for name, x in self.rows.items() if x is not None}
        v = {name: x.double() for name, x in self.vectors.items()}
        rate = torch.sigmoid(rows["rate"] + v["rate_bias"])
        log_decay = DECAY_SCALE * torch.sigmoid(rows["decay"] + v["decay_bias"])
        value = rows["value"]
        if "first_value" in rows:
            value = torch.lerp(value, rows["first_value"], torch.sigmoid(rows["blend"] + v["blend_bias"]))
        heads = (*value.shape[:2], self.heads, self.size)
        removal = F.normalize((rows["key"] * v["removal_scale"]).view(heads), dim=-1)
        key = (rows["key"] * (1 + (rate - 1) * v["key_rate"])).view(heads)
        receptance, value = rows["receptance"].view(heads), value.view(heads)
        steps = (receptance, log_decay.view(heads), key, value, removal, rate.view(heads))
        reads, after = wkv7_recurrent(*steps, self.memory.double(), self.lengths)
        normed = F.layer_norm(reads, (self.size,), eps=HEAD_EPS).flatten(-2) * v["norm_weight"] + v["norm_bias"]
        strength = (receptance * key * v["bonus"].view(self.heads, self.size)).sum(-1, keepdim=True)
        return masked((normed + (strength * value).flatten(-2)) * rows["gate"], self.lengths), after


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("low", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize(("heads", "size"), HEADS)
def test_the_time_mix_of_seven_is_the_slow_recurrence(library, heads, size, dtype, low):
    for lengths in LENGTHS:
        case, out = Case7(lengths, heads, size, dtype, low, seed=size), Guarded()
        mixed, after = case.call(library, out)
        expected, memory = case.expected()
        assert_near(mixed, expected, dtype)
        assert_near(after, memory)
        assert out.intact()


@pytest.mark.parametrize("decay", [-80.0, 80.0, 1e30, -1e30])
def test_decays_at_both_ends_of_their_range_are_the_slow_recurrence(library, decay):
    case = Case7((50,), 2, 32, torch.float32, torch.float32, seed=4)
    case.rows["decay"] = torch.full_like(case.rows["decay"], decay)
    mixed, after = case.call(library, Guarded())
    assert_near(mixed, case.expected()[0])
    assert_near(after, case.expected()[1])


def test_the_first_layer_keeps_its_values_and_an_empty_key_removes_nothing(library):
    case = Case7((9, 4), 2, 32, torch.float32, torch.float32, seed=5)
    case.rows["first_value"] = case.rows["blend"] = None
    case.rows["key"] = case.rows["key"].clone()
    case.rows["key"][:, 3] = 0
    mixed, after = case.call(library, Guarded())
    assert_near(mixed, case.expected()[0])
    assert_near(after, case.expected()[1])


@given(length=st.integers(1, 40), cut=st.integers(0, 40), seed=seeds)
@settings(deadline=None, max_examples=15)
def test_two_parts_are_the_same_bits_as_all_at_once_and_nothing_past_a_length_matters(length, cut, seed):
    library, cut = next(iter(LIBRARIES.values())), min(cut, length)
    whole = Case7((length,), 2, 16, torch.float32, torch.float32, seed)
    first, rest = (Case7((length,), 2, 16, torch.float32, torch.float32, seed) for _ in range(2))
    first.lengths = (cut,)
    for name, rows in first.rows.items():
        first.rows[name] = rows.clone()
        first.rows[name][:, cut:] = float("nan")
    mixed, first_memory = first.call(library, Guarded())
    parts = [mixed[:, :cut]]
    rest.memory, rest.lengths = first_memory, (length - cut,)
    rest.rows = {name: rows[:, cut:].contiguous() for name, rows in whole.rows.items()}
    mixed, memory = rest.call(library, Guarded())

    expected, at_once = whole.call(library, Guarded())
    assert torch.equal(torch.cat([*parts, mixed], dim=1), expected)
    assert torch.equal(memory, at_once)


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_bits_depend_on_neither_the_number_of_threads_nor_whose_they_are(library, kept, monkeypatch):
    case = Case7((30, 11, 0), 3, 16, torch.float32, torch.float32, seed=6)
    alone = case.call(library, Guarded())
    monkeypatch.setattr(torch, "get_num_threads", lambda: kept)
    for region in (library._region, None):
        monkeypatch.setattr(library, "_region", region)
        assert all(torch.equal(one, other) for one, other in zip(alone, case.call(library, Guarded()), strict=True))


class Case6:
    """Inputs of the time mix of RWKV-5 and 6."""

    def __init__(self, lengths: tuple[int, ...], heads: int, size: int, dtype: torch.dtype, own: bool, gated: bool):
        self.lengths, self.heads, self.size, self.dtype = lengths, heads, size, dtype
        draw, shape = Draw(size, dtype), (len(lengths), max(lengths), heads * size)
        self.rows: dict[str, Tensor | None] = {name: draw.rows(*shape) for name in ("receptance", "key", "value")}
        self.rows["gate"] = draw.rows(*shape) if gated else None
        self.rows["decay"] = draw.vector(*shape, spread=4.0) if own else None
        self.vectors = {name: draw.vector(heads * size) for name in ("decay_bias", "bonus", "norm_weight", "norm_bias")}
        self.memory = draw.vector(len(lengths), heads, size, size)

    def call(self, library: Library, out: Guarded) -> tuple[Tensor, Tensor]:
        assert self.rows["key"] is not None
        lanes, tokens, width = self.rows["key"].shape
        mixed, after = out.output(lanes, tokens, width, dtype=self.dtype), out.output(*self.memory.shape)
        library.call(
            "time_mix6", lanes=lanes, tokens=tokens, heads=self.heads, size=self.size, **self.rows, **self.vectors,
            lengths=torch.tensor(self.lengths), memory=self.memory, memory_after=after, mixed=mixed,
            norm_epsilon=HEAD_EPS,
        )  # fmt: skip
        return mixed, after

    def expected(self) -> tuple[Tensor, Tensor]:
        rows = {name: x.double() for name, x in self.rows.items() if x is not None}
        v = {name: x.double() for name, x in self.vectors.items()}
        heads = (*rows["key"].shape[:2], self.heads, self.size)
        log_decay = -torch.exp(rows.get("decay", torch.zeros_like(rows["key"])) + v["decay_bias"])
        steps = [x.view(heads) for x in (rows["receptance"], log_decay, rows["key"], rows["value"])]
        bonus = v["bonus"].view(self.heads, self.size)
        reads, after = wkv6_recurrent(*steps, bonus, self.memory.double(), self.lengths)
        mixed = F.layer_norm(reads, (self.size,), eps=HEAD_EPS).flatten(-2) * v["norm_weight"] + v["norm_bias"]
        return masked(mixed * F.silu(rows["gate"]) if "gate" in rows else mixed, self.lengths), after


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize(("own", "gated"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize(("heads", "size"), HEADS)
def test_the_time_mix_of_five_and_six_is_the_slow_recurrence(library, heads, size, own, gated, dtype):
    for lengths in LENGTHS:
        case, out = Case6(lengths, heads, size, dtype, own, gated), Guarded()
        mixed, after = case.call(library, out)
        expected, memory = case.expected()
        assert_near(mixed, expected, dtype)
        assert_near(after, memory)
        assert out.intact()


@pytest.mark.parametrize("decay", [-90.0, 40.0, 90.0, float("inf"), -float("inf")])
def test_decays_of_six_from_none_to_all_are_the_slow_recurrence(library, decay):
    case = Case6((40,), 1, 32, torch.float32, own=True, gated=True)
    case.rows["decay"] = torch.full((1, 40, 32), decay)
    mixed, after = case.call(library, Guarded())
    expected, memory = case.expected() if decay < 80 else forgetting(case)
    assert_near(mixed, expected)
    assert_near(after, memory)


def forgetting(case: Case6) -> tuple[Tensor, Tensor]:
    """What is expected where everything is forgotten at once; minus infinity times 0 is avoided."""
    case.rows["decay"] = torch.full((1, 40, 32), 20.0)
    return case.expected()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("width", [16, 64, 7, 100])
@pytest.mark.parametrize("keys", [1.0, 100.0])
def test_the_time_mix_of_four_is_the_slow_recurrence(library, width, keys, dtype):
    for lengths in LENGTHS:
        lanes, tokens, draw, out = len(lengths), max(lengths), Draw(width, dtype), Guarded()
        key, value, receptance = (draw.rows(lanes, tokens, width, spread=s) for s in (keys, 1.0, 2.0))
        log_decay, bonus = -draw.vector(width).exp(), draw.vector(width)
        start = Sums(draw.vector(lanes, width), draw.vector(lanes, width).abs() + 0.1, draw.vector(lanes, width))
        start.maximum[0], start.numerator[0], start.denominator[0] = EMPTY, 0, 0
        after = [out.output(lanes, width) for _ in range(3)]
        mixed = out.output(lanes, tokens, width, dtype=dtype)
        library.call(
            "time_mix4", lanes=lanes, tokens=tokens, width=width, lengths=torch.tensor(lengths), key=key, value=value,
            receptance=receptance, numerator=start.numerator, denominator=start.denominator, maximum=start.maximum,
            numerator_after=after[0], denominator_after=after[1], maximum_after=after[2], log_decay=log_decay,
            bonus=bonus, mixed=mixed,
        )  # fmt: skip
        exact = Sums(*(x.double() for x in start))
        reads, sums = wkv4_recurrent(key.double(), value.double(), log_decay.double(), bonus.double(), exact, lengths)

        within = 2e-6 * max(10.0, keys)  # a key of 100 has float32 steps of 8e-6, which are those of its weight
        assert_near(mixed, masked(reads * torch.sigmoid(receptance.double()), lengths), dtype, within)
        for found, expected in zip(after, sums, strict=True):
            assert_near(found, expected, within=within)
        assert out.intact()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("count", [1, 63, 64, 40_001])
@pytest.mark.parametrize("kernel", FORMULAS)
def test_activations_are_their_formulas_also_in_place(library, kernel, count, dtype):
    out, before = Guarded(), Draw(count, dtype).rows(count)
    before[:3] = torch.tensor([0.0, 50.0, -50.0])[:count]
    after = out.output(count, dtype=dtype)
    library.call(kernel, count=count, before=before, after=after)
    assert_near(after, FORMULAS[kernel](before.double()), dtype)
    assert out.intact()
    library.call(kernel, count=count, before=before, after=before)
    assert torch.equal(before, after)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("columns", [1, 64, 67, 1000])
def test_quantised_rows_are_within_half_a_step_and_reach_127(library, columns, squared, dtype):
    out, before = Guarded(), Draw(columns, dtype).rows(5, columns)
    before[2] = 0
    exact = before.double().relu().square() if squared else before.double()
    quantised, scales = out.output(5, columns, dtype=torch.int8), out.output(5)
    library.call(
        "quantise_rows", rows=5, columns=columns, before=before, quantised=quantised, scales=scales,
        squared_relu=int(squared),
    )  # fmt: skip
    found = quantised.double() * scales.double().unsqueeze(1)
    assert ((found - exact).abs() <= 0.501 * scales.double().unsqueeze(1)).all()
    assert not quantised[2].any()
    reaching = exact.abs().amax(1) > 0
    assert (quantised[reaching].abs().amax(1) == 127).all()
    assert out.intact()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("rows", "place"), [(1, 0), (1, 66), (3, 5)])
def test_what_is_not_finite_stays_so_through_int8(library, bad, rows, place):
    matrix = NativeOperations(library).keep(PRECISIONS["int8"].keep(Draw(4).vector(20, 67)))
    x = Draw(5).vector(rows, 67)
    x[0, place] = bad
    found = matrix(x)
    assert not torch.isfinite(found[0]).any()
    assert torch.isfinite(found[1:]).all()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("columns", [1, 64, 67])
def test_dequantised_sums_are_scaled_by_row_and_column(library, columns, dtype):
    out, draw = Guarded(), Draw(columns)
    sums = torch.randint(-(2**24), 2**24, (4, columns), dtype=torch.int32)
    rows, scales, after = draw.vector(4), draw.vector(columns), out.output(4, columns, dtype=dtype)
    library.call(
        "dequantise_sums", rows=4, columns=columns, sums=sums, row_scales=rows, column_scales=scales, after=after,
    )  # fmt: skip
    assert_near(after, sums.double() * rows.double().unsqueeze(1) * scales.double(), dtype)
    assert out.intact()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 64), (100, 67), (64, 1000)])
def test_a_matrix_times_one_row_is_its_product_with_many(library, rows, columns, dtype):
    draw = Draw(rows)
    plain = PRECISIONS[dtype].keep(draw.vector(rows, columns))
    matrix, x = NativeOperations(library).keep(plain), draw.vector(4, columns)
    for row in x:
        assert_near(matrix(row), plain(row.repeat(4, 1))[0].double(), within=5e-3 if dtype == "bf16" else 1e-5)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("columns", [64, 67, 192, 768])
def test_a_row_has_the_same_bits_alone_and_among_a_few_and_at_any_place_among_more(library, dtype, columns):
    draw = Draw(columns)
    matrix = NativeOperations(library).keep(PRECISIONS[dtype].keep(draw.vector(41, columns)))
    x = draw.vector(32, columns)
    alone, together = torch.stack([matrix(row) for row in x]), matrix(x)
    for count in (1, 2, 3, 4, 5, 7):
        assert torch.equal(matrix(x[-count:]), alone[-count:])
    for count in (8, 9, 31):
        assert torch.equal(matrix(x[-count:]), together[-count:])


WIDTHS_OF_INT4 = [32, 64, 96, 768, 3072]


@pytest.mark.parametrize("columns", WIDTHS_OF_INT4)
def test_int4_values_are_those_of_the_definition(library, columns):
    out, plain = Guarded(), PRECISIONS["int4"].keep(Draw(columns).vector(37, columns))
    matrix, values = NativeOperations(library).keep(plain), out.output(37, columns, dtype=torch.bfloat16)
    library.call("unpack_int4", rows=37, columns=columns, blocks=matrix.blocks, values=values)
    assert torch.equal(values, plain.unpacked(0, 37))
    assert torch.equal(matrix.unpacked(16, 37), values[16:])
    assert out.intact()


@pytest.mark.parametrize("columns", WIDTHS_OF_INT4)
def test_int4_times_one_row_is_the_product_with_the_row_in_int8_by_groups(library, columns):
    plain = PRECISIONS["int4"].keep(Draw(columns).vector(37, columns))
    matrix, x = NativeOperations(library).keep(plain), Draw(1).vector(columns)
    x[:32] = 0
    groups = x.double().view(-1, 32)
    sizes = (groups.abs().amax(1, keepdim=True) / 127).clamp_min(1e-30)
    rounded = ((groups / sizes).round() * sizes).flatten()
    scale, middle = (one.repeat_interleave(32, 1) for one in plain.scales.double().unbind(1))
    weight = (unpacked_steps(plain.packed).double() - 8) * scale + middle
    assert_near(matrix(x), weight @ rounded, within=1e-5)
    assert (matrix(x).double() - weight @ x.double()).norm() <= 0.01 * (weight @ x.double()).norm()


@pytest.mark.parametrize(("dtype", "rows"), [("fp32", 1_543), ("bf16", 3_079), ("int8", 6_151), ("int4", 12_295)])
def test_a_matrix_of_six_mebibytes_gives_one_row_the_same_bits_on_any_number_of_threads(
    library, dtype, rows, monkeypatch
):
    plain, x = PRECISIONS[dtype].keep(Draw(8).vector(rows, 1_024)), Draw(9).vector(1_024)
    matrix = NativeOperations(library).keep(plain)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(matrix(x))
    assert torch.isfinite(found[0]).all()
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize(("rows", "asked"), [(1_000, []), (1_100, [5]), (1_600, [5]), (4_000, [5])])
def test_a_vector_wakes_all_threads_where_its_matrix_has_two_mebibytes_for_two_of_them(
    library, rows, asked, monkeypatch
):
    counts: list[int] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    def region(work: int, data: int, count: int, _flags: int) -> None:
        counts.append(count)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work)(data)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(library, "_region", ctypes.cast(region, ctypes.c_void_p).value)
    weight, x = Draw(1).vector(rows, 1_024), Draw(2).vector(1_024)
    assert_near(native_matrices.multiplied(library, PlainMatrix(weight), x), weight.double() @ x.double(), within=1e-5)
    assert counts == asked


@pytest.mark.parametrize("has_faster_torch", [False, True])
@given(count=st.integers(0, 70), rows=st.integers(1, 50), columns=st.integers(1, 90), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=25)
def test_a_row_of_float32_has_the_bits_that_it_has_alone_and_is_the_product_in_float64(
    has_faster_torch, count, rows, columns, seed
):
    x, weight = Draw(seed).vector(count, columns), Draw(seed + 1).vector(rows, columns)
    for name in LIBRARIES:
        library = native.load(name)
        assert library is not None
        if has_faster_torch:  # as on processors with AMX
            library.multiplies_many = False
        product = NativeRows(weight, library)
        together = product(x)
        assert together.shape == (count, rows)
        assert_near(together, x.double() @ weight.double().T, within=1e-5)
        assert all(torch.equal(product(one[None])[0], row) for one, row in zip(x, together, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_through_int4(library, bad):
    matrix, x = NativeOperations(library).keep(PRECISIONS["int4"].keep(Draw(4).vector(20, 192))), Draw(5).vector(192)
    x[190] = bad
    assert not torch.isfinite(matrix(x)).any()


@pytest.mark.parametrize(("dtype", "columns"), [("bf16", 50), ("int8", 50), ("int4", 96)])
def test_an_output_of_one_row_is_written_and_nothing_beside_it(library, dtype, columns):
    out, matrix = Guarded(), NativeOperations(library).keep(PRECISIONS[dtype].keep(Draw(2).vector(37, columns)))
    result, space, described = out.output(37), out.output(columns), native_matrices.described(matrix)
    pointers = (Draw(3).vector(columns), result, space)
    call = native_matrices.ProductsStruct(
        library.threads(), ctypes.pointer(described), 1, *(tensor.data_ptr() for tensor in pointers)
    )
    library.call_filled("products", call)
    assert torch.isfinite(result).all()
    assert out.intact()


def test_tensors_of_one_kind_that_differ_in_type_are_refused(library):
    with pytest.raises(LibraryError, match="must be of one type"):
        library.call("squared_relu", count=8, before=torch.zeros(8), after=torch.zeros(8).bfloat16())


@pytest.mark.parametrize("wrong", [torch.zeros(8).double(), torch.zeros(4, 4).T, [0.0] * 8])
def test_what_a_kernel_cannot_take_is_named(library, wrong):
    with pytest.raises(LibraryError, match="squared_relu cannot take before"):
        library.call("squared_relu", count=8, before=wrong, after=torch.zeros(8))
