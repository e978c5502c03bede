"""How the C library treats the memory of temporaries. Changes speed and resident size, never a result.

Knows glibc alone; elsewhere nothing here has an effect.
"""

from __future__ import annotations

import ctypes

import torch

_JUST_BELOW_GLIBC_LIMIT = (32 << 20) - (64 << 10)


def keep_freed_memory() -> None:
    """Let the C library keep the memory of temporaries between windows instead of giving it back each time.

    glibc sets the size from which it does so by the largest block that was freed; this one is never touched, so it
    costs nothing. Without it, page faults took up to a fifth of the reading time.
    """
    torch.empty(_JUST_BELOW_GLIBC_LIMIT, dtype=torch.uint8)


def release_freed_memory() -> None:
    """Give back what was freed and lies scattered between blocks still in use: over hours it would add up."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
