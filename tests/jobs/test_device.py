"""Jobs on a graphics card, on a machine that has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rwkv_runtime import auto_dtype
from tests.jobs.project import Project, prose

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU here")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", a=prose(3))


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_said_in_one_line(project: Project, device: str) -> None:
    project.write_job(model={"device": device}, run={"workers": 0})
    done = project.run()
    assert done.code == 7
    assert "this machine has 0 of its kind; use cpu" in done.err
    assert "Traceback" not in done.err


def test_several_workers_on_one_card_are_refused_before_anything_is_read(project: Project) -> None:
    project.write_job(model={"device": "cuda"}, run={"workers": 2})
    done = project.run()
    assert done.code == 2
    assert "run.workers is 2, but device cuda is read with by one process; use 0" in done.err


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:", "cuda:one", "CUDA", "cuda:1 "])
def test_other_devices_are_refused_at_their_place(project: Project, device: str) -> None:
    project.write_job(model={"device": device})
    done = project.run()
    assert done.code == 2
    assert "device" in done.err
    assert "cuda:N" in done.err


def test_auto_is_bf16_on_a_graphics_card_and_measured_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_dtype, "choose", lambda: "measured")
    assert [auto_dtype.resolve("auto", device) for device in ("cuda", "cuda:1", "cpu", "auto")] == [
        "bf16", "bf16", "measured", "measured",
    ]  # fmt: skip
    assert auto_dtype.resolve("int8", "cuda") == "int8"
