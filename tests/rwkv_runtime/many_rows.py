"""The native kernels for many rows, also on processors where torch's are faster."""

from __future__ import annotations

import copy

from rwkv_runtime import native
from rwkv_runtime.native.library import INSTRUCTION_SETS, Library


def libraries_of_many_rows() -> list[Library]:
    """A library for each instruction set that has such kernels and that this processor runs; it uses them."""
    found = [copy.copy(one) for name in INSTRUCTION_SETS if (one := native.load(name)) and one.has_products_of_many]
    for library in found:
        library.multiplies_many = True
    return found
