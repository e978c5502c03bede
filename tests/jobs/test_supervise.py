"""What the loop of a run does with workers that are slow, that hang or that die, on a pool that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import ExitCode, JobError
from jobs.ledger import RunLedger
from jobs.patience import Patience
from jobs.records import Epoch
from jobs.run_directory import RunDirectory
from jobs.supervise import Limits, Supervisor, Watchers
from pipeline.documents import DocumentRef
from pipeline.errors import DocumentError
from pipeline.last_words import Crash
from pipeline.outcome import Outcome, failed
from pipeline.parts import Attempt, PartWriter
from pipeline.pool import Answer, Loss
from pipeline.work import Assignment, Progress, WorkerFacts
from tests.jobs.fake_driver import new_run, quick_disk

STALL = 60.0
USUAL_SECONDS = 1.0
Hangs = Callable[[str, int], bool]


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ScriptedPool:
    """Workers that answer each call after a second, except over documents at which they hang."""

    def __init__(self, clock: Clock, writer: PartWriter, places: int, hangs: Hangs) -> None:
        self.size = places
        self.loss: Callable[[int, Sequence[Assignment]], Loss | None] | None = None
        self.abandoned: list[tuple[str, ...]] = []
        self.handed_out: list[tuple[str, ...]] = []
        self.readers: list[int] = []
        self.started = 0
        self._clock = clock
        self._writer = writer
        self._hangs = hangs
        self._starting: list[int] = []
        self._worker_at: dict[int, int] = {}
        self._calls: dict[int, tuple[float, list[Assignment]]] = {}

    def start(self, place: int) -> None:
        self._starting.append(place)
        self._worker_at[place] = self.started
        self.started += 1

    def advance(self, place: int, new: Sequence[Assignment], seconds: float) -> None:
        self.handed_out.append(tuple(given.ref.uri for given in new))
        self.readers.append(self._worker_at[place])
        self._calls[place] = (self._clock.now, list(new))

    def drain(self, place: int) -> None:
        self._calls[place] = (self._clock.now, [])

    def wait(self, seconds: float) -> list[Answer | Loss]:
        started, self._starting = self._starting, []
        if started:
            return [Answer(place, facts=WorkerFacts(1, "n", "span", 4, "7", "fp32", 0.1, {})) for place in started]
        self._clock.now += seconds
        return [*self._answers()]

    def _answers(self) -> Iterator[Answer | Loss]:
        for place, (_, documents) in list(self._calls.items()):
            if self.loss is not None and (loss := self.loss(place, documents)):
                del self._calls[place]
                yield loss
            elif not any(self._hangs(one.ref.uri, one.attempt) for one in documents):
                del self._calls[place]
                outcomes = tuple(self._outcome(one) for one in documents)
                yield Answer(place, progress=Progress(outcomes, (), 0, 0, 0))

    def _outcome(self, given: Assignment) -> Outcome:
        """Rows that say anything at all: here only their number counts."""
        attempt = Attempt(given.ref.doc_id, given.epoch, given.attempt)
        if given.ref.uri == "good":
            return Outcome(given.ref.doc_id, given.epoch, given.attempt, "ok", "", (), 1, 1, 1.0)
        return failed(given.ref, attempt, DocumentError("decode", "empty", "nothing in it"), self._writer)

    def abandon(self, place: int, message: str) -> Loss:
        if place in self._calls:
            _, given = self._calls.pop(place)
            self.abandoned.append(tuple(one.ref.uri for one in given))
        return Loss(place, "hung", message)

    def close(self) -> None:
        pass


class Run:
    """A run directory and a supervisor over a scripted pool."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        hangs: Hangs,
        places: int = 1,
        lanes: int = 1,
        max_failed: float = 1.0,
        crashes: Sequence[Crash] = (),
    ) -> None:
        self.directory: RunDirectory = new_run(folder, quick_disk())
        self.directory.prepare()
        view = RunLedger.read(self.directory.ledger)
        self.ledger = RunLedger.take_over(view, self.directory.disk, folder, Epoch.of_this_process("start", {}))
        self.clock = Clock()
        self.stops: Callable[[], bool] = lambda: False
        writer = PartWriter(self.directory.path, self.directory.disk)
        self.pool = ScriptedPool(self.clock, writer, places, hangs)
        refs = [DocumentRef(f"d{name}", name, f"/{name}", 0, 0, "text") for name in names]
        self.supervisor = Supervisor(
            self.pool,
            self.ledger,
            refs,
            lanes,
            Limits(retries=2, max_failed=max_failed, documents=len(refs)),
            writer,
            Watchers(()),
            self.directory.quarantine,
            lambda _: None,
            lambda: self.stops(),
            Patience(STALL, self.clock),
            crashes=crashes,
        )

    def reasons(self) -> dict[str, str]:
        """Why each document was given up, up to the colon."""
        found = RunLedger.read(self.directory.ledger).quarantined
        return {doc_id: record.reason.split(":")[0] for doc_id, record in found.items()}


def test_a_document_at_which_every_worker_hangs_is_given_up_after_three_and_the_others_are_read(tmp_path: Path) -> None:
    run = Run(tmp_path, ["a", "poison", "b"], lambda name, _: name == "poison")

    assert run.supervisor.run()

    assert run.pool.abandoned == [("poison",)] * 3
    assert run.reasons() == {"da": "empty", "db": "empty", "dpoison": "worker_hung"}


def test_documents_at_which_a_worker_hung_are_tried_again_each_alone_by_a_fresh_worker(tmp_path: Path) -> None:
    run = Run(tmp_path, ["a", "b", "c", "d"], lambda name, attempt: name == "b" and attempt == 1, lanes=4)

    assert run.supervisor.run()

    assert run.pool.abandoned == [("a", "b", "c", "d")]
    retried = [names for names in run.pool.handed_out[1:] if names]
    assert sorted(retried) == [("a",), ("b",), ("c",), ("d",)]
    assert run.pool.readers == [0, 1, 2, 3, 4]
    assert set(run.reasons().values()) == {"empty"}


def test_a_try_after_a_loss_is_in_the_ledger_before_it_is_made(tmp_path: Path) -> None:
    known: list[int] = []

    def hangs(name: str, attempt: int) -> bool:
        if name == "poison":
            known.append(attempt - 1 - RunLedger.read(run.directory.ledger).attempts.get("dpoison", 0))
        return name == "poison"

    run = Run(tmp_path, ["a", "poison"], hangs)

    assert run.supervisor.run()

    assert len(known) >= 3 and set(known) == {0}


def test_what_crashed_the_process_before_is_read_last_alone_and_by_a_worker_that_has_read_nothing(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, ["a", "b", "c"], lambda *_: False, lanes=3, crashes=[Crash("Segmentation fault", ("da",))])

    assert run.supervisor.run()

    assert [names for names in run.pool.handed_out if names] == [("b", "c"), ("a",)]
    assert run.pool.readers == [0, 1]


def test_what_has_crashed_three_processes_is_given_up_without_a_fourth(tmp_path: Path) -> None:
    crash = Crash("Segmentation fault", ("da", "of another time"))
    run = Run(tmp_path, ["a"], lambda *_: False, crashes=[crash] * 4)

    assert run.supervisor.run()

    assert (run.pool.handed_out, run.pool.started) == ([], 0)
    assert run.reasons() == {"da": "worker_crashed"}
    [given_up] = RunLedger.read(run.directory.ledger).quarantined.values()
    assert given_up.reason.endswith("lost 3 times, the last time because it crashed (Segmentation fault)")


def test_a_lost_node_is_not_blamed_on_the_documents_that_were_read_there(tmp_path: Path) -> None:
    run = Run(tmp_path, ["good", "b"], lambda *_: False)
    losses = iter([Loss(0, "node", "gone")] * 3)
    run.pool.loss = lambda place, documents: next(losses, None)

    assert run.supervisor.run()

    view = RunLedger.read(run.directory.ledger)
    assert (dict(view.attempts), view.finished_ids()) == ({}, {"dgood", "db"})
    assert run.pool.started == 4


def test_a_run_told_to_stop_leaves_a_worker_that_hangs_and_says_that_it_is_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.supervise._DRAIN_SECONDS", 0.05)
    run = Run(tmp_path, ["good", "poison"], lambda name, _: name == "poison", places=2)
    run.stops = lambda: run.clock.now > 5

    assert not run.supervisor.run()

    assert run.pool.abandoned == [("poison",)]
    assert run.ledger.view.finished_ids() == {"dgood"}
    last = max(run.directory.ledger.glob("*.json")).read_text("utf-8")
    assert '"reason":"interrupted"' in last and '"t":"pause"' in last
    assert RunLedger.read(run.directory.ledger).attempts == {}, "being told to stop is not the document's fault"


def test_workers_that_all_hang_stop_the_run_and_are_not_blamed_on_the_documents(tmp_path: Path) -> None:
    run = Run(tmp_path, [f"{n}" for n in range(20)], lambda *_: True)

    with pytest.raises(JobError, match="looks like the machine") as stopped:
        run.supervisor.run()

    assert stopped.value.exit_code is ExitCode.ABORTED
    assert len(run.pool.abandoned) == 5


@pytest.mark.parametrize(("documents", "seen"), [(49, 49), (200, 50)])
def test_too_large_a_share_of_failures_stops_the_run_once_fifty_documents_were_seen(
    tmp_path: Path, documents: int, seen: int
) -> None:
    run = Run(tmp_path, [f"{n}" for n in range(documents)], lambda *_: False, max_failed=0.05)

    if documents < 50:
        assert run.supervisor.run()
    else:
        with pytest.raises(
            JobError, match=r"50 of 200 documents have failed, more than on_error\.max_failed"
        ) as stopped:
            run.supervisor.run()
        assert stopped.value.exit_code is ExitCode.ABORTED

    assert len(run.reasons()) == seen, "what was found wrong until then stays"


def ref(size: int) -> DocumentRef:
    return DocumentRef("d", "d", "/d", size, 0, "text")


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 100), max_size=30), st.floats(1, 1000))
def test_a_call_is_overdue_after_the_stall_or_twenty_times_the_usual_and_not_before(
    usual: list[float], stall: float
) -> None:
    clock = Clock()
    patience = Patience(stall, clock)
    for seconds in usual:
        patience.begin(0, [])
        clock.now += seconds
        patience.end(0)
    patience.begin(0, [])
    clock.now += stall * 0.999
    assert patience.overdue() == {}
    clock.now += max(0.002 * stall, 20 * max(usual, default=0.0))
    assert patience.overdue().keys() == {0}
    patience.end(0)
    assert patience.overdue() == {}


@settings(deadline=None)
@given(st.integers(0, 1 << 34))
def test_a_call_that_opens_a_document_also_has_the_time_to_take_in_its_bytes(size: int) -> None:
    clock = Clock()
    patience = Patience(STALL, clock)
    patience.begin(0, [ref(size)])
    clock.now = STALL + size / (1 << 20)
    assert patience.overdue() == {}
    clock.now += 1
    assert patience.overdue().keys() == {0}


def test_several_documents_at_which_workers_hang_do_not_stop_a_run_that_reads_the_others(tmp_path: Path) -> None:
    names = ["good", *(f"poison{number}" for number in range(4))]
    run = Run(tmp_path, names, lambda name, _: name.startswith("poison"))

    assert run.supervisor.run()

    assert sorted(run.reasons()) == [f"dpoison{number}" for number in range(4)]
    assert len(run.pool.abandoned) == 12
    assert run.clock.now < 13 * (STALL + 5), "each was given more time than the one before"


def of_nodes(run: Run) -> None:
    """Have every worker of the pool that hangs be lost with its node."""
    hung = run.pool.abandon

    def abandon(place: int, message: str) -> Loss:
        return replace(hung(place, message), cause="node")

    run.pool.abandon = abandon  # type: ignore[method-assign]


def test_workers_lost_with_their_nodes_are_nobodys_fault_however_many(tmp_path: Path) -> None:
    run = Run(
        tmp_path, [f"{n}" for n in range(20)], lambda name, _: int(name) < 8 and (name,) not in run.pool.abandoned
    )
    of_nodes(run)

    assert run.supervisor.run()

    assert len(run.pool.abandoned) == 8
    assert set(run.reasons().values()) == {"empty"}
    assert not any(path.read_text().count('"t":"attempt"') for path in run.directory.ledger.iterdir())


def test_a_document_that_goes_down_with_every_node_is_given_up_in_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path, ["a", "poison"], lambda name, _: name == "poison")
    of_nodes(run)

    assert run.supervisor.run()

    assert run.reasons() == {"da": "empty", "dpoison": "worker_node"}
    assert len(run.pool.abandoned) == 10 + 3
