"""Matrices that native kernels multiply: any with one row, int8 with their rounding, int4 in blocks. Knows no layer."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.matrices import (
    GROUP,
    BFloat16Matrix,
    Int4Matrix,
    Int8Matrix,
    Matrix,
    OneDnnMatrix,
    PlainMatrix,
    by_blocks,
    int8_product,
)
from rwkv_runtime.native.library import DTYPES, Library, Threads

FEW_ROWS = 32
"""Rows of input up to which `products` is faster than torch's library; at most `MOST_LANES`."""
BLOCK_OF_INT4 = 16
"""Rows of int4 that lie together."""
KIND_FLOAT32, KIND_BFLOAT16, KIND_INT8, KIND_INT4 = range(4)


class MatrixStruct(Structure):
    """A matrix as src/abi.hpp has it."""

    _fields_ = (
        ("kind", c_int64),
        ("rows", c_int64),
        ("columns", c_int64),
        ("weight", c_void_p),
        ("scales", c_void_p),
        ("sums", c_void_p),
    )


class ProductsStruct(Structure):
    """A matrix times a few vectors."""

    _fields_ = (
        ("threads", Threads),
        ("matrix", POINTER(MatrixStruct)),
        ("lanes", c_int64),
        ("x", c_void_p),
        ("y", c_void_p),
        ("space", c_void_p),
    )


class GemmStruct(Structure):
    """A matrix times many rows."""

    _fields_ = (
        ("threads", Threads),
        ("matrix", POINTER(MatrixStruct)),
        ("lanes", c_int64),
        ("x", c_void_p),
        ("sizes", c_void_p),
        ("y", c_void_p),
        ("dtype", c_int32),
    )


@dataclass(frozen=True)
class NativeMatrix:
    """A matrix of float32 or bfloat16 on the CPU, which kernels multiply where they are faster than torch."""

    kept: OneDnnMatrix | PlainMatrix | BFloat16Matrix
    library: Library

    @cached_property
    def described(self) -> MatrixStruct:
        """The matrix for the kernels."""
        return described(self.kept)

    @property
    def precision(self) -> str:
        """How it is kept."""
        return self.kept.precision

    @property
    def activations(self) -> torch.dtype:
        """The type that inputs and results may be in."""
        return self.kept.activations

    @cached_property
    def rows(self) -> int:
        """Channels of the result."""
        return self.kept.rows

    @cached_property
    def columns(self) -> int:
        """Channels of the input."""
        return self.kept.columns

    @cached_property
    def _in_words(self) -> bool:
        return in_words(self.library, self)

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.kept.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        if x.numel() > FEW_ROWS * self.columns:
            return self._many(x)
        result = multiplied(self.library, self, x)
        return result.to(x.dtype if x.dtype == self.activations else torch.float32)

    def _many(self, x: Tensor) -> Tensor:
        if self._in_words:
            given = x.float() if self.described.kind == KIND_FLOAT32 else x.bfloat16()
            out = x.dtype if x.dtype == self.activations else torch.float32
            return multiplied_many(self.library, self, given, out)
        return self.kept(x)


@dataclass(frozen=True)
class NativeInt8Matrix:
    """int8 weights with a scale a row, on the CPU: as `Int8Matrix`, with one pass before the product and one after."""

    weight: Tensor  # [rows, columns] int8
    scales: Tensor  # [rows] float32
    sums: Tensor  # [rows] int32: of each row's weights
    library: Library
    precision: str = "int8"
    activations: torch.dtype = torch.bfloat16

    @classmethod
    def of(cls, matrix: Int8Matrix, library: Library) -> NativeInt8Matrix:
        """The same matrix."""
        return cls(matrix.weight, matrix.scales, matrix.weight.sum(dim=1, dtype=torch.int32), library)

    @cached_property
    def described(self) -> MatrixStruct:
        """The matrix for the kernels."""
        pointers = (self.weight.data_ptr(), self.scales.data_ptr(), self.sums.data_ptr())
        return MatrixStruct(KIND_INT8, self.rows, self.columns, *pointers)

    @property
    def rows(self) -> int:
        """Channels of the result."""
        return self.weight.shape[0]

    @property
    def columns(self) -> int:
        """Channels of the input."""
        return self.weight.shape[1]

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.weight.nbytes + self.scales.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns] float32 or bfloat16; returns [..., rows] of the same type."""
        return self._applied(x, squared_relu=0)

    def after_squared_relu(self, x: Tensor) -> Tensor:
        """Apply to the squared ReLU of [..., columns]."""
        return self._applied(x, squared_relu=1)

    def _applied(self, x: Tensor, squared_relu: int) -> Tensor:
        if x.numel() <= FEW_ROWS * self.columns and not squared_relu:
            return multiplied(self.library, self, x).to(x.dtype)
        flat, fast = x.reshape(-1, self.columns), in_words(self.library, self)
        steps, sizes = torch.empty(flat.shape, dtype=torch.uint8 if fast else torch.int8), torch.empty(len(flat))
        self.library.call(
            "quantise_rows",
            rows=len(flat),
            columns=self.columns,
            before=flat,
            quantised=steps,
            scales=sizes,
            squared_relu=squared_relu,
            offset=128 if fast else 0,
        )
        if fast:
            return multiplied_many(self.library, self, steps, x.dtype, sizes).view(*x.shape[:-1], self.rows)
        sums = int8_product(steps, self.weight)
        result = torch.empty(len(flat), self.rows, dtype=x.dtype)
        self.library.call(
            "dequantise_sums",
            rows=len(flat),
            columns=self.rows,
            sums=sums,
            row_scales=sizes,
            column_scales=self.scales,
            after=result,
        )
        return result.view(*x.shape[:-1], self.rows)


@dataclass(frozen=True)
class NativeInt4Matrix:
    """int4 weights as `Int4Matrix` has them, sixteen rows of a group together, as src/int4.hpp reads them."""

    blocks: Tensor  # [ceil(rows / 16), columns / 32, 320] uint8: of 16 rows the steps, and each one's scale and middle
    rows: int
    library: Library
    precision: str = "int4"
    activations: torch.dtype = torch.float32

    @classmethod
    def of(cls, matrix: Int4Matrix, library: Library) -> NativeInt4Matrix:
        """The same matrix."""
        missing = -matrix.rows % BLOCK_OF_INT4
        packed = F.pad(matrix.packed, (0, 0, 0, missing)).view(-1, BLOCK_OF_INT4, matrix.columns // GROUP, 4, 4)
        scales = F.pad(matrix.scales, (0, 0, 0, 0, 0, missing)).view(-1, BLOCK_OF_INT4, *matrix.scales.shape[1:])
        parts = (packed.permute(0, 2, 3, 1, 4), scales.permute(0, 3, 1, 2).contiguous().view(torch.uint8))
        return cls(torch.cat([part.flatten(2) for part in parts], dim=2), matrix.rows, library)

    @cached_property
    def described(self) -> MatrixStruct:
        """The matrix for the kernels."""
        return MatrixStruct(KIND_INT4, self.rows, self.columns, self.blocks.data_ptr(), None, None)

    @property
    def columns(self) -> int:
        """Channels of the input."""
        return self.blocks.shape[1] * GROUP

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.blocks.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        if x.numel() <= FEW_ROWS * self.columns:
            return multiplied(self.library, self, x)
        if in_words(self.library, self):
            return multiplied_many(self.library, self, x.bfloat16(), torch.float32)
        return by_blocks(x, self.rows, self.unpacked)

    def unpacked(self, begin: int, end: int) -> Tensor:
        """The values of some rows, from a multiple of 16 on: [end - begin, columns] bfloat16."""
        values = torch.empty(end - begin, self.columns, dtype=torch.bfloat16)
        blocks = self.blocks[begin // BLOCK_OF_INT4 :]
        self.library.call("unpack_int4", rows=end - begin, columns=self.columns, blocks=blocks, values=values)
        return values


@dataclass(frozen=True)
class NativeRows:
    """As `RowByRow`, by a kernel whose sums have an order of their own however many rows there are.

    That for many rows and that for few have different orders, so one of them takes all, be torch's faster or not.
    """

    weight: Tensor
    library: Library

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [n, columns]; returns [n, rows]."""
        matrix = PlainMatrix(self.weight)
        if self.library.has_products_of_many:
            return multiplied_many(self.library, matrix, x, torch.float32)
        return torch.cat([multiplied(self.library, matrix, rows) for rows in torch.split(x, FEW_ROWS)])


def multipliable(matrix: Matrix) -> bool:
    """Whether a kernel multiplies this matrix with a few vectors."""
    return isinstance(
        matrix, NativeMatrix | NativeInt8Matrix | NativeInt4Matrix | OneDnnMatrix | PlainMatrix | BFloat16Matrix
    )


def described(matrix: Matrix) -> MatrixStruct:
    """A `multipliable` matrix for the kernels, valid as long as the matrix is."""
    if isinstance(matrix, NativeMatrix | NativeInt8Matrix | NativeInt4Matrix):
        return matrix.described
    assert isinstance(matrix, OneDnnMatrix | PlainMatrix | BFloat16Matrix)
    kind = KIND_BFLOAT16 if isinstance(matrix, BFloat16Matrix) else KIND_FLOAT32
    return MatrixStruct(kind, matrix.rows, matrix.columns, matrix.weight.data_ptr(), None, None)


def multiplied(library: Library, matrix: Matrix, x: Tensor) -> Tensor:
    """A `multipliable` matrix times at most `MOST_LANES` vectors [..., columns]: [..., rows] float32."""
    given = x.float().contiguous()
    lanes, shown = given.numel() // matrix.columns, described(matrix)
    result, space = torch.empty(*x.shape[:-1], matrix.rows), torch.empty(lanes * matrix.columns)
    pointers = (given.data_ptr(), result.data_ptr(), space.data_ptr())
    library.call_filled("products", ProductsStruct(library.threads(), ctypes.pointer(shown), lanes, *pointers))
    return result


def in_words(library: Library, matrix: Matrix) -> bool:
    """Whether `multiplied_many` takes a `multipliable` matrix here, and is the fastest way: rows in whole words."""
    together = {KIND_FLOAT32: 1, KIND_INT8: 4}.get(described(matrix).kind, 2)
    return library.multiplies_many and matrix.columns % together == 0


def multiplied_many(
    library: Library, matrix: Matrix, x: Tensor, out: torch.dtype, sizes: Tensor | None = None
) -> Tensor:
    """A matrix that is `in_words` times rows [..., columns]: [..., rows] of the type `out`, float32 or bfloat16.

    The rows are float32, of bfloat16 and int4 in bfloat16, of int8 in uint8: steps with 128 added, of `sizes` a row.
    """
    given, shown = x.contiguous(), described(matrix)
    result = torch.empty(*x.shape[:-1], matrix.rows, dtype=out)
    lanes, steps = given.numel() // matrix.columns, None if sizes is None else sizes.data_ptr()
    pointers = (given.data_ptr(), steps, result.data_ptr())
    call = GemmStruct(library.threads(), ctypes.pointer(shown), lanes, *pointers, DTYPES[out])
    library.call_filled("gemm", call)
    return result
