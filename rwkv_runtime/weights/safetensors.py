"""Safetensors files as named tensors, memory-mapped and without a copy.

Checks the header against the size of the file before anything is mapped: reading past the end of a mapped
file would end the process. Knows nothing of which tensors a model needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.weights import row_scaled
from rwkv_runtime.weights.deferred import Stored

NAME = "safetensors"
LENGTH_BYTES = 8  # the file begins with the header's length, little-endian; the header is JSON
LONGEST_HEADER = 100_000_000  # the format's own limit


def recognises(head: bytes, path: Path) -> bool:
    """Tell from a file's first bytes whether it is a safetensors file."""
    return head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and _header_length(head) <= LONGEST_HEADER


def read(path: Path) -> dict[str, Stored]:
    """Return the tensors by name, on the CPU; the file stays mapped, but not open, while any of them lives.

    Raises ModelFileError if the file is truncated, has bytes to spare, or its header is damaged.
    """
    promised, found = _promised_size(path), path.stat().st_size
    if promised != found:
        trouble = "is truncated" if found < promised else "has bytes behind its last tensor"
        raise ModelFileError(
            f"{path}: {trouble} (its header promises {promised} bytes, it has {found}); download it again"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return row_scaled.joined({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{path}: is damaged ({reason}); download it again") from error


def _header_length(head: bytes) -> int:
    return int.from_bytes(head[:LENGTH_BYTES], "little")


def _promised_size(path: Path) -> int:
    """Return the size in bytes that the header gives the file."""
    with path.open("rb") as file:
        length = _header_length(file.read(LENGTH_BYTES))
        header = file.read(length)
    if len(header) < length:
        raise ModelFileError(f"{path}: is truncated (it ends within its header of {length} bytes); download it again")
    try:
        entries: dict[str, Any] = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        return LENGTH_BYTES + length + int(max(ends, default=0))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{path}: its header is damaged ({error}); download it again") from error
