"""A run keeps the arithmetic that it was started in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rwkv_runtime
from jobs.run_directory import RunDirectory
from pipeline.durable import Disk, json_line, seal, unseal
from rwkv_runtime import auto_dtype
from rwkv_runtime.state import State
from tests.jobs.project import Project, prose


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", a=prose(12), b=prose(9, seed=1))


def dtype_of(project: Project) -> str:
    return RunDirectory.open(project.out, Disk()).info.dtype


def measured(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(auto_dtype, "choose", lambda: dtype)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_a_run_reads_in_the_dtype_of_its_job_and_says_so(project: Project, dtype: str) -> None:
    project.write_job(model={"dtype": dtype})
    assert project.run().code == 0

    model, exact = rwkv_runtime.load(dtype=dtype), rwkv_runtime.load()
    kept = [State.from_arrow(path, model) for path in (project.out / "states").glob("*.end.arrow")]
    tokens = model.tokenizer.encode((project.folder / "docs" / "a.txt").read_text("utf-8"))
    [found] = [one.tensors["wkv"] for one in kept if one.tokens_seen == len(tokens)]
    own, other = (each.forward(tokens, each.initial_state(), "none").state.tensors["wkv"] for each in (model, exact))
    described = json.loads((project.out / "output" / "dataset.json").read_text("utf-8"))
    started = json.loads((project.out / "events.jsonl").read_text("utf-8").splitlines()[0])

    assert dtype_of(project) == dtype
    assert described["model"]["dtype"] == dtype
    assert started["dtype"] == dtype
    assert float((found - own).norm()) < float((found - other).norm()) / 3


def test_auto_is_what_was_measured_when_the_run_was_started(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_job(model={"dtype": "auto"})
    measured(monkeypatch, "bf16")
    assert project.run(faults="checkpoint.before_write=raise:EIO@1").code == 6
    measured(monkeypatch, "fp32")
    assert project.run().code == 0
    described = json.loads((project.out / "output" / "dataset.json").read_text("utf-8"))
    assert (dtype_of(project), described["model"]["dtype"]) == ("bf16", "bf16")


def test_a_run_is_not_continued_in_another_dtype(project: Project) -> None:
    assert project.run().code == 0
    project.write_job(model={"dtype": "bf16"})
    said = project.run()
    assert said.code == 4
    assert "model.dtype: fp32 → bf16; put it back to resume" in said.err


def test_a_run_from_before_dtypes_was_in_float32_and_goes_on(project: Project) -> None:
    assert project.run().code == 0
    path = project.out / "run.json"
    described = json.loads(unseal(path.read_bytes()))
    del described["dtype"]
    path.write_bytes(seal(json_line(described)))
    assert dtype_of(project) == "fp32"
    assert project.run().code == 0
