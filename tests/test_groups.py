"""Tests that belong together run in one process: no two clusters of Ray side by side, no fixture made three times."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("groups")
def test_tests_of_a_group_are_sent_to_one_process(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("loadgroup", False):
        pytest.skip("all tests run in one process")

    assert request.node.nodeid.endswith("@groups"), "this pytest and this pytest-xdist do not fit each other"
