"""Workers as Ray actors. The only file that imports Ray.

Ray is used for what it is good at, starting processes and calling them, here or on a cluster. Supervision is our
own: an actor is never restarted by Ray and no call is retried by it, because a retried call would hide a crash.
A private cluster on this machine listens on the loopback interface alone and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.pool import Answer, Loss, PoolError
from pipeline.worker import Assignment, Worker, WorkerSpec

_TEMP_PREFIX: Final = "unspool-ray-"
_OBJECT_STORE_BYTES: Final = 80 << 20  # nothing large goes through it: workers hand over file names, not rows

# Read by Ray when it is imported. The first binds every socket to 127.0.0.1 (without it, to all interfaces).
_LOCAL_ENVIRONMENT: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


@dataclass(frozen=True)
class RayOptions:
    """`address` is `local` for a private cluster on this machine, or that of a running one."""

    address: str
    workers: int
    threads: int


class RayPool:
    """Places filled with Ray actors, each holding a loaded model. Raises PoolError if Ray cannot be started."""

    def __init__(self, spec: WorkerSpec, options: RayOptions) -> None:
        self._spec = spec
        self._options = options
        self._temp = _start_ray(options)
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, str]] = {}

    @property
    def size(self) -> int:
        return self._options.workers

    def start(self, place: int) -> None:
        import ray

        # A package-private class stays undecorated; options are the same for every actor.
        remote = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=self._options.threads)(Worker)
        self._actors[place] = remote.remote(self._spec)
        self._note(place, "facts", self._actors[place].facts.remote())

    def advance(self, place: int, new: Sequence[Assignment], seconds: float) -> None:
        self._note(place, "progress", self._actors[place].advance.remote(list(new), seconds))

    def drain(self, place: int) -> None:
        self._note(place, "progress", self._actors[place].drain.remote())

    def wait(self, seconds: float) -> list[Answer | Loss]:
        """Answers that have come within so many seconds; at least one as soon as there is one.

        Raises what the worker's own constructor raised, if its model cannot be loaded.
        """
        import ray

        if not self._calls:
            return []
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        more, _ = ray.wait([call for call in self._calls if call not in ready] or ready, timeout=0)
        return [self._answer(call) for call in dict.fromkeys([*ready, *more])]

    def close(self) -> None:
        """Stop the actors and, if it is ours, the cluster; remove its temporary folder."""
        import ray

        for actor in self._actors.values():
            with contextlib.suppress(Exception):  # it may be dead already
                ray.kill(actor)
        self._actors = {}
        self._calls = {}
        ray.shutdown()
        if self._temp is not None:
            shutil.rmtree(self._temp, ignore_errors=True)

    def _note(self, place: int, kind: str, call: Any) -> None:
        self._calls[call] = (place, kind)

    def _answer(self, call: Any) -> Answer | Loss:
        import ray

        place, kind = self._calls.pop(call)
        try:
            value = ray.get(call)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.ActorDiedError as error:
            return self._lost(place, error)
        except ray.exceptions.RayError as error:
            return self._lost(place, error)
        return Answer(place, **{kind: value})

    def _lost(self, place: int, error: Exception) -> Loss:
        self._actors.pop(place, None)
        # Other calls to the same actor will never be answered.
        self._calls = {call: noted for call, noted in self._calls.items() if noted[0] != place}
        text = " ".join(str(error).split())
        cause = (
            "memory" if "OOM" in text or "memory" in text.lower() else "node" if "node" in text.lower() else "crashed"
        )
        return Loss(place, cause, text[:400])


def _start_ray(options: RayOptions) -> Path | None:
    """Connect to a cluster, or make a private one on this machine; its temporary folder, if it is ours."""
    if options.address != "local":
        _init(address=options.address)
        return None
    os.environ.update(_LOCAL_ENVIRONMENT)
    _remove_abandoned_folders()
    temp = Path(tempfile.mkdtemp(prefix=f"{_TEMP_PREFIX}{os.getpid()}-"))
    try:
        _init(
            address="local",
            num_cpus=options.workers * options.threads,
            num_gpus=0,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(temp),
        )
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    return temp


def _init(**arguments: Any) -> None:
    try:
        import ray

        ray.init(
            log_to_driver=False,
            configure_logging=False,
            **arguments,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise PoolError(f"Ray could not be started: {reason}; `-j 0` reads in this process, without Ray") from error


def _remove_abandoned_folders() -> None:
    """Folders of runs that were killed: ours by name, and their process is gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMP_PREFIX}*"):
        pid = folder.name.removeprefix(_TEMP_PREFIX).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
