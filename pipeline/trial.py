"""A worker tried out on a text for a few seconds, in a process of its own: how fast it reads, what memory it takes.

`tries` starts such processes side by side and is light; what they do is what a worker does, tasks and checkpoints
included, in a folder that is gone afterwards. Knows nothing of jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipeline.documents import DocumentRef
from pipeline.pool import PATIENT_THREADS
from pipeline.work import Assignment, WorkerSpec

SECONDS: Final = 2.0
_LOADING_SECONDS: Final = 600.0
_TEXT_BYTES: Final = 4 << 20
_ROOT: Final = str(Path(__file__).parents[1])


class TrialError(Exception):
    """A worker could not be tried out. One line that says why."""


@dataclass(frozen=True)
class Trial:
    """What one worker did: tokens a second while it read, and the most memory that its process took."""

    tokens_per_second: float
    peak_memory_bytes: int
    load_seconds: float


def tries(spec: WorkerSpec, text: str, count: int) -> list[Trial]:
    """Try out so many workers at once, each in a process of its own. Raises TrialError."""
    request = json.dumps({"spec": asdict(spec), "text": text})
    paths = os.pathsep.join(path for path in (_ROOT, os.environ.get("PYTHONPATH", "")) if path)
    environment = {**os.environ, **PATIENT_THREADS, "PYTHONPATH": paths}
    command = [sys.executable, "-P", "-m", "pipeline.trial"]  # -P: nothing of the working directory is ours
    started = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(count)
    ]
    try:
        for one in started:
            _hand(one, request)
        return [_answer(one) for one in started]
    finally:
        for one in started:
            one.kill()
            one.communicate()


def _hand(process: subprocess.Popen[str], request: str) -> None:
    assert process.stdin is not None  # it was asked for
    try:
        process.stdin.write(request)
        process.stdin.close()
        process.stdin = None  # or communicate would close it once more
    except BrokenPipeError:
        return  # it has ended already, and says why


def _answer(process: subprocess.Popen[str]) -> Trial:
    try:
        out, err = process.communicate(timeout=_LOADING_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise TrialError(f"no answer for {_LOADING_SECONDS:.0f} s") from error
    if process.returncode != 0:
        raise TrialError((err.strip().splitlines() or [f"ended with {process.returncode}"])[-1][:300])
    return Trial(**json.loads(out.splitlines()[-1]))


def main(request: dict[str, Any]) -> Trial:
    """What the process does: build the worker, read for a moment to warm up, then for `SECONDS`."""
    from pipeline.worker import Worker
    from rwkv_runtime import auto_dtype

    told = WorkerSpec(**{**request["spec"], "tasks": tuple(request["spec"]["tasks"])})
    with tempfile.TemporaryDirectory(prefix="unspool-trial-") as folder:
        dtype = auto_dtype.resolve(told.dtype, told.device)
        worker = Worker(replace(told, run=folder, dtype=dtype, faults=""))
        documents = [_document(Path(folder), number, request["text"]) for number in range(told.lanes)]
        worker.advance([Assignment(ref, 1, 1) for ref in documents], 0.0)
        read, started = 0, time.monotonic()
        while (left := started + SECONDS - time.monotonic()) > 0:
            progress = worker.advance((), left)
            read += progress.tokens_fed
            if not progress.lanes:
                break
        took = time.monotonic() - started
        return Trial(read / took, progress.peak_memory_bytes, worker.facts().load_seconds)


def _document(folder: Path, number: int, text: str) -> DocumentRef:
    path = folder / f"sample-{number}.txt"
    path.write_text(text * (_TEXT_BYTES // max(len(text), 1) + 1), "utf-8")
    facts = path.stat()
    return DocumentRef(f"d{number:016x}", path.name, str(path), facts.st_size, facts.st_mtime_ns, "text")


def total_rate(trials: Sequence[Trial], workers: int) -> float:
    """Tokens a second of so many workers, by those tried out side by side."""
    return sum(one.tokens_per_second for one in trials) * workers / len(trials)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(main(json.load(sys.stdin)))) + "\n")
