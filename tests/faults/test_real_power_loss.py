"""The same as in test_power_loss.py on a real file system, ext4, where one can be mounted."""

from __future__ import annotations

import pytest

from tests.faults.histories import Verdict
from tests.faults.memory_disk import folder_in_memory
from tests.faults.real_power_loss import NotPermittedError, in_namespace

HISTORIES = 8
CONTROLS = 6
COMMANDS = 2


def verdicts(trials: int, what: str = "protocol") -> list[Verdict]:
    try:
        with folder_in_memory() as folder:
            return list(in_namespace(range(trials), folder, what))
    except NotPermittedError as error:
        pytest.skip(str(error))


def test_no_power_loss_on_ext4_takes_a_reported_document_or_leaves_a_run_that_cannot_be_resumed() -> None:
    found = verdicts(HISTORIES)

    assert [verdict for verdict in found if verdict.wrong] == []
    assert sum(verdict.cuts for verdict in found) >= HISTORIES - 1, "the power hardly ever went: nothing was shown"


def test_without_flushes_documents_are_lost_on_ext4() -> None:
    assert any(verdict.wrong for verdict in verdicts(CONTROLS, "careless-protocol"))


def test_no_power_loss_on_ext4_takes_what_the_command_has_committed() -> None:
    assert [verdict for verdict in verdicts(COMMANDS, "command") if verdict.wrong] == []
