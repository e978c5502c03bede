"""Run directories on object stores: which copy on this machine they have, and what they ask of a store and a job.

A store must honour a put that replaces nothing, for that is what keeps two drivers apart. It is tried at every start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from jobs.errors import ExitCode, JobError, usage_error
from jobs.run_directory import held, storage_errors
from jobs.spec import JobSpec
from pipeline.durable import Disk, Faults
from pipeline.errors import MissingExtraError
from pipeline.object_store import ADDRESS, Store, StoreError
from pipeline.store_disk import StoreDisk, bring_here
from rwkv_runtime import user_cache


def is_stored(path: str) -> bool:
    """Whether an `output.path` is an address on a store."""
    return ADDRESS.fullmatch(path) is not None


def place_of(path: str) -> Path:
    """The run directory on this machine: `output.path` itself, or the copy of what lies at an address."""
    return user_cache.folder() / "runs" / sha256(path.encode()).hexdigest()[:16] if is_stored(path) else Path(path)


@contextmanager
def disk_for(spec: JobSpec, faults: Faults) -> Iterator[Disk]:
    """What writes the run directory of a job; of one on a store, the copy here is made anew, and held meanwhile.

    Raises JobError: exit 2 for what does not go together with a store, exit 5 if another process here works on the run,
    exit 6 if the store cannot hold one.
    """
    address = spec.output.path
    if not is_stored(address):
        yield Disk(faults)
        return
    _refuse_what_needs_a_disk(spec)
    place = place_of(address)
    with storage_errors(place), held(place.with_suffix(".lock"), address):
        yield StoreDisk(place, _opened(address, place), faults)


def _opened(address: str, place: Path) -> Store:
    try:
        store = Store.open(address)
        if not store.keeps_the_first():
            raise _environment(
                address,
                "this store replaces objects that it was asked not to (it ignores If-None-Match), so two drivers could "
                "both own the run; put output.path on a disk, and the tables here with output.publish",
            )
        bring_here(place, store)
    except MissingExtraError as error:
        raise usage_error("OUTPUT-STORE", str(error), address) from error
    except (StoreError, FileExistsError, FileNotFoundError) as error:
        raise _environment(address, f"cannot hold a run: {error.strerror}; mend it or choose another") from error
    return store


def _refuse_what_needs_a_disk(spec: JobSpec) -> None:
    if spec.output.mode == "overwrite":
        message = "a run directory on a store is not overwritten, since nothing locks it; remove it yourself"
        raise usage_error("OUTPUT-STORE", message, spec.output.path)
    if spec.ray.address != "local" and spec.run.workers != 0:
        message = "workers on a cluster need a run directory on a file system that all nodes share; put it there"
        raise usage_error("OUTPUT-STORE", message, spec.output.path)


def _environment(address: str, message: str) -> JobError:
    return JobError("OUTPUT-STORE", message, exit_code=ExitCode.ENVIRONMENT, where=address)
