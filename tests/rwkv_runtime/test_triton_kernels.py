"""The Triton kernels in Triton's interpreter, against the slow recurrences and torch; the cases are triton_cases.py."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def excess() -> dict[str, float]:
    """How far each case is from what is right, over what is allowed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.rwkv_runtime.triton_cases"],
        cwd=REPOSITORY, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("begins", "count"),
    [
        ("time mix 7", 14), ("time mix 6", 14), ("time mix 5", 5), ("time mix 4", 5), ("removals that repeat", 2),
        ("memory in its place", 1), ("enter", 4), ("mixed by", 4), ("squared ReLU", 1), ("model", 8),
    ],
)  # fmt: skip
def test_every_kernel_gives_what_the_slow_recurrence_and_torch_give(excess, begins, count):
    cases = {name: found for name, found in excess.items() if name.startswith(begins)}
    assert len(cases) == count
    assert {name: found for name, found in cases.items() if not found <= 1} == {}


def test_large_heads_are_carried_in_the_shared_memory_of_any_card():
    operations = pytest.importorskip("rwkv_runtime.triton.operations")
    assert [operations.carry_stages(size) for size in (16, 32, 64, 128)] == [3, 3, 3, 1]
