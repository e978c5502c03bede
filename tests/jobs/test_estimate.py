"""How long a job takes and in how much memory: said before it runs, by workers that are tried out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.estimate import MOST_GROWTH_BYTES, estimate, memory
from jobs.plan import Plan, plan_job
from jobs.run import load_job, worker_spec_of
from jobs.run import open_or_create as create
from pipeline.durable import Disk
from pipeline.trial import Trial, TrialError, total_rate, tries
from tests.jobs.project import Project, contents, prose, unspool

TRIED = [Trial(1000.0, 500 << 20, 1.0), Trial(600.0, 480 << 20, 1.0)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project", a=prose(60), b=prose(5, seed=1))
    project.write_job(model={"source": str(project.write_model()), "dtype": "fp32"})
    return project


def planned(project: Project, *overrides: str) -> Plan:
    return plan_job(load_job(project.job, overrides))


def test_a_worker_that_is_tried_out_reads_as_the_job_says_and_leaves_nothing_behind(project: Project) -> None:
    job = load_job(project.job)
    before = contents(project.folder)

    found = estimate(job, planned(project), measure=True)

    assert found.tokens_per_second is not None and found.tokens_per_second > 100
    assert found.seconds == pytest.approx(planned(project).tokens_left_estimate / found.tokens_per_second)
    assert found.peak_memory_bytes is not None and 100 << 20 < found.peak_memory_bytes < 2 << 30
    assert contents(project.folder) == before


def test_the_memory_that_is_foretold_is_that_of_the_parts(project: Project) -> None:
    worker, whole = memory(500 << 20, workers=0, longest=0)
    one, with_ray = memory(500 << 20, workers=2, longest=1000)
    longest, _ = memory(500 << 20, workers=0, longest=10**9)

    assert worker == whole > 500 << 20
    assert with_ray > 2 * one > 1000 << 20
    assert longest - worker == MOST_GROWTH_BYTES, "however long a document is"


def test_workers_that_were_not_tried_out_count_as_those_that_were() -> None:
    assert total_rate(TRIED, 2) == 1600
    assert total_rate(TRIED, 8) == 6400


def test_a_model_that_cannot_be_loaded_is_said_in_one_line(project: Project) -> None:
    run = create(load_job(project.job), Disk())
    (project.folder / "models" / "tiny.pth").write_bytes(b"no model")

    with pytest.raises(TrialError) as error:
        tries(worker_spec_of(run, 1), "text", 1)

    assert "\n" not in str(error.value) and "tiny.pth" in str(error.value)


def test_the_plan_of_a_finished_run_tries_nothing_out_and_has_no_time_left(project: Project) -> None:
    assert project.run().code == 0

    found = estimate(load_job(project.job), planned(project), measure=True)

    assert (found.seconds, found.basis) == (0.0, "nothing is left to read")


@pytest.mark.parametrize("options", [[], ["--no-measure"]])
def test_a_plan_whose_speed_is_not_known_says_so_and_is_whole_otherwise(project: Project, options: list[str]) -> None:
    said = unspool("plan", str(project.job), *options)
    found = unspool("plan", str(project.job), "--json", *options).data

    assert said.code == 0 and "not measured" in said.out
    assert found["estimate"]["tokens_per_second"] is None and found["estimate"]["basis"].startswith("not measured")
    assert json.dumps(found["documents"]) and found["seconds_left_estimate"] is None


def test_a_plan_says_time_and_memory_in_words(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.jobs.project._not_tried", lambda *anything: TRIED[:1])

    said = " ".join(unspool("plan", str(project.job)).out.split())

    assert "at 1,000 tokens/s in this process" in said
    assert "MiB of memory (measured now" in said
