"""Manifests: they parse, have what their readers want, run the job as it is, and hold nothing of it that is secret."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.run import load_job
from jobs.submit import needs_of
from tests.jobs.project import Project, Said, prose, unspool

SECRET = "s3cret-t0ken"
PLACES = ("--image", "registry/unspool:1", "--volume", "claim")
KINDS = ("ray", "k8s", "slurm", "sky")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A job with an odd path, and with a secret that comes from the environment."""
    monkeypatch.setenv("SECRET_PART", SECRET)
    project = Project(tmp_path / "it's a $HOME `x`", a=prose(3))
    project.write_job(name="Contracts_2.0", output={"path": "out-${SECRET_PART}"}, run={"workers": 3, "window": 64})
    return project


def submit(project: Project, kind: str, *more: str) -> Said:
    said = unspool("submit", str(project.job), f"--{kind}", *PLACES, *more)
    assert (said.code, said.err) == (0, ""), said.err
    return said


def entrypoint(text: str, kind: str) -> list[str]:
    """The words of the command that a manifest runs."""
    if kind == "slurm":
        [line] = [line for line in text.splitlines() if line.startswith("srun ")]
        return shlex.split(line)[1:]
    if kind == "ray":
        words = shlex.split(text)
        return words[words.index("--") + 1 :]
    found = yaml.safe_load(text)
    return shlex.split(found["spec"]["entrypoint"] if kind == "k8s" else found["run"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_runs_the_job_as_it_is_and_names_no_secret(project: Project, kind: str) -> None:
    said = submit(project, kind, "--set", "tasks.gist.max_sentences=2")

    words = entrypoint(said.out, kind)
    assert words[:4] == ["unspool", "run", str(project.job), "-j"]
    assert unspool(*words[1:], "-n").code == 0  # the command is understood, quoting and all
    assert "tasks.gist.max_sentences=2" in words
    assert ("ray.address=auto" in words) == (kind in ("ray", "k8s"))
    assert SECRET not in said.out


def test_a_rayjob_has_what_kuberay_asks_for(project: Project) -> None:
    found = yaml.safe_load(submit(project, "k8s").out)

    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    assert found["metadata"]["name"] == "contracts-2-0"
    spec = found["spec"]
    assert spec["shutdownAfterJobFinishes"] is True and spec["backoffLimit"] > 0
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    for part, name in ((spec["rayClusterSpec"]["headGroupSpec"], "ray-head"), (group, "ray-worker")):
        assert isinstance(part["rayStartParams"], dict)
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        pod = part["template"]["spec"]
        [container] = pod["containers"]
        assert (container["name"], container["image"]) == (name, "registry/unspool:1")
        assert container["resources"]["requests"]["cpu"] == "1"
        [mount], [volume] = container["volumeMounts"], pod["volumes"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], str(project.folder))
        assert volume["persistentVolumeClaim"] == {"claimName": "claim"}


def test_a_job_for_a_gpu_asks_for_one_everywhere(project: Project) -> None:
    def of(kind: str) -> str:
        return submit(project, kind, "--set", "model.device=cuda").out

    head = yaml.safe_load(of("k8s"))["spec"]["rayClusterSpec"]
    assert "workerGroupSpecs" not in head  # one process reads
    limits = head["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert "#SBATCH --gpus=1" in of("slurm")
    assert "--entrypoint-num-gpus 1 " in of("ray")
    assert yaml.safe_load(of("sky"))["resources"]["accelerators"]
    assert all(entrypoint(of(kind), kind)[4] == "0" for kind in KINDS)


def test_a_task_of_skypilot_has_only_fields_of_its_documentation(project: Project) -> None:
    found: dict[str, Any] = yaml.safe_load(submit(project, "sky").out)

    assert found.keys() == {"name", "resources", "volumes", "run"}
    assert found["resources"].keys() == {"infra", "cpus", "memory", "use_spot", "job_recovery", "image_id"}
    assert (found["resources"]["cpus"], found["resources"]["image_id"]) == ("3+", "docker:registry/unspool:1")
    assert found["volumes"] == {str(project.folder): "claim"}


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (3, False), (6, False)])
def test_a_batch_script_queues_again_what_was_interrupted_and_nothing_else(
    project: Project, tmp_path: Path, code: int, requeued: bool
) -> None:
    script = submit(project, "slurm").out
    for name, body in (("srun", f'echo "$@" > srun.txt; exit {code}'), ("scontrol", 'echo "$@" > scontrol.txt')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", "utf-8")
        (tmp_path / name).chmod(0o755)

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"},
        check=False,
    )

    assert done.returncode == code
    assert str(project.job) in (tmp_path / "srun.txt").read_text("utf-8")
    assert (tmp_path / "scontrol.txt").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol.txt").read_text("utf-8") == "requeue 42\n"
    options = {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")}
    assert {"--requeue", "--ntasks=1", "--cpus-per-task=3", "--signal=TERM@120"} <= options


def test_where_to_must_be_said_once_and_what_a_place_takes_must_be_given(project: Project) -> None:
    for arguments in ([], ["--ray", "--sky"], ["--k8s"], ["--k8s", "--image", "x"], ["--sky", "--volume", "x"]):
        said = unspool("submit", str(project.job), *arguments)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), arguments


def test_what_lies_elsewhere_is_said(project: Project, tmp_path: Path) -> None:
    said = unspool("submit", str(project.job), "--ray", "--set", f"output.path={tmp_path / 'far'}")

    assert said.code == 0
    assert f"{tmp_path / 'far'} does not lie in the folder of the job file" in said.err


def test_the_memory_of_a_worker_goes_by_all_the_files_of_its_model(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_PART", "x")
    job = load_job(project.job)
    large = replace(job, model=replace(job.model, weights_bytes=14 << 30))  # an index names the shards that hold them
    assert needs_of(large).worker_gib == 43 > needs_of(job).worker_gib
