"""The operations of a layer by native kernels: the results of `TorchOperations` up to rounding, several times faster.

Rows are in float32, or in bfloat16 where the matrices around them are. What a token gives depends on its lane alone.
Knows the kernels' calls and nothing of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.kernels.wkv4 import Sums
from rwkv_runtime.lengths import Lengths
from rwkv_runtime.matrices import BFloat16Matrix, Int4Matrix, Int8Matrix, Matrix, OneDnnMatrix, PlainMatrix
from rwkv_runtime.native import whole7
from rwkv_runtime.native.library import LARGEST_HEAD, LARGEST_WIDTH, Library
from rwkv_runtime.native.matrices import NativeInt4Matrix, NativeInt8Matrix, NativeMatrix
from rwkv_runtime.norms import HEAD_NORM_EPS, NORM_EPS, Norm
from rwkv_runtime.operations import (
    Entered,
    Layer7,
    Parameters4,
    Parameters6,
    Parameters7,
    Step,
    Steps4,
    Steps6,
    Steps7,
    Stream,
    WindowStep,
)


@dataclass(frozen=True)
class NativeOperations:
    """The operations in C++, on the CPU."""

    library: Library

    @property
    def name(self) -> str:
        """What computes, for people."""
        return f"native {self.library.instruction_set}"

    def keep(self, matrix: Matrix) -> Matrix:
        """The matrix with a kernel for single rows and, of int8, for its rounding; or as it is."""
        if isinstance(matrix, OneDnnMatrix | PlainMatrix | BFloat16Matrix):
            return NativeMatrix(matrix, self.library)
        if isinstance(matrix, Int4Matrix):
            return NativeInt4Matrix.of(matrix, self.library)
        return NativeInt8Matrix.of(matrix, self.library) if isinstance(matrix, Int8Matrix) else matrix

    def whole7(self, layers: Sequence[Layer7]) -> tuple[Step | None, WindowStep | None]:
        """One token, and windows, through these layers in one call; None if the kernels lack one for their matrices."""
        return whole7.ways(self.library, layers)

    def enter(
        self, stream: Stream, norm: Norm, previous: Tensor, mix: Tensor, lengths: Sequence[int], dtype: torch.dtype
    ) -> Entered:
        """Add, normalise and mix in one pass."""
        lanes, tokens, width = _fitting(stream.x, LARGEST_WIDTH, "a width")
        summed = torch.empty_like(stream.x) if stream.added is not None else stream.x
        mixes = torch.empty(len(mix), lanes, tokens, width, dtype=dtype)
        last = torch.empty(lanes, width)
        self.library.call(
            "shift_mix",
            lanes=lanes,
            tokens=tokens,
            width=width,
            mixes=len(mix),
            lengths=Lengths.of(lengths).wide,
            stream=stream.x,
            added=stream.added,
            weight=norm.weight,
            bias=norm.bias,
            previous=previous,
            mix=mix,
            summed=summed,
            mixed=mixes,
            last=last,
            epsilon=NORM_EPS,
        )
        return Entered(summed, mixes, last)

    def mixed_by(self, x: Tensor, previous: Tensor, amounts: Tensor, dtype: torch.dtype) -> Tensor:
        """Mix rows with those before them."""
        lanes, tokens, width = x.shape
        mixed = torch.empty(amounts.shape, dtype=dtype)
        self.library.call(
            "lerp_rows",
            lanes=lanes,
            tokens=tokens,
            width=width,
            mixes=len(amounts),
            normed=x,
            previous=previous,
            amounts=amounts,
            mixed=mixed,
        )
        return mixed

    def time_mix7(
        self, steps: Steps7, own: Parameters7, wkv: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The time mix of RWKV-7 in one call."""
        lanes, tokens, _ = steps.key.shape
        heads, size = _fitting(own.bonus, LARGEST_HEAD, "heads of a size")
        mixed, after = torch.empty_like(steps.key), torch.empty_like(wkv)
        first = None if steps.first_value is None else steps.first_value.to(steps.key.dtype)
        self.library.call(
            "time_mix7",
            lanes=lanes,
            tokens=tokens,
            heads=heads,
            size=size,
            lengths=Lengths.of(lengths).wide,
            memory=wkv,
            memory_after=after,
            **steps._replace(first_value=first)._asdict(),
            decay_bias=own.decay_bias,
            rate_bias=own.rate_bias,
            blend_bias=own.blend_bias,
            removal_scale=own.removal_scale,
            key_rate=own.key_rate,
            bonus=own.bonus,
            norm_weight=own.norm.weight,
            norm_bias=own.norm.bias,
            mixed=mixed,
            decay_scale=own.decay_scale,
            norm_epsilon=HEAD_NORM_EPS,
        )
        return mixed, after, steps.value if steps.first_value is None else steps.first_value

    def time_mix6(self, steps: Steps6, own: Parameters6, wkv: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The time mix of RWKV-5 and 6 in one call."""
        lanes, tokens, _ = steps.key.shape
        heads, size = _fitting(own.bonus, LARGEST_HEAD, "heads of a size")
        mixed, after = torch.empty_like(steps.key), torch.empty_like(wkv)
        self.library.call(
            "time_mix6",
            lanes=lanes,
            tokens=tokens,
            heads=heads,
            size=size,
            lengths=Lengths.of(lengths).wide,
            memory=wkv,
            memory_after=after,
            **steps._asdict(),
            decay_bias=own.decay_bias,
            bonus=own.bonus,
            norm_weight=own.norm.weight,
            norm_bias=own.norm.bias,
            mixed=mixed,
            norm_epsilon=HEAD_NORM_EPS,
        )
        return mixed, after

    def time_mix4(self, steps: Steps4, own: Parameters4, sums: Sums, lengths: Sequence[int]) -> tuple[Tensor, Sums]:
        """The time mix of RWKV-4 in one call."""
        lanes, tokens, width = steps.key.shape
        mixed, after = torch.empty_like(steps.key), Sums(*(torch.empty_like(part) for part in sums))
        self.library.call(
            "time_mix4",
            lanes=lanes,
            tokens=tokens,
            width=width,
            lengths=Lengths.of(lengths).wide,
            **sums._asdict(),
            **{f"{name}_after": part for name, part in after._asdict().items()},
            **steps._asdict(),
            log_decay=own.log_decay,
            bonus=own.bonus,
            mixed=mixed,
        )
        return mixed, after

    def tanh(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent, in place."""
        self.library.call("hyperbolic_tangent", count=x.numel(), before=x, after=x)
        return x

    def sigmoid(self, x: Tensor) -> Tensor:
        """The logistic function, in place."""
        self.library.call("sigmoid", count=x.numel(), before=x, after=x)
        return x

    def after_squared_relu(self, x: Tensor, matrix: Matrix) -> Tensor:
        """Apply a matrix to the squared ReLU of rows."""
        if isinstance(matrix, NativeInt8Matrix):
            return matrix.after_squared_relu(x)
        self.library.call("squared_relu", count=x.numel(), before=x, after=x)
        return matrix(x)


def _fitting(x: Tensor, largest: int, what: str) -> torch.Size:
    """The shape, if its last axis is within what the kernels hold on their stack."""
    if x.shape[-1] > largest:
        raise UnsupportedModelError(
            f"{what} of {x.shape[-1]} is beyond the native kernels' {largest}; use kernels torch"
        )
    return x.shape
