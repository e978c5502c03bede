"""Weight matrices by the precision that they are kept and multiplied in: float32, bfloat16, float16, int8, int4.

Whatever the precision, a matrix takes and gives float32, or a shorter type where it says so; norms, decays, states
and recurrences never come here. Each row of a result depends on the same row of the input alone, and on the number of
rows. Knows nothing of layers, names or files.

What is multiplied, for a weight matrix W [rows, columns] and x [..., columns]:
    fp32  x W^T through oneDNN, which on AMD is faster than the library that F.linear calls
    bf16  both rounded to bfloat16, summed in float32, the result rounded to bfloat16
    fp16  as kept: W in float16; on a CPU x W^T in float32, else in float16 after each row of x is scaled by a power of
          two, so that nothing overflows
    int8  W by one scale a row; on a CPU also x by one scale a row, and their product exactly, else x in bfloat16
    int4  W by a scale and a middle for every 32 columns of a row; x in bfloat16, or, of a few rows in native kernels,
          in int8 with a scale for every 32 columns; on a CPU only
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.errors import UnsupportedModelError

GROUP = 32
"""Columns that share a scale in int4."""
BLOCK_ROWS = 8192
"""Rows of int4 or int8 that are unpacked at a time; a multiple of 16."""
EXACT_COLUMNS = 1024
"""Products of int8 whose sum float32 always holds: 1024 * 128 * 128 is 2^24."""
TORCH_INT4_ROWS = 16
"""torch's own kernel for int4 wants rows in blocks of so many."""
SMALLEST = 1e-30
"""Stands for a scale of 0, which a row of zeros has."""


class Matrix(Protocol):
    """A weight matrix [rows, columns] that is applied to the last axis of what it is called with."""

    @property
    def precision(self) -> str:
        """How it is kept: fp32, bf16, fp16, int8 or int4."""

    @property
    def rows(self) -> int:
        """Channels of the result."""

    @property
    def columns(self) -> int:
        """Channels of the input."""

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""

    @property
    def activations(self) -> torch.dtype:
        """The type, float32 or another, that inputs and results may be in at no loss beside that of the product."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply to [..., columns] of any float type.

        Returns [..., rows], which the caller may write into: of the type of the input if that is `activations`, else
        float32.
        """


class RowProduct(Protocol):
    """A weight matrix in float32 that gives each row of [n, columns] the same bits, whatever the others are."""

    @property
    def weight(self) -> Tensor:
        """[rows, columns]."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply to [n, columns]; returns [n, rows]."""


class _Shaped:
    """What follows from the one tensor of a matrix that has its shape."""

    weight: Tensor

    @property
    def activations(self) -> torch.dtype:
        """float32."""
        return torch.float32

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
        return self.weight.nbytes


@dataclass(frozen=True)
class RowByRow:
    """float32 [rows, columns], applied to each of n rows alone: its bits depend on neither n nor the other rows.

    The product of several rows at a time gives a row other bits for another n.
    """

    weight: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [n, columns]; returns [n, rows]."""
        if not len(x):
            return x.new_empty(0, len(self.weight))
        return torch.stack([torch.mv(self.weight, row) for row in x.unbind()])


@dataclass(frozen=True)
class PlainMatrix(_Shaped):
    """float32, multiplied by the library that torch comes with."""

    weight: Tensor
    precision: str = "fp32"

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        return F.linear(x.float(), self.weight)


@dataclass(frozen=True)
class SmallGpuMatrix(_Shaped):
    """float32 on a GPU, but for rows that come in bfloat16: they are multiplied in it, many times as fast there."""

    weight: Tensor
    short: Tensor  # the weight in bfloat16
    precision: str = "fp32"

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]; returns bfloat16 for bfloat16."""
        return F.linear(x, self.short) if x.dtype == torch.bfloat16 else F.linear(x.float(), self.weight)


@dataclass(frozen=True)
class OneDnnMatrix(_Shaped):
    """float32 on an x86 CPU, multiplied by oneDNN: F.linear calls MKL there, which uses half of an AMD processor."""

    weight: Tensor
    precision: str = "fp32"

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        x = x.float()
        if x.numel() <= x.shape[-1]:  # of one row, the call itself would take most of the time
            return F.linear(x, self.weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")
        return product


@dataclass(frozen=True)
class BFloat16Matrix(_Shaped):
    """bfloat16 weights, as most files have them: mapped from there, they take no memory of their own."""

    weight: Tensor
    precision: str = "bf16"

    @property
    def activations(self) -> torch.dtype:
        """bfloat16: what an input is rounded to and a result is in anyway."""
        return torch.bfloat16

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        return F.linear(x.bfloat16(), self.weight).to(x.dtype)


@dataclass(frozen=True)
class Float16Matrix(_Shaped):
    """float16 weights. CPUs multiply float16 slowly, so there it saves memory and not time."""

    weight: Tensor
    precision: str = "fp16"

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        if self.weight.device.type == "cpu":
            return F.linear(x.float(), self.weight.float())
        return self.in_float16(x.float())

    def in_float16(self, x: Tensor) -> Tensor:
        """Apply with float16 arithmetic. Squared ReLUs can be beyond its range, so each row is scaled to at most 1."""
        largest = x.abs().amax(dim=-1, keepdim=True).clamp_min_(SMALLEST)
        scale = torch.exp2(torch.ceil(torch.log2(largest)))
        return F.linear((x / scale).half(), self.weight).float().mul_(scale)


@dataclass(frozen=True)
class Int8Matrix(_Shaped):
    """int8 weights with a scale a row: W is about weight * scales[:, None]."""

    weight: Tensor  # [rows, columns] int8
    scales: Tensor  # [rows] float32
    precision: str = "int8"

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.weight.nbytes + self.scales.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        return self.with_int8(x.float()) if self.weight.device.type == "cpu" else self.with_bfloat16(x)

    def with_int8(self, x: Tensor) -> Tensor:
        """Apply with the input in int8 as well: sums of integers, the same bits however many rows there are."""
        quantized, scales = int8_rows(x.reshape(-1, x.shape[-1]))
        product = int8_product(quantized, self.weight).float().mul_(self.scales).mul_(scales)
        return product.view(*x.shape[:-1], -1)

    def with_bfloat16(self, x: Tensor) -> Tensor:
        """Apply with the input in bfloat16, in which the weights are exact."""
        return F.linear(x.bfloat16(), self.weight.bfloat16()).float().mul_(self.scales)


@dataclass(frozen=True)
class Int4Matrix:
    """int4 weights in groups of 32 columns, unpacked to bfloat16 for each product.

    Byte i of a group holds the steps of its columns i (low half) and 16 + i.
    """

    packed: Tensor  # [rows, columns / 2] uint8
    scales: Tensor  # [rows, 2, columns / 32] bfloat16: the scale of each group and the value of its middle step
    precision: str = "int4"
    activations: torch.dtype = torch.float32

    @property
    def rows(self) -> int:
        """Channels of the result."""
        return self.packed.shape[0]

    @property
    def columns(self) -> int:
        """Channels of the input."""
        return self.packed.shape[1] * 2

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.packed.nbytes + self.scales.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        return by_blocks(x, self.rows, self.unpacked)

    def unpacked(self, begin: int, end: int) -> Tensor:
        """The values of some rows: [end - begin, columns] bfloat16."""
        scale, middle = self.scales[begin:end].float().unsqueeze(-1).unbind(1)
        steps = unpacked_steps(self.packed[begin:end]).float().sub_(8).view(*scale.shape[:2], GROUP)
        return steps.mul_(scale).add_(middle).bfloat16().flatten(-2)


@dataclass(frozen=True)
class TorchInt4Matrix:
    """int4 weights in groups of 32 columns, packed as torch's CPU kernel wants them."""

    packed: Tensor
    scales: Tensor  # [columns / 32, rows, 2] bfloat16: a scale and the value of the middle step
    precision: str = "int4"
    activations: torch.dtype = torch.float32

    @classmethod
    def of(cls, matrix: Int4Matrix) -> TorchInt4Matrix:
        """The same matrix, whose rows are a multiple of 16."""
        packed = torch._convert_weight_to_int4pack_for_cpu(unpacked_steps(matrix.packed).int(), 1)
        return cls(packed, matrix.scales.permute(2, 0, 1).contiguous())

    @property
    def rows(self) -> int:
        """Channels of the result."""
        return self.scales.shape[1]

    @property
    def columns(self) -> int:
        """Channels of the input."""
        return self.scales.shape[0] * GROUP

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.packed.nbytes + self.scales.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns]."""
        flat = x.reshape(-1, x.shape[-1]).bfloat16()
        product: Tensor = torch._weight_int4pack_mm_for_cpu(flat, self.packed, GROUP, self.scales)
        return product.float().view(*x.shape[:-1], -1)


class Int4Groups(NamedTuple):
    """A matrix in int4: the value at row r and column c of group g is about (steps[r, c] - 8) * scale + middle."""

    steps: Tensor  # [rows, columns] uint8, 0 to 15
    scale: Tensor  # [rows, columns / 32] bfloat16
    middle: Tensor  # [rows, columns / 32] bfloat16


def by_blocks(x: Tensor, rows: int, unpacked: Callable[[int, int], Tensor]) -> Tensor:
    """Apply a matrix whose values are made when needed, `unpacked` for a range of rows, so that few are in memory."""
    short = x.bfloat16()
    blocks = [
        F.linear(short, unpacked(begin, min(begin + BLOCK_ROWS, rows))).float() for begin in range(0, rows, BLOCK_ROWS)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-1)


def multiplies_int8() -> bool:
    """Whether torch has instructions for products of int8 here (AVX512-VNNI); else it loops over single numbers."""
    return torch.cpu._is_vnni_supported()


def int8_product(steps: Tensor, weight: Tensor) -> Tensor:
    """The exact product of int8 [n, columns] with each row of int8 [rows, columns], on a CPU: [n, rows] int32.

    Without instructions for int8, float32 gives the same integers tens of times as fast as that loop.
    """
    if multiplies_int8() and weight.shape[1] > 1:  # of a single column, torch 2.13 gives zeros
        return torch._int_mm(steps, weight.t())
    return torch.cat([_product_in_float32(steps, rows) for rows in torch.split(weight, BLOCK_ROWS)], dim=1)


def _product_in_float32(steps: Tensor, weight: Tensor) -> Tensor:
    """The same, of so few columns at a time that float32 holds every sum exactly, in whatever order it is added up."""
    sums = torch.zeros(len(steps), len(weight), dtype=torch.int32)
    columns = (torch.split(one, EXACT_COLUMNS, dim=1) for one in (steps, weight))
    for x, part in zip(*columns, strict=True):
        sums += fp32(part)(x).int()
    return sums


def int8_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of [n, columns] to 255 even steps; returns (the steps [n, columns] int8, their sizes [n, 1])."""
    scales = x.abs().amax(dim=-1, keepdim=True).div_(127).clamp_min_(SMALLEST)
    return (x / scales).round_().to(torch.int8), scales


def int4_groups(weight: Tensor) -> Int4Groups:
    """Round each 32 columns of a row to 16 even steps between their extremes."""
    groups = weight.float().reshape(len(weight), -1, GROUP)
    low, high = groups.amin(dim=-1), groups.amax(dim=-1)
    scale = ((high - low) / 15).clamp_min_(SMALLEST).bfloat16()
    middle = (low + scale.float() * 8).bfloat16()
    steps = ((groups - middle.float().unsqueeze(-1)) / scale.float().unsqueeze(-1)).round_().add_(8).clamp_(0, 15)
    return Int4Groups(steps.to(torch.uint8).flatten(-2), scale, middle)


def packed_steps(steps: Tensor) -> Tensor:
    """Steps [rows, columns] of 0 to 15, two to a byte as `Int4Matrix` has them: [rows, columns / 2]."""
    first, second = steps.view(len(steps), -1, 2, GROUP // 2).unbind(2)
    return (first | second << 4).flatten(1)


def unpacked_steps(packed: Tensor) -> Tensor:
    """The inverse of `packed_steps`."""
    groups = packed.view(len(packed), -1, GROUP // 2)
    return torch.stack([groups & 15, groups >> 4], dim=2).flatten(1)


def fp32(weight: Tensor) -> Matrix:
    """Keep in float32, to be multiplied by what is fastest where it lies."""
    weight = weight.float().contiguous()
    return OneDnnMatrix(weight) if weight.device.type == "cpu" and _has_onednn() else PlainMatrix(weight)


def low_rank(weight: Tensor) -> Matrix:
    """Keep a low-rank matrix in float32, on a GPU in bfloat16 as well."""
    if weight.device.type != "cuda":
        return fp32(weight)
    whole = weight.float().contiguous()
    return SmallGpuMatrix(whole, whole.bfloat16())


def short_low_rank(weight: Tensor) -> Matrix:
    """Keep a low-rank matrix beside large ones that are shorter than float32: on a CPU in bfloat16."""
    return low_rank(weight) if weight.device.type == "cuda" else bf16(weight)


def bf16(weight: Tensor) -> Matrix:
    """Keep in bfloat16."""
    return BFloat16Matrix(weight.bfloat16().contiguous())


def fp16(weight: Tensor) -> Matrix:
    """Keep in float16. Raises UnsupportedModelError for weights beyond its range."""
    kept = weight.half().contiguous()
    if not torch.isfinite(kept).all():
        raise UnsupportedModelError(f"a weight of {float(weight.abs().max()):.0f} is beyond float16; load it as bf16")
    return Float16Matrix(kept)


def int8(weight: Tensor) -> Matrix:
    """Keep in int8 with a scale a row."""
    steps, scales = int8_rows(weight.float())
    return Int8Matrix(steps.contiguous(), scales.flatten())


def int4(weight: Tensor) -> Matrix:
    """Keep in int4, or in int8 what has no whole groups. Raises UnsupportedModelError off the CPU."""
    if weight.device.type != "cpu":
        raise UnsupportedModelError(f"int4 on {weight.device} is not supported; use int8 or bf16 there")
    if weight.shape[1] % GROUP:
        return int8(weight)
    groups = int4_groups(weight)
    return Int4Matrix(packed_steps(groups.steps), torch.stack([groups.scale, groups.middle], dim=1))


def for_torch(matrix: Matrix) -> Matrix:
    """The matrix as torch alone multiplies it fastest."""
    if isinstance(matrix, Int4Matrix) and matrix.rows % TORCH_INT4_ROWS == 0:
        return TorchInt4Matrix.of(matrix)
    return matrix


@dataclass(frozen=True)
class Precision:
    """How matrices are kept: a name, and what makes a `Matrix` of a stored one [rows, columns], large or low-rank."""

    name: str
    keep: Callable[[Tensor], Matrix]
    keep_low_rank: Callable[[Tensor], Matrix] = low_rank


FP32, FP16 = Precision("fp32", fp32), Precision("fp16", fp16)
BF16, INT8, INT4 = (Precision(keep.__name__, keep, short_low_rank) for keep in (bf16, int8, int4))

PRECISIONS: Mapping[str, Precision] = MappingProxyType({one.name: one for one in (FP32, BF16, FP16, INT8, INT4)})


def _has_onednn() -> bool:
    """Whether torch was built with oneDNN and MKL: without MKL, F.linear is as good as anything."""
    return torch._C._has_mkldnn and torch._C.has_mkl
