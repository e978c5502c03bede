"""Kernels in C++ for the processor at hand, where they could be built; without them torch computes alone.

`load()` gives the library, or None; `status()` says which, and why. Importing this loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rwkv_runtime.native.library import Library

LIBRARY = Path(__file__).with_name("kernels.so")
BUILD_FAILURE = Path(__file__).with_name("build_failure.txt")
REMEDY = "install g++ or clang++ and run `pip install` again"


@dataclass(frozen=True)
class Status:
    """Whether native kernels compute, in which instruction set, and in one line why or why not."""

    available: bool
    instruction_set: str | None
    reason: str


def load(instruction_set: str = "best") -> Library | None:
    """The kernels of an instruction set, or the best that this processor runs; None if there are none."""
    from rwkv_runtime.native import library

    try:
        return library.open_library(LIBRARY, instruction_set)
    except library.LibraryError:
        return None


def status() -> Status:
    """Say what `load()` gives, and why."""
    from rwkv_runtime.native import library

    if not LIBRARY.exists():
        failure = BUILD_FAILURE.read_text(encoding="utf-8").strip() if BUILD_FAILURE.exists() else "they were not built"
        return Status(False, None, f"no native kernels: {failure}; {REMEDY}")
    try:
        opened = library.open_library(LIBRARY)
    except library.LibraryError as error:
        return Status(False, None, str(error))
    return Status(True, opened.instruction_set, f"native kernels for {opened.instruction_set}, {opened.threading}")
