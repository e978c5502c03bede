"""A system call that fails, or at which the process dies, costs nothing that was committed, and the run goes on."""

from __future__ import annotations

import pytest

from tests.faults.memory_disk import folder_in_memory
from tests.faults.syscalls import is_possible, trials

FAULTS = 3


def test_whatever_system_call_fails_the_run_ends_with_the_same_bytes() -> None:
    if not is_possible():
        pytest.skip("strace is not there or may not be used")

    with folder_in_memory() as folder:
        found = list(trials(range(FAULTS), folder))

    assert [trial for trial in found if trial.wrong] == []
    assert any(trial.code for trial in found), "no fault was met: nothing was shown"
