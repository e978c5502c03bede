"""The operations of a layer by Triton kernels: the results of `TorchOperations` up to rounding, on an NVIDIA GPU.

Rows are in float32, or in bfloat16 where the matrices around them are; memories are float32. What a token gives depends
on its lane alone. With TRITON_INTERPRET=1 set before triton is first imported the kernels run on a CPU, very slowly:
that is how they are tested. Knows the kernels' calls and nothing of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.kernels.wkv4 import Sums
from rwkv_runtime.lengths import lengths_on
from rwkv_runtime.matrices import Int8Matrix, Matrix
from rwkv_runtime.norms import HEAD_NORM_EPS, NORM_EPS, HeadNorm, Norm
from rwkv_runtime.operations import (
    NORMALIZE_EPS,
    Entered,
    Layer7,
    Parameters4,
    Parameters6,
    Parameters7,
    Steps4,
    Steps6,
    Steps7,
    Stream,
)
from rwkv_runtime.triton import chunk_kernels, shift_kernels, wkv4_kernels, wkv6_kernels, wkv7_kernels
from rwkv_runtime.triton.matrices import GpuInt8Matrix

FEW = 16
"""Up to so many tokens are walked one by one: in chunks they would cost as much as a whole one."""
CHUNK7, CHUNK6 = 32, 16
VALUE_COLUMNS = 16
"""Columns of a memory that one program carries: few, so that a single document keeps many multiprocessors busy."""
ROWS_FINISHED = 16
FEW_ROWS, MANY_ROWS = 4, 16
"""Rows that one program norms, below and from the number of rows that keeps all multiprocessors busy either way."""
MANY = 8192
CHANNELS_MIXED, CHANNELS_WALKED, SQUARED = 1024, 32, 1024


@dataclass(frozen=True)
class _Heads:
    """Sizes of a time mix with heads, and its scratch memory: rows [B * H, chunks * C, N], float32."""

    lanes: int
    tokens: int
    heads: int
    size: int
    chunk: int
    device: torch.device

    @classmethod
    def of(cls, key: Tensor, bonus: Tensor, chunk: int) -> _Heads:
        heads, size = bonus.shape
        if size & (size - 1) or not 16 <= size <= 128:
            raise UnsupportedModelError(f"heads of size {size} are not 16, 32, 64 or 128; use kernels torch on a GPU")
        return cls(key.shape[0], key.shape[1], heads, size, chunk, key.device)

    @property
    def chunks(self) -> int:
        return -(-self.tokens // self.chunk)

    def rows(self) -> Tensor:
        return torch.empty(self.lanes * self.heads, self.chunks * self.chunk, self.size, device=self.device)

    def per_row(self) -> Tensor:
        return torch.empty(self.lanes * self.heads, self.chunks * self.chunk, device=self.device)

    def per_chunk(self) -> Tensor:
        return torch.empty(self.lanes * self.heads, self.chunks, self.size, device=self.device)


@dataclass(frozen=True)
class TritonOperations:
    """The operations in Triton, on the GPU that the tensors are on."""

    name: str = "triton"

    def keep(self, matrix: Matrix) -> Matrix:
        """The matrix with rows in bfloat16 around int8, or as it is."""
        return GpuInt8Matrix(matrix.weight, matrix.scales) if type(matrix) is Int8Matrix else matrix

    def whole7(self, layers: Sequence[Layer7]) -> tuple[None, None]:
        """None: layer by layer is the way."""
        return None, None

    def memory_after(self, memory: Tensor) -> Tensor:
        """Where a new memory is written."""
        return torch.empty_like(memory)

    def enter(
        self, stream: Stream, norm: Norm, previous: Tensor, mix: Tensor, lengths: Sequence[int], dtype: torch.dtype
    ) -> Entered:
        """Add, normalise and mix in one pass."""
        x = stream.x.contiguous()
        lanes, tokens, width = x.shape
        summed = None if stream.added is None else torch.empty_like(x)
        mixed = torch.empty(len(mix), lanes, tokens, width, dtype=dtype, device=x.device)
        last = torch.empty(lanes, width, device=x.device)
        rows = MANY_ROWS if lanes * tokens >= MANY else FEW_ROWS
        with _on(x):
            shift_kernels.enter[(lanes, -(-tokens // rows))](
                x, _whole(stream.added), summed, norm.weight, norm.bias, previous.contiguous(), mix.contiguous(),
                mixed, last, lengths_on(lengths, x.device), lanes, tokens, width, NORM_EPS,
                MIXES=len(mix), ROWS=rows, BLOCK=_power_of_two(width),
                num_warps=8 if width > 1024 else 4,
            )  # fmt: skip
        return Entered(x if summed is None else summed, mixed, last)

    def mixed_by(self, x: Tensor, previous: Tensor, amounts: Tensor, dtype: torch.dtype) -> Tensor:
        """Mix rows with those before them."""
        x = x.contiguous()
        lanes, tokens, width = x.shape
        mixed = torch.empty(amounts.shape, dtype=dtype, device=x.device)
        block = min(CHANNELS_MIXED, _power_of_two(width))
        with _on(x):
            shift_kernels.mix_rows[(lanes * tokens, -(-width // block))](
                x, previous.contiguous(), amounts.contiguous(), mixed, lanes, tokens, width,
                MIXES=len(amounts), BLOCK=block,
            )  # fmt: skip
        return mixed

    def time_mix7(
        self, steps: Steps7, own: Parameters7, wkv: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The time mix of RWKV-7: token by token if there are few, else in chunks."""
        sizes = _Heads.of(steps.key, own.bonus, CHUNK7)
        ends, mixed = lengths_on(lengths, sizes.device), torch.empty_like(steps.key)
        gate = steps.gate.contiguous()
        inputs = [
            *(_whole(x) for name, x in steps._asdict().items() if name != "gate"),
            own.decay_bias, own.rate_bias, own.blend_bias, own.removal_scale, own.key_rate, own.bonus, ends,
        ]  # fmt: skip
        with _on(steps.key):
            run = _walked7 if sizes.tokens <= FEW else _chunked7
            after = run(sizes, inputs, own, gate, wkv.contiguous(), self.memory_after(wkv), mixed)
        return mixed, after, steps.value if steps.first_value is None else steps.first_value

    def time_mix6(self, steps: Steps6, own: Parameters6, wkv: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The time mix of RWKV-5 and 6: token by token if there are few, else in chunks."""
        sizes = _Heads.of(steps.key, own.bonus, CHUNK6)
        ends, mixed = lengths_on(lengths, sizes.device), torch.empty_like(steps.key)
        receptance, key, value, gate, decay = (_whole(x) for x in steps)
        inputs = [receptance, key, value, decay, own.decay_bias, own.bonus, ends]
        with _on(steps.key):
            run = _walked6 if sizes.tokens <= FEW else _chunked6
            after = run(sizes, inputs, own.norm, gate, wkv.contiguous(), self.memory_after(wkv), mixed)
        return mixed, after

    def time_mix4(self, steps: Steps4, own: Parameters4, sums: Sums, lengths: Sequence[int]) -> tuple[Tensor, Sums]:
        """The time mix of RWKV-4, token by token."""
        lanes, tokens, width = steps.key.shape
        mixed, after = torch.empty_like(steps.key), Sums(*(self.memory_after(part) for part in sums))
        with _on(steps.key):
            wkv4_kernels.walk[(lanes, -(-width // CHANNELS_WALKED))](
                *(_whole(x) for x in steps), own.log_decay, own.bonus, lengths_on(lengths, steps.key.device), mixed,
                *(part.contiguous() for part in sums), *after, tokens, width, BLOCK=CHANNELS_WALKED, num_warps=1,
            )  # fmt: skip
        return mixed, after

    def tanh(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent, in place."""
        return x.tanh_()

    def sigmoid(self, x: Tensor) -> Tensor:
        """The logistic function, in place."""
        return x.sigmoid_()

    def after_squared_relu(self, x: Tensor, matrix: Matrix) -> Tensor:
        """Apply a matrix to the squared ReLU of rows."""
        x = x.contiguous()
        _square(x)
        return matrix(x)


@dataclass(frozen=True)
class InPlaceOperations(TritonOperations):
    """The same, but that a new memory takes the place of the one that was given, which must be contiguous."""

    def memory_after(self, memory: Tensor) -> Tensor:
        """The memory itself."""
        return memory


def carry_stages(size: int) -> int:
    """How many chunks `carry` loads ahead, for heads of a size: none for those above 64, to be sure of the room.

    Three stages, which Triton takes by itself, of heads of 128 want 152 KiB of shared memory, and consumer cards have
    99; one wants 16 KiB. So says the compiler, for compute capabilities 8.0 and 9.0; no card with such heads was tried.
    """
    return 1 if size > 64 else 3


def run_smallest(device: torch.device) -> None:
    """Run the smallest of the kernels. Raises whatever Triton does where it cannot compile or launch."""
    _square(torch.ones(SQUARED, device=device))


def _square(x: Tensor) -> None:
    """Put the squared ReLU of a contiguous tensor in its place."""
    with _on(x):
        shift_kernels.squared_relu[(-(-x.numel() // SQUARED),)](x, x.numel(), BLOCK=SQUARED)


def _walked7(
    sizes: _Heads, inputs: list[Any], own: Parameters7, gate: Tensor, wkv: Tensor, after: Tensor, mixed: Tensor
) -> Tensor:
    wkv7_kernels.walk[(sizes.lanes * sizes.heads,)](
        *inputs, gate, own.norm.weight, own.norm.bias, mixed, wkv, after,
        sizes.heads, sizes.tokens, own.decay_scale, NORMALIZE_EPS, HEAD_NORM_EPS, N=sizes.size,
    )  # fmt: skip
    return after


def _chunked7(
    sizes: _Heads, inputs: list[Any], own: Parameters7, gate: Tensor, wkv: Tensor, after: Tensor, mixed: Tensor
) -> Tensor:
    reads, readers, keys, values, removed, removers, rates = (sizes.rows() for _ in range(7))
    through, strength, precision = sizes.per_chunk(), sizes.per_row(), _precision(mixed)
    wkv7_kernels.prepare[(sizes.chunks, sizes.lanes * sizes.heads)](
        *inputs, reads, readers, keys, values, removed, removers, rates, through, strength,
        sizes.heads, sizes.tokens, own.decay_scale, NORMALIZE_EPS, C=CHUNK7, N=sizes.size, PRECISION=precision,
    )  # fmt: skip
    chunk_kernels.carry[(sizes.lanes * sizes.heads, sizes.size // VALUE_COLUMNS)](
        reads, readers, keys, values, removed, removers, rates, through, inputs[-1], wkv, after,
        sizes.heads, sizes.chunks, 1, sizes.size, C=CHUNK7, N=sizes.size, V=VALUE_COLUMNS, PRECISION=precision,
        num_stages=carry_stages(sizes.size),
    )  # fmt: skip
    _finish(sizes, reads, values, strength, gate, own.norm, inputs[-1], mixed, silu=False)
    return after


def _walked6(
    sizes: _Heads, inputs: list[Any], norm: HeadNorm, gate: Tensor | None, wkv: Tensor, after: Tensor, mixed: Tensor
) -> Tensor:
    wkv6_kernels.walk[(sizes.lanes * sizes.heads,)](
        *inputs, gate, norm.weight, norm.bias, mixed, wkv, after,
        sizes.heads, sizes.tokens, HEAD_NORM_EPS, N=sizes.size,
    )  # fmt: skip
    return after


def _chunked6(
    sizes: _Heads, inputs: list[Any], norm: HeadNorm, gate: Tensor | None, wkv: Tensor, after: Tensor, mixed: Tensor
) -> Tensor:
    reads, readers, keys, values = (sizes.rows() for _ in range(4))
    through, precision = sizes.per_chunk(), _precision(mixed)
    wkv6_kernels.prepare[(sizes.chunks, sizes.lanes * sizes.heads)](
        *inputs, reads, readers, keys, values, through,
        sizes.heads, sizes.tokens, C=CHUNK6, N=sizes.size, PRECISION=precision,
    )  # fmt: skip
    chunk_kernels.carry[(sizes.lanes * sizes.heads, sizes.size // VALUE_COLUMNS)](
        reads, readers, keys, values, None, None, None, through, inputs[-1], wkv, after,
        sizes.heads, sizes.chunks, sizes.size, 1, C=CHUNK6, N=sizes.size, V=VALUE_COLUMNS, PRECISION=precision,
        num_stages=carry_stages(sizes.size),
    )  # fmt: skip
    _finish(sizes, reads, None, None, gate, norm, inputs[-1], mixed, silu=True)
    return after


def _finish(
    sizes: _Heads, reads: Tensor, values: Tensor | None, strength: Tensor | None, gate: Tensor | None,
    norm: HeadNorm, ends: Tensor, mixed: Tensor, *, silu: bool,
) -> None:  # fmt: skip
    chunk_kernels.finish[(sizes.lanes * sizes.heads, -(-sizes.tokens // ROWS_FINISHED))](
        reads, values, strength, gate, norm.weight, norm.bias, ends, mixed,
        sizes.heads, sizes.tokens, sizes.chunks * sizes.chunk, HEAD_NORM_EPS,
        N=sizes.size, ROWS=ROWS_FINISHED, SILU=silu,
    )  # fmt: skip


def _precision(rows: Tensor) -> str:
    """How float32 is multiplied: as finely as the rows around it are kept."""
    return "tf32" if rows.dtype == torch.bfloat16 else "tf32x3"


def _whole(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Launch on the GPU of a tensor, whichever is current."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
