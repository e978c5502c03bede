"""A job as a manifest for somebody else's machines: a Ray cluster, Kubernetes, Slurm, SkyPilot. Only text is made.

Every manifest runs `unspool run` on the job file where it lies, so nothing of the job stands in it but its path, its
name and what it needs: no inputs, no environment, no secrets. What is interrupted is started again, which resumes. The
job's folder and its run directory have to be on a file system that the machines share.

Sources of the fields: docs.ray.io (Ray Jobs CLI; KubeRay, "RayJob"), slurm.schedmd.com/sbatch.html and scontrol.html,
docs.skypilot.co ("SkyPilot YAML", "Volumes", "Managed Jobs").
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from jobs.errors import ExitCode, usage_error
from jobs.prepare import Job

AUTO_WORKERS: Final = 4
_GIB: Final = 1 << 30
_RESTARTS: Final = 3
_KEEP_FINISHED_SECONDS: Final = 600
_SAVE_SECONDS: Final = 120


@dataclass(frozen=True)
class Request:
    """What is to be submitted. `image` has unspool installed; `volume` is what holds the job's folder there."""

    job: Job
    file: Path
    overrides: tuple[str, ...] = ()
    image: str | None = None
    volume: str | None = None

    @property
    def name(self) -> str:
        """The job's name as clusters accept one: small letters, digits and hyphens, at most 40."""
        kept = "".join(
            letter if letter.isascii() and letter.isalnum() else "-" for letter in self.job.spec.name.lower()
        )
        return kept.strip("-")[:40].strip("-") or "job"

    @property
    def folder(self) -> Path:
        return self.file.absolute().parent


@dataclass(frozen=True)
class Needs:
    """What a job takes: workers of one processor each, memory of one in GiB, and whether a GPU."""

    workers: int
    worker_gib: int
    gpu: bool


def needs_of(job: Job) -> Needs:
    """What the job asks for; `auto` workers are 4. A GPU is read with by one process.

    A worker holds its model (once more while it is loaded, in up to four bytes a weight) and about half a GiB.
    """
    spec = job.spec
    gpu = spec.model.device.startswith("cuda")
    workers = 1 if gpu or spec.run.workers == 0 else AUTO_WORKERS if spec.run.workers == "auto" else spec.run.workers
    return Needs(workers, max(2, math.ceil(3 * job.model.weights_bytes / _GIB + 0.5)), gpu)


def manifest(kind: str, request: Request) -> str:
    """The manifest for one of KINDS. Raises JobError (exit 2) if something that it takes was not given."""
    return KINDS[kind](request, needs_of(request.job))


def outside(request: Request) -> list[str]:
    """Paths of the job that do not lie in its folder, which a machine that mounts only that would not see."""
    spec = request.job.spec
    named = [spec.output.path, *(entry.path or entry.manifest or "" for entry in spec.inputs)]
    if spec.model.source != "default" and "://" not in spec.model.source:
        named.append(spec.model.source)
    local = (path for path in named if "://" not in path)
    return [path for path in local if not Path(path).is_relative_to(request.folder)]


def _command(request: Request, needs: Needs, *more: str) -> list[str]:
    workers = 0 if needs.gpu or request.job.spec.run.workers == 0 else needs.workers
    settings = [word for text in (*request.overrides, *more) for word in ("--set", text)]
    return ["unspool", "run", str(request.file.absolute()), "-j", str(workers), "--no-progress", *settings]


def _ray(request: Request, needs: Needs) -> str:
    """`ray job submit` to a cluster that is there; its address comes from RAY_API_SERVER_ADDRESS."""
    gpu = ["--entrypoint-num-gpus", "1"] if needs.gpu else []
    submit = ["ray", "job", "submit", "--entrypoint-num-cpus", "1", *gpu, "--"]
    return shlex.join([*submit, *_command(request, needs, "ray.address=auto")]) + "\n"


def _kubernetes(request: Request, needs: Needs) -> str:
    """A RayJob of KubeRay: a cluster for this job alone, which goes when the job is over."""
    image, claim = _given(request.image, "--image", "with unspool in it"), _claim(request)
    driver = {"cpu": "1", "memory": "2Gi"}
    worker = {"cpu": "1", "memory": f"{needs.worker_gib}Gi"} | ({"nvidia.com/gpu": "1"} if needs.gpu else {})
    in_head = needs.gpu or request.job.spec.run.workers == 0  # one process reads, and that is the driver

    def template(name: str, resources: Mapping[str, str]) -> dict[str, Any]:
        mount = {"name": "job", "mountPath": str(request.folder)}
        container = {
            "name": name,
            "image": image,
            "resources": {"requests": dict(resources), "limits": dict(resources)},
            "volumeMounts": [mount],
        }
        volume = {"name": "job", "persistentVolumeClaim": {"claimName": claim}}
        return {"spec": {"containers": [container], "volumes": [volume]}}

    head = {"rayStartParams": {"num-cpus": "0"}, "template": template("ray-head", worker if in_head else driver)}
    group = {
        "groupName": "readers",
        "replicas": needs.workers,
        "minReplicas": needs.workers,
        "maxReplicas": needs.workers,
        "rayStartParams": {},
        "template": template("ray-worker", worker),
    }
    cluster = {"rayVersion": metadata.version("ray"), "headGroupSpec": head}
    spec = {
        "entrypoint": shlex.join(_command(request, needs, "ray.address=auto")),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEEP_FINISHED_SECONDS,
        "backoffLimit": _RESTARTS,
        "rayClusterSpec": cluster if in_head else {**cluster, "workerGroupSpecs": [group]},
    }
    return _yaml({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": request.name}, "spec": spec})


def _slurm(request: Request, needs: Needs) -> str:
    """A batch script for one node. Told two minutes before its time is up, it saves, ends with 75 and queues again."""
    options = [
        f"--job-name={request.name}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={needs.workers}",
        f"--mem={needs.workers * needs.worker_gib + 2}G",
        *(["--gpus=1"] if needs.gpu else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=TERM@{_SAVE_SECONDS}",
    ]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        "# Your site may want --time, --partition and --account; give them to sbatch.",
        shlex.join(["srun", *_command(request, needs)]),
        "code=$?",
        f'if [ "$code" -eq {int(ExitCode.INTERRUPTED)} ]; then',
        '  scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def _sky(request: Request, needs: Needs) -> str:
    """A task of SkyPilot, for `sky jobs launch`: machines that may be taken away, and a volume that stays."""
    resources: dict[str, Any] = {
        "infra": "k8s",
        "cpus": f"{needs.workers}+",
        "memory": f"{needs.workers * needs.worker_gib + 2}+",
        "use_spot": True,
        "job_recovery": {"max_restarts_on_errors": _RESTARTS},
    }
    if needs.gpu:
        resources["accelerators"] = "L4:1"
    image = _given(request.image, "--image", "with unspool in it")
    resources["image_id"] = f"docker:{image}"
    volumes = {str(request.folder): _claim(request)}
    run = shlex.join(_command(request, needs))
    return _yaml({"name": request.name, "resources": resources, "volumes": volumes, "run": run})


KINDS: Final[Mapping[str, Callable[[Request, Needs], str]]] = {
    "ray": _ray,
    "k8s": _kubernetes,
    "slurm": _slurm,
    "sky": _sky,
}


def _claim(request: Request) -> str:
    return _given(request.volume, "--volume", f"that holds what is in {request.folder} here")


def _given(value: str | None, option: str, what: str) -> str:
    if value is None:
        noun = "the image" if option == "--image" else "the volume (a claim)"
        raise usage_error("SUBMIT", f"name {noun} {what}: {option} NAME")
    return value


def _yaml(value: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(value), sort_keys=False, width=1000, allow_unicode=True)
    return text


def chosen(kinds: Sequence[tuple[str, bool]]) -> str:
    """The one kind that was asked for. Raises JobError (exit 2) for none or several."""
    asked = [kind for kind, wanted in kinds if wanted]
    if len(asked) != 1:
        raise usage_error("USAGE", f"say where to: one of {', '.join(f'--{kind}' for kind, _ in kinds)}")
    return asked[0]
