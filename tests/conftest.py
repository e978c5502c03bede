"""Settings of all tests: one thread a process, since several test processes share the machine; quick folders.

What tests share is made once: those that share it run in one process.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 8 << 30  # all tests together leave 2 GB behind before it is cleared away

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, which no conftest does
# Hundreds of processes are started: each would compile what it imports once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A busy disk takes longer to remove a folder than most tests take to fill it, and to flush one file.
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send tests that share something of their module to one process: every other one would make it once more."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("xdist_group") is None:
            known = item._fixtureinfo.name2fixturedefs.values()
            if any(fixture.scope == "module" for fixtures in known for fixture in fixtures):
                item.add_marker(pytest.mark.xdist_group(item.module.__name__))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case of bytes by its parameter and number: bytes in a name are long, and a clock or a seed may be in them.

    Every process of a run must collect the same names.
    """
    return argname if isinstance(val, bytes) else None
