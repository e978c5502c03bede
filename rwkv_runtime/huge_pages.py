"""Memory in huge pages: for weights that were made while a model was loaded, and for the states of many lanes.

Reading all of either once a token looks up an address every 4 KiB; in pages of 2 MiB it need not, and the processor's
own foresight does not stop at their ends. Where the system gives none, everything is as before. Changes no result.
Knows nothing of matrices.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

CHUNK = 64 << 20
"""Bytes that are mapped at a time; what is not written of them takes no memory."""
PAGE = 2 << 20
WORTHWHILE = 64 << 10
"""Bytes from which a tensor is moved: smaller ones are few, and a page of them would mostly be empty."""
ALIGNMENT = 64
LARGE = 32 << 20
"""Bytes from which a tensor that comes and goes is mapped alone; the C library keeps what is smaller for the next."""


class HugePages:
    """Chunks of memory, filled with one tensor behind the other. A chunk lives as long as any tensor in it."""

    def __init__(self) -> None:
        self._chunk: mmap.mmap | None = None
        self._used = 0

    def holding(self, tensor: Tensor) -> Tensor:
        """A copy of a contiguous tensor in huge pages; or the tensor itself, where there is nothing to gain."""
        if tensor.device.type != "cpu" or tensor.nbytes < WORTHWHILE:
            return tensor
        if self._chunk is None or self._used + tensor.nbytes > len(self._chunk):
            chunk = _mapped(max(CHUNK, -(-tensor.nbytes // PAGE) * PAGE))
            if chunk is None:
                return tensor
            self._chunk, self._used = chunk, 0
        room = torch.frombuffer(self._chunk, dtype=tensor.dtype, count=tensor.numel(), offset=self._used)
        self._used += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        return room.view(tensor.shape).copy_(tensor)


def room(shape: Sequence[int], device: torch.device) -> Tensor:
    """A float32 tensor with nothing in it yet; a large one on the CPU in huge pages."""
    count = math.prod(shape)
    chunk = _mapped(4 * count) if device.type == "cpu" and 4 * count >= LARGE else None
    if chunk is None:
        return torch.empty(*shape, device=device)
    return torch.frombuffer(chunk, dtype=torch.float32).view(*shape)


def _mapped(size: int) -> mmap.mmap | None:
    """Memory of this process alone, for which huge pages are asked; None where none can be had."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        chunk = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # a smaller piece may still be had, and torch says best that it may not
        return None
    with suppress(OSError):  # of a kernel without them
        chunk.madvise(mmap.MADV_HUGEPAGE)
    return chunk
