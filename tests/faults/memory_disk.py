"""A folder in memory for tests that flush a lot: what a flush takes on a busy disk is not what they are about."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A temporary folder on /dev/shm, or where others are if there is none."""
    with tempfile.TemporaryDirectory(prefix="unspool-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)
