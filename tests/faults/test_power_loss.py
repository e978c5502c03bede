"""The power may go at any moment: what was reported as done stays done, and the run ends with the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.histories import histories
from tests.faults.power_loss import ForgetfulPower

HISTORIES = 2000
SHARDS = 8

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open files are looked at through /proc")


@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_power_loss_takes_a_reported_document_or_leaves_a_run_that_cannot_be_resumed(
    tmp_path: Path, shard: int
) -> None:
    each = HISTORIES // SHARDS
    verdicts = list(histories(range(shard * each, (shard + 1) * each), tmp_path))

    assert [verdict for verdict in verdicts if verdict.wrong] == []
    assert sum(verdict.cuts for verdict in verdicts) > each, "the power hardly ever went: nothing was shown"


def test_without_flushes_documents_are_lost(tmp_path: Path) -> None:
    verdicts = histories(range(100), tmp_path, ForgetfulPower)

    assert any(verdict.wrong for verdict in verdicts)
