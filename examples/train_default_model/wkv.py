"""The WKV-7 recurrence with its gradients: three forms of one function of tensors, chosen by name.

`recurrent` walks token by token and is the specification; `chunked` is matrix products over chunks in plain PyTorch;
`native` is the C++ kernel; the GPU's form is in triton_wkv.py. Knows nothing of layers.

Shapes, for B rows, T tokens and H heads of size N:
    receptance, decay, key, value, removal, insertion   [B, T, H, N]
    state                                                [B, H, N (value), N (key)]
A token does  state <- state diag(decay) + (state removal) insertion^T + value key^T  and reads  state receptance.
`decay` is the share that survives, in [0, 1]; `removal` is minus the unit vector that is taken out. A token that starts
a new context has decay = removal = 0, so nothing of the state before it is left: resets are ordinary inputs.
Source: RWKV-LM/RWKV-v7/rwkv_v7_numpy.py, written with the signs of its CUDA kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from examples.train_default_model import native

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

CHUNK = 16
SMALLEST_LOG_DECAY = -30.0
"""What log(0) is taken for in the chunked form: exp(-30) of a state is below what float32 adds to anything."""


def recurrent(
    receptance: Tensor, decay: Tensor, key: Tensor, value: Tensor, removal: Tensor, insertion: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Walk token by token: the specification. Returns (reads [B, T, H, N], the last state)."""
    reads = []
    for t in range(key.shape[1]):
        recalled = torch.einsum("bhvk,bhk->bhv", state, removal[:, t])
        state = (
            state * decay[:, t].unsqueeze(-2)
            + recalled.unsqueeze(-1) * insertion[:, t].unsqueeze(-2)
            + value[:, t].unsqueeze(-1) * key[:, t].unsqueeze(-2)
        )
        reads.append(torch.einsum("bhvk,bhk->bhv", state, receptance[:, t]))
    return torch.stack(reads, 1), state


def chunked(
    receptance: Tensor, decay: Tensor, key: Tensor, value: Tensor, removal: Tensor, insertion: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The result of `recurrent` from matrix products over chunks of 16 tokens; autograd gives the gradients.

    With g the running sum of log decay in a chunk, token i sees what token j < i wrote scaled by exp(g_i - g_j), which
    is never above 1; that factor is applied pair by pair, so a reset (log decay of -30) needs no special case.
    """
    rows, tokens, heads, size = key.shape
    padding = -tokens % CHUNK
    if padding:
        receptance, key, value, removal, insertion = (
            torch.nn.functional.pad(x, (0, 0, 0, 0, 0, padding)) for x in (receptance, key, value, removal, insertion)
        )
        decay = torch.nn.functional.pad(decay, (0, 0, 0, 0, 0, padding), value=1.0)
    parts = torch.stack([receptance, decay, key, value, removal, insertion])
    parts = parts.view(6, rows, -1, CHUNK, heads, size).permute(2, 0, 1, 4, 3, 5)
    reads = []
    for chunk in parts:
        read, state = _chunk(chunk, state)
        reads.append(read)
    joined = torch.stack(reads, 1).permute(0, 1, 3, 2, 4).reshape(rows, -1, heads, size)
    return joined[:, :tokens], state


def _chunk(vectors: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One chunk of the six inputs, [6, B, H, C, N]; returns (reads, the state behind it)."""
    receptance, decay, key, value, removal, insertion = vectors
    log_decay = decay.clamp_min(torch.finfo(decay.dtype).tiny).log().clamp_min(SMALLEST_LOG_DECAY)
    after = log_decay.cumsum(-2)
    before = after - log_decay
    order = torch.arange(key.shape[-2], device=key.device)
    earlier = order[:, None] > order[None, :]

    def pairs(row: Tensor, row_log: Tensor, column: Tensor, mask: Tensor) -> Tensor:
        factor = (row_log.unsqueeze(-2) - after.unsqueeze(-3)).masked_fill(~mask[..., None], -torch.inf).exp()
        return torch.einsum("bhik,bhijk,bhjk->bhij", row, factor, column)

    removes_inserted = pairs(removal, before, insertion, earlier)
    recalled_from_state = torch.einsum("bhik,bhvk->bhiv", removal * before.exp(), state)
    identity = torch.eye(key.shape[-2], dtype=key.dtype, device=key.device)
    recalled = torch.linalg.solve_triangular(
        identity - removes_inserted,
        recalled_from_state + pairs(removal, before, key, earlier) @ value,
        upper=False,
        unitriangular=True,
    )
    up_to = ~earlier.mT
    reads = (
        torch.einsum("bhik,bhvk->bhiv", receptance * after.exp(), state)
        + pairs(receptance, after, key, up_to) @ value
        + pairs(receptance, after, insertion, up_to) @ recalled
    )
    left = (after[..., -1:, :] - after).exp()
    state = state * after[..., -1:, :].exp() + value.mT @ (key * left) + recalled.mT @ (insertion * left)
    return reads, state


def native_kernel(
    receptance: Tensor, decay: Tensor, key: Tensor, value: Tensor, removal: Tensor, insertion: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The C++ kernel: float32 on the CPU, heads of 64. Raises NoCompilerError if it cannot be built."""
    reads, last = _Native.apply(  # type: ignore[no-untyped-call]
        receptance, decay, key, value, removal, insertion, state
    )
    return reads, last


class _Native(torch.autograd.Function):
    """Forward and backward of wkv.cpp."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        *vectors, state = (tensor.contiguous() for tensor in inputs)
        rows, tokens, heads, size = vectors[0].shape
        reads, last = torch.empty_like(vectors[0]), torch.empty_like(state)
        saved = state.new_empty(rows, heads, -(-tokens // native.library().wkv7_chunk()), size, size)
        _call("wkv7_forward", (rows, tokens, heads), [*vectors, state, reads, saved, last])
        ctx.save_for_backward(*vectors, saved)
        return reads, last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        *vectors, saved = ctx.saved_tensors
        rows, tokens, heads, _ = vectors[0].shape
        found = [torch.empty_like(vectors[0]) for _ in vectors]
        first = torch.empty_like(grads[1], memory_format=torch.contiguous_format)
        given = [grad.contiguous() for grad in grads]
        _call("wkv7_backward", (rows, tokens, heads), [*vectors, saved, *given, *found, first])
        return *found, first


def _call(name: str, sizes: tuple[int, int, int], arrays: list[Tensor]) -> None:
    kernel = native.library()
    for array in arrays:
        if array.dtype != torch.float32 or array.device.type != "cpu":
            raise TypeError(f"the native kernel takes float32 on the cpu, not {array.dtype} on {array.device}")
    if arrays[0].shape[-1] != kernel.wkv7_head_size():
        raise ValueError(f"the native kernel takes heads of {kernel.wkv7_head_size()}, not {arrays[0].shape[-1]}")
    getattr(kernel, name)(*sizes, *(ctypes.c_void_p(array.data_ptr()) for array in arrays))


KERNELS: dict[str, Kernel] = {"recurrent": recurrent, "chunked": chunked, "native": native_kernel}


def kernel(name: str) -> Kernel:
    """The form of the recurrence with this name; triton is loaded only when it is asked for."""
    if name == "triton":
        from examples.train_default_model.triton_wkv import triton_kernel

        return triton_kernel
    return KERNELS[name]
