"""Products of many rows by the native kernel, against the plain product in float64, where a set of kernels has it.

Outputs start as NaN between sentinels, so a row left out or a write beside one shows.
"""

from __future__ import annotations

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime.matrices import PRECISIONS, Matrix
from rwkv_runtime.native import matrices as native_matrices
from rwkv_runtime.native.library import DTYPES, Library
from rwkv_runtime.native.operations import NativeOperations
from tests.rwkv_runtime.guarded import Guarded
from tests.rwkv_runtime.many_rows import libraries_of_many_rows

LIBRARIES = libraries_of_many_rows()
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no instruction set here has products of many rows")
KINDS = ("fp32", "bf16", "int8", "int4")
WITHIN = {"fp32": 3e-6, "bf16": 4e-3, "int8": 1e-6, "int4": 4e-3}
"""Of int8 the sums are exact; of bf16 and int4 the result is rounded to bfloat16."""
# rows of the matrix below, at and above 16, 32 and 48; columns of more than one turn of 768 words
SHAPES = [(1, 64), (16, 64), (17, 96), (31, 192), (48, 128), (49, 704), (100, 3200)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(kind: str, rows: int, columns: int) -> Matrix:
    return NativeOperations(LIBRARIES[0]).keep(PRECISIONS[kind].keep(normal(rows, columns, seed=rows)))


def values(matrix: Matrix) -> Tensor:
    """The weights in float64, as they are kept."""
    if isinstance(matrix, native_matrices.NativeInt8Matrix):
        return matrix.weight.double() * matrix.scales.double().unsqueeze(1)
    if isinstance(matrix, native_matrices.NativeInt4Matrix):
        return matrix.unpacked(0, matrix.rows).double()
    return matrix.kept.weight.double()


def inputs(kind: str, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Rows as the kernel wants them: (what it is given, the sizes of steps, the same in float64)."""
    if kind == "fp32":
        return x, None, x.double()
    if kind != "int8":
        return x.bfloat16(), None, x.bfloat16().double()
    sizes = x.abs().amax(1) / 127
    steps = (x / sizes.unsqueeze(1)).round()
    return (steps + 128).to(torch.uint8), sizes, steps.double() * sizes.double().unsqueeze(1)


def called(library: Library, matrix: Matrix, x: Tensor, sizes: Tensor | None, y: Tensor) -> None:
    shown = native_matrices.described(matrix)
    pointers = (x.data_ptr(), None if sizes is None else sizes.data_ptr(), y.data_ptr())
    call = native_matrices.GemmStruct(library.threads(), ctypes.pointer(shown), len(x), *pointers, DTYPES[y.dtype])
    library.call_filled("gemm", call)


@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_of_many_rows_is_the_product_in_float64(shape, kind, out):
    for count in (1, 8, 33):
        guarded, matrix = Guarded(), kept(kind, *shape)
        given, sizes, exact = inputs(kind, normal(count, shape[1], seed=count))
        y = guarded.output(count, shape[0], dtype=out)
        called(LIBRARIES[0], matrix, given, sizes, y)
        expected = exact @ values(matrix).T
        assert float((y.double() - expected).norm()) <= max(WITHIN[kind], 4e-3 * (out != torch.float32)) * float(
            expected.norm()
        )
        assert guarded.intact()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [64, 3200])
def test_a_row_has_the_same_bits_at_any_place_among_any_number_of_rows_and_for_any_number_of_threads(
    kind, columns, monkeypatch
):
    matrix, x = kept(kind, 65, columns), normal(530, columns, seed=1)
    whole = matrix(x)
    for count in (9, 40, 517):
        assert torch.equal(matrix(x[-count:]), whole[-count:])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(matrix(x), whole)


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 70), count=st.integers(1, 40), words=st.integers(1, 60), seed=st.integers(0, 2**31 - 1))
def test_any_size_of_int8_is_exact_to_the_last_integer(rows, count, words, seed):
    library, draw = LIBRARIES[0], torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, (rows, 4 * words), dtype=torch.int8, generator=draw)
    x = torch.randint(1, 256, (count, 4 * words), dtype=torch.uint8, generator=draw)
    sums = weight.sum(1, dtype=torch.int32)
    matrix = native_matrices.NativeInt8Matrix(weight, torch.ones(rows), sums, library)
    y = Guarded().output(count, rows)
    called(library, matrix, x, torch.ones(count), y)
    assert torch.equal(y.double(), (x.double() - 128) @ weight.double().T)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_stays_in_its_own_row(kind):
    matrix, x = kept(kind, 50, 128), normal(40, 128, seed=2)
    x[7, 100] = float("nan")
    found = matrix(x)
    assert not torch.isfinite(found[7]).any()
    assert torch.isfinite(found[:7]).all() and torch.isfinite(found[8:]).all()


@pytest.mark.parametrize(("kind", "columns"), [("bf16", 67), ("int8", 66)])
def test_rows_that_fill_no_whole_words_are_multiplied_by_torch(kind, columns):
    matrix, x = kept(kind, 20, columns), normal(40, columns, seed=3)
    given = inputs(kind, x)[2]
    assert not native_matrices.in_words(LIBRARIES[0], matrix)
    assert float((matrix(x).double() - given @ values(matrix).T).norm()) < 0.01 * float(given.norm())
