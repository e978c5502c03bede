"""How long a job would take here, and in how much memory: its own workers, tried out for two seconds on its own text.

Where nothing may be tried out, a run that has read something is taken at its word. Loads neither torch nor Ray: what is
tried out is tried out in processes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.plan import Plan, PlannedDocument
from jobs.pools import on_cluster, processors, threads_of, workers_of
from jobs.prepare import Job, Run
from jobs.run import worker_spec_of
from jobs.run_directory import RunDirectory, RunInfo
from pipeline.durable import Disk

MOST_TRIED: Final = 4
"""More workers than these are not tried out at once: the rate of the others is taken to be the same."""
IN_PROCESS_BYTES: Final = 72 << 20
"""What the driver's part takes in the process of the only worker."""
DRIVER_BYTES: Final = 416 << 20
"""What a driver takes whose workers are Ray's."""
RAY_WORKER_BYTES: Final = 64 << 20
"""What a Ray worker takes beyond the same worker without Ray."""
BYTES_PER_TOKEN: Final = 512
MOST_GROWTH_BYTES: Final = 160 << 20
"""What a worker takes beyond its first seconds grows with its longest document, and ends: rows that wait for a part,
what tasks remember, what the allocator keeps. All five were measured: `python -m tests.bench.plan_against_run`."""
_SAMPLE_BYTES: Final = 1 << 18
_TEXT_READERS: Final = ("text", "markdown")
_SAMPLE: Final = (
    "The ship lay in the harbour until the ice broke. Nobody aboard had expected the winter to last so long, and the "
    "letters which the captain wrote every evening were still in his drawer.\n\n"
)


@dataclass(frozen=True)
class Estimate:
    """What reading the rest of a plan takes. None where it is not known; `basis` says why, or where it comes from.

    `peak_memory_bytes` is that of the driver and all workers of this machine together, Ray's own processes apart.
    """

    workers: int
    tokens_per_second: float | None
    seconds: float | None
    worker_memory_bytes: int | None
    peak_memory_bytes: int | None
    basis: str


def estimate(job: Job, plan: Plan, measure: bool) -> Estimate:
    """Estimate what is left of a plan; nothing is tried out unless `measure`, nor if nothing is left to read.

    What is followed counts to its present end.
    """
    left = [document for document in plan.documents if document.action in ("read", "resume", "follow")]
    workers = (workers_of(job.spec, len(left), processors()) if left else 0) or 0
    if left and on_cluster(job.spec):
        return Estimate(workers, None, None, None, None, "not measured: the workers are on a cluster")
    if not left:
        return Estimate(workers, plan.tokens_per_second, 0.0, None, None, "nothing is left to read")
    if measure:
        return _tried(job, plan.tokens_left_estimate, left, workers)
    own = plan.tokens_per_second
    rate = own * max(workers, 1) if own else None  # a document's time is that of the worker that read it
    seconds = plan.tokens_left_estimate / rate if rate else None
    return Estimate(workers, rate, seconds, None, None, "this run's own speed" if rate else "not measured")


def _tried(job: Job, tokens: int, left: Sequence[PlannedDocument], workers: int) -> Estimate:
    from pipeline.trial import TrialError, total_rate, tries

    spec = worker_spec_of(_run(job), threads_of(job.spec, workers, processors()))
    try:
        trials = tries(spec, _sample(job, [document.uri for document in left]), min(max(workers, 1), MOST_TRIED))
    except TrialError as error:
        return Estimate(workers, None, None, None, None, f"not measured: {error}")
    rate = total_rate(trials, max(workers, 1))
    longest = max(document.tokens_estimate for document in left)
    each, peak = memory(max(trial.peak_memory_bytes for trial in trials), workers, longest)
    basis = "measured now, with this job's model and tasks"
    return Estimate(workers, rate, tokens / rate if rate else None, each, peak, basis)


def memory(tried: int, workers: int, longest: int) -> tuple[int, int]:
    """(The peak of one worker's process, that of the run), in bytes; with 0 workers these are the same process.

    `tried` is the peak of a worker that was tried out, `longest` the tokens of the longest document.
    """
    worker = tried + min(longest * BYTES_PER_TOKEN, MOST_GROWTH_BYTES)
    if not workers:
        return worker + IN_PROCESS_BYTES, worker + IN_PROCESS_BYTES
    return worker + RAY_WORKER_BYTES, DRIVER_BYTES + workers * (worker + RAY_WORKER_BYTES)


def _run(job: Job) -> Run:
    """The run that is there, or one that is in no place: only what its workers would be told is wanted."""
    if RunDirectory.exists(job.run_path) and job.spec.output.mode != "overwrite":
        return Run(job, RunDirectory.open(job.run_path, Disk()), is_new=False)
    told = RunInfo("plan", "", {}, job.fingerprint, job.model.fingerprint, "", {}, "", job.spec.model.dtype)
    return Run(job, RunDirectory(job.run_path, Disk(), told), is_new=True)


def _sample(job: Job, uris: list[str]) -> str:
    """The beginning of the first document that is text as it stands; prose of ours where there is none."""
    from pipeline.formats import reader_for

    for uri in uris:
        path = Path(job.root, uri)
        if reader_for(uri) in _TEXT_READERS and path.is_file():
            with path.open("rb") as file:
                text = file.read(_SAMPLE_BYTES).decode("utf-8", "ignore")
            if text.strip():
                return text + "\n\n"
    return _SAMPLE
