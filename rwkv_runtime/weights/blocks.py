"""Tensors of ggml's block formats (GGUF and rwkv.cpp files), from the bytes of a file that is mapped.

Plain floating point tensors are views of the mapping; quantized ones are unpacked to float32, by the `gguf` package,
when they are needed. Knows nothing of file headers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray
from torch import Tensor

from rwkv_runtime.weights.deferred import Deferred, Stored

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

Bytes = NDArray[np.uint8]


def mapped(path: Path) -> Bytes:
    """All bytes of a file. Writing to them would change the memory only, never the file."""
    return np.memmap(path, dtype=np.uint8, mode="c")


def unpacks(kind: str) -> bool:
    """Whether `tensor` takes this kind: the installed `gguf` may be older than it."""
    return kind in PLAIN or kind in GGMLQuantizationType.__members__


def tensor(content: Bytes, kind: str, shape: tuple[int, ...]) -> Stored:
    """The tensor of this shape, rows first, that the bytes hold; `kind` is a name such as F16 or Q4_K."""
    if kind not in PLAIN:
        return Deferred(shape, torch.float32, kind, lambda: _unpacked(content, kind, shape))
    dtype = PLAIN[kind]
    if content.ctypes.data % dtype.itemsize:  # views must be aligned, and files need not be
        return Deferred(shape, dtype, kind, lambda: _plain(content.copy(), dtype, shape))
    return _plain(content, dtype, shape)


def _plain(content: Bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(content).view(dtype).reshape(shape)


def _unpacked(content: Bytes, kind: str, shape: tuple[int, ...]) -> Tensor:
    rows = content.reshape(int(np.prod(shape[:-1])), -1)
    return torch.from_numpy(dequantize(rows, GGMLQuantizationType[kind])).reshape(shape)
