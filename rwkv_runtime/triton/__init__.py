"""Kernels for NVIDIA GPUs, written in Triton, where the package `triton` is installed and starts; else torch computes.

`load()` gives the operations, or None; `status()` says which, and why. Importing this loads neither torch nor triton.
"""

from __future__ import annotations

import textwrap
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rwkv_runtime.operations import Operations

ALONE = "on a GPU torch alone computes, more slowly"


class Status(NamedTuple):
    """Whether Triton kernels can compute on a GPU, in one line why or why not, and what would help."""

    available: bool
    reason: str
    remedy: str = ""


def status() -> Status:
    """Say what `load()` gives, and why. Where there is a GPU, Triton is started to find out, once in a process."""
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:
        return Status(False, f"triton is not installed: {ALONE}", "python -m pip install 'unspool[gpu]'")
    if reason := failure():
        return Status(False, f"triton {version} does not start ({reason}): {ALONE}", "install gcc and Python's headers")
    return Status(True, f"triton {version}")


def load() -> Operations | None:
    """The operations by Triton kernels, or None where triton is not installed or does not start."""
    if not status().available:
        return None
    from rwkv_runtime.triton.operations import TritonOperations

    return TritonOperations()


@cache
def failure() -> str | None:
    """Why Triton does not start on the GPU of this machine, in one line; None if it does, or if there is no GPU."""
    try:
        _start()
    except Exception as error:  # of many kinds: no compiler, no headers, another driver, a GPU that is too old
        return textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" …")
    return None


def _start() -> None:
    """Run a kernel, if there is a GPU: for the first one Triton compiles C code against the headers of Python."""
    import torch

    if torch.cuda.is_available():
        from rwkv_runtime.triton.operations import run_smallest

        run_smallest(torch.device("cuda"))
