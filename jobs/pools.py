"""Which workers a job takes, and where: in this process, as Ray actors on this machine, or on a cluster.

Knows nothing of documents or runs beyond their number.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jobs.errors import ExitCode, JobError, usage_error
from jobs.ray_section import RaySection
from jobs.spec import JobSpec
from pipeline.pool import LocalPool, Pool, PoolError

if TYPE_CHECKING:
    from pipeline.work import WorkerSpec


def on_cluster(spec: JobSpec) -> bool:
    """Whether the job's workers are on a cluster that is there already."""
    return spec.ray.address != "local" and spec.run.workers != 0


def workers_of(spec: JobSpec, documents: int, processors: int) -> int | None:
    """How many Ray workers a job takes; 0: none, None: as many as the cluster has room for.

    Never more than there are documents. Raises JobError (exit 2) for several on one graphics card.
    """
    if on_cluster(spec):
        return None if spec.run.workers == "auto" else min(spec.run.workers, documents)
    if not spec.model.device.startswith("cuda"):
        cpus = 1 if spec.ray.cpus == "auto" else spec.ray.cpus
        return 0 if spec.run.workers == 0 else workers_for(spec.run.workers, documents, processors // cpus)
    if spec.run.workers not in (0, "auto"):
        message = (
            f"run.workers is {spec.run.workers}, but device {spec.model.device} is read with by one process; use 0"
        )
        raise usage_error("RUN-WORKERS-ON-GPU", message)
    return 0


def processors() -> int:
    """Of this machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(workers: int | str, documents: int, processors: int) -> int:
    """How many Ray workers to start here: as asked, or one a processor; never more than there are documents."""
    asked = processors if workers == "auto" else int(workers)
    return max(1, min(asked, documents))


def threads_of(spec: JobSpec, workers: int | None, processors: int) -> int:
    """Threads of each worker: as asked; else one on a cluster, and here a share of the processors."""
    if spec.ray.cpus != "auto":
        return spec.ray.cpus
    return 1 if workers is None or on_cluster(spec) else max(1, processors // max(workers, 1))


def open_pool(spec: WorkerSpec, workers: int | None, ray: RaySection) -> Pool:
    """A pool of so many Ray workers, or of this process alone (0). Raises JobError (exit 6) if Ray cannot start."""
    if workers == 0:
        return LocalPool(spec)
    from pipeline.ray_pool import RayOptions, RayPool

    gpus = float(spec.device.startswith("cuda")) if ray.gpus == "auto" else ray.gpus
    try:
        return RayPool(spec, RayOptions(ray.address, workers, spec.threads, gpus, ray.resources))
    except PoolError as error:
        raise ray_error(error) from error


def ray_error(error: PoolError) -> JobError:
    """What stops a job whose workers cannot be started."""
    return JobError("RAY", str(error), exit_code=ExitCode.ENVIRONMENT)
