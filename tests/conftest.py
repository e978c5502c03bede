"""Settings of all tests: one thread a process, since several test processes share the machine; quick folders."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 8 << 30  # all tests together leave 2 GB behind before it is cleared away

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, which no conftest does
# Hundreds of processes are started: each would compile what it imports once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A busy disk takes longer to remove a folder than most tests take to fill it, and to flush one file.
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
