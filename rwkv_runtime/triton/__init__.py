"""Kernels for NVIDIA GPUs, written in Triton, where the package `triton` is installed; without it torch computes there.

`load()` gives the operations, or None; `status()` says which, and why. Importing this loads neither torch nor triton.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rwkv_runtime.operations import Operations

REMEDY = "python -m pip install 'unspool[gpu]'"


def status() -> tuple[bool, str]:
    """Whether Triton kernels can compute on a GPU, and in one line why or why not."""
    try:
        return True, f"triton {metadata.version('triton')}"
    except metadata.PackageNotFoundError:
        return False, "triton is not installed: on a GPU torch alone computes, more slowly"


def load() -> Operations | None:
    """The operations by Triton kernels, or None where triton is not installed."""
    if not status()[0]:
        return None
    from rwkv_runtime.triton.operations import TritonOperations

    return TritonOperations()
