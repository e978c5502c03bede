"""The plumbing of the measurements on a GPU, at tiny shapes on a CPU."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from tests.bench import gpu


@pytest.mark.parametrize("part", gpu.PARTS)
def test_every_part_writes_lines_that_say_where_they_were_measured(part: str, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    gpu.run_part(part, gpu.Bench(torch.device("cpu"), tiny=True), results)

    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    assert lines
    assert all({"part", "commit", "card", "torch", "after_s"} <= line.keys() for line in lines)


def test_a_part_that_fails_or_has_no_time_left_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def problem(command: list[str], seconds: float) -> str | None:
        ran.append(command[command.index("--part") + 1])
        return "it broke" if len(ran) == 1 else None

    monkeypatch.setattr(gpu, "_problem", problem)
    arguments = argparse.Namespace(budget_s=500, only=None, tiny=True)
    assert gpu.run_all(arguments, tmp_path / "results.jsonl") == 1
    assert ran == list(gpu.PARTS)
    assert "it broke" in (tmp_path / "results.jsonl").read_text("utf-8")

    ran.clear()
    assert gpu.run_all(argparse.Namespace(budget_s=0, only=None, tiny=True), tmp_path / "results.jsonl") == 1
    assert ran == []


def test_the_shapes_have_the_published_numbers_of_parameters() -> None:
    assert gpu.matrix_flops(gpu.SHAPES["7.2B"]) / 2 == pytest.approx(6.663e9, rel=0.03)
    assert gpu.matrix_flops(gpu.SHAPES["14B"]) / 2 == pytest.approx(12.701e9, rel=0.03)


def test_a_command_that_hangs_is_ended_and_named() -> None:
    assert gpu._problem([sys.executable, "-c", "import time; time.sleep(60)"], 1) == "took more than 1 s"
    assert "oops" in (gpu._problem([sys.executable, "-c", "raise SystemExit('oops')"], 60) or "")
