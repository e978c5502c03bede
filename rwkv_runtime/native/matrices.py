"""int8 matrices whose inputs are rounded and whose results are scaled by native kernels. Knows no layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rwkv_runtime.native.library import Library


@dataclass(frozen=True)
class NativeInt8Matrix:
    """int8 weights with a scale a row, on the CPU: as `Int8Matrix`, with one pass before the product and one after."""

    weight: Tensor  # [rows, columns] int8
    scales: Tensor  # [rows] float32
    library: Library
    precision: str = "int8"
    activations: torch.dtype = torch.bfloat16

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
        flat = x.reshape(-1, self.columns)
        steps, sizes = torch.empty(flat.shape, dtype=torch.int8), torch.empty(len(flat))
        self.library.call(
            "quantise_rows",
            rows=len(flat),
            columns=self.columns,
            before=flat,
            quantised=steps,
            scales=sizes,
            squared_relu=squared_relu,
        )
        sums = torch._int_mm(steps, self.weight.t())
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
