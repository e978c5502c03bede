"""Tests that belong together run in one process: no two clusters of Ray side by side, no fixture made three times.

The processes of a run must agree on the names of all tests, or none is run.
"""

from __future__ import annotations

import time

import pytest

from tests.pipeline.samples import docx, word_paragraph


@pytest.mark.xdist_group("groups")
def test_tests_of_a_group_are_sent_to_one_process(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("loadgroup", False):
        pytest.skip("all tests run in one process")

    assert request.node.nodeid.endswith("@groups"), "this pytest and this pytest-xdist do not fit each other"


@pytest.mark.parametrize("data", [time.asctime().encode()])
def test_names_of_tests_hold_no_bytes(data: bytes, request: pytest.FixtureRequest) -> None:
    """A clock that ticked between two processes gave an archive two names: they disagreed, and no test was run."""
    assert request.node.callspec.id == "data"


def test_archives_made_for_tests_are_the_same_bytes_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [docx(word_paragraph("Words."))]
    now = time.localtime(time.time() + 86_400)
    monkeypatch.setattr(time, "localtime", lambda *_: now)
    made.append(docx(word_paragraph("Words.")))

    assert made[0] == made[1]
