"""Workers as the driver sees them: some number of places, each answering one call at a time.

`LocalPool` has one worker in this process; `pipeline.ray_pool.RayPool` has Ray actors. What the workers do is the
same. Knows nothing of which documents are left.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pipeline.last_words import Diary

if TYPE_CHECKING:
    from pipeline.work import Assignment, Progress, WorkerFacts, WorkerSpec
    from pipeline.worker import Worker


@dataclass(frozen=True)
class Answer:
    """What a worker gave back: its facts when it became ready, or the progress of a call."""

    place: int
    facts: WorkerFacts | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Loss:
    """A worker is gone, with everything that it had not saved.

    `cause` is one of crashed, memory, hung, node, unknown; `reason` what the process itself said of its end, if it did.
    """

    place: int
    cause: str
    message: str
    reason: str = ""


PATIENT_THREADS: Final = {"OMP_WAIT_POLICY": "passive"}
"""Environment of processes that compute: a thread that waits sleeps. With the default, one that spins takes the
processor from the one it waits for wherever something else runs too: measured, 20 times slower on two busy cores."""


def keep_from_collector() -> bool:
    """Have Python's collector pass over what there is when a worker is loaded; returns whether it does so now.

    torch alone is a quarter of a million objects that stay as long as the process; walking through them again and again
    took up to a twentieth of the reading time. Who has had it pass over something before is not interfered with.
    """
    if gc.get_freeze_count():
        return False
    gc.freeze()
    return True


class PoolError(Exception):
    """The workers cannot be started. One line that says why and what to do."""


class Pool(Protocol):
    """A number of places for workers. `start` fills a place, also again after a loss.

    `abandon` ends the worker of a place, at once and whatever it is doing; a call that is out is not answered.
    """

    @property
    def size(self) -> int: ...

    def start(self, place: int) -> None: ...

    def advance(self, place: int, new: Sequence[Assignment], seconds: float) -> None: ...

    def drain(self, place: int) -> None: ...

    def wait(self, seconds: float) -> list[Answer | Loss]: ...

    def abandon(self, place: int, message: str) -> Loss: ...

    def close(self) -> None: ...


class LocalPool:
    """One worker in this process. Calls are carried out when their answers are waited for.

    What it reads stands in a file meanwhile: should the process crash, the next one knows at what.
    """

    size = 1

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._worker: Worker | None = None
        self._kept_from_collector = False
        self._calls: list[Callable[[], Answer]] = []
        self._reading: set[str] = set()
        self._diary = Diary(Path(spec.run) / "quarantine")

    def start(self, place: int) -> None:
        self._calls.append(self._build)

    def advance(self, place: int, new: Sequence[Assignment], seconds: float) -> None:
        self._calls.append(lambda: Answer(0, progress=self._advance(new, seconds)))

    def drain(self, place: int) -> None:
        self._calls.append(lambda: Answer(0, progress=self._drain()))

    def wait(self, seconds: float) -> list[Answer | Loss]:
        """Carry out the calls that are waiting. Raises RwkvError if the model cannot be loaded."""
        calls, self._calls = self._calls, []
        return [self._carry_out(call) for call in calls]

    def abandon(self, place: int, message: str) -> Loss:
        """Let go of the worker. It cannot be ended while it computes: a call of this pool is over before it returns."""
        self._calls = []
        self._let_go()
        return Loss(place, "hung", message)

    def close(self) -> None:
        """Let go of the worker; nothing that it began goes on in this process."""
        self._let_go()
        self._diary.close()

    def _let_go(self) -> None:
        if self._worker is not None:
            self._worker.close()
        if self._kept_from_collector:
            gc.unfreeze()
            self._kept_from_collector = False
        self._worker = None
        self._note(())

    def _note(self, reading: Iterable[str]) -> None:
        self._reading = set(reading)
        self._diary.reads(self._reading)

    def _advance(self, new: Sequence[Assignment], seconds: float) -> Progress:
        worker = self._ready()
        self._note(self._reading.union(given.ref.doc_id for given in new))
        progress = worker.advance(new, seconds)
        self._note(self._reading.difference(outcome.doc_id for outcome in progress.outcomes))
        return progress

    def _drain(self) -> Progress:
        progress = self._ready().drain()
        self._note(())
        return progress

    def _carry_out(self, call: Callable[[], Answer]) -> Answer | Loss:
        if self._worker is None:
            return call()  # what is lacking is memory for the model: no document is to blame
        try:
            return call()
        except MemoryError as error:
            self._let_go()
            return Loss(0, "memory", f"out of memory: {error}")

    def _build(self) -> Answer:
        for name, value in PATIENT_THREADS.items():
            os.environ.setdefault(name, value)  # read when torch is loaded
        from pipeline.worker import Worker

        self._worker = Worker(self._spec)
        self._kept_from_collector |= keep_from_collector()
        return Answer(0, facts=self._worker.facts())

    def _ready(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("the worker was called before it was started")
        return self._worker
