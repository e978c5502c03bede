"""What people see while a run goes on: the same figures on a terminal and in a pipe, and none of them invented."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs.progress import LiveDisplay, PlainDisplay, Tally, Watch
from pipeline.outcome import Outcome
from pipeline.pool import Loss
from pipeline.work import LaneReport, Progress, WorkerFacts

FACTS = WorkerFacts(1, "0f", "trained", 4, "7", "fp32", 60.0, {})
SIZES = {"d1": 4096, "d2": 2048, "d3": 2048}
URIS = {doc_id: f"docs/{doc_id}.txt" for doc_id in SIZES}


class Clock:
    """A clock that is set by hand, in place of the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("jobs.progress.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def tally() -> Tally:
    """Of a run in which the third document is done."""
    return Tally(SIZES, URIS, {"d3": "ok"})


def moved(*lanes: LaneReport, tokens: int = 100, checkpoints: int = 0) -> Progress:
    return Progress((), lanes, tokens, checkpoints, 0)


def test_the_line_has_every_figure(clock: Clock) -> None:
    seen = tally()
    seen.restart_clock(clock.now)
    seen.move(0, moved(LaneReport("d1", 300, 1024)), clock.now)
    seen.move(1, moved(LaneReport("d2", 30, 512), checkpoints=1), clock.now + 10)
    seen.finish(Outcome("d2", 1, 1, "failed", "", (), 0, 0, 0.0))

    line = seen.line(clock.now + 14)

    assert line == (
        "5.0 KiB of 8.0 KiB · 2/3 documents · 1 failed · lanes 1+1 · 20 tokens/s · checkpoint 4 s ago · about 20 s left"
    )


def test_the_time_that_is_left_does_not_count_the_loading_of_a_model(clock: Clock) -> None:
    seen, display = tally(), PlainDisplay(Console(quiet=True))
    watch = Watch(seen, display)
    clock.now += 600
    watch.ready(0, FACTS)
    clock.now += 10
    watch.moved(0, moved(LaneReport("d1", 300, 1024)))

    assert seen.rates() == (10.0, 102.4)


def test_a_worker_has_a_line_that_says_what_it_reads(clock: Clock) -> None:
    seen = tally()
    lanes = [LaneReport(doc_id, 1, size // 2) for doc_id, size in SIZES.items()]
    seen.move(0, moved(*lanes, LaneReport("d4", 0, 0)), clock.now)
    seen.move(1, moved(), clock.now)

    assert seen.worker_lines() == [
        "worker 0: docs/d1.txt 50%, docs/d2.txt 50%, docs/d3.txt 50% and 1 more",
        "worker 1: waiting",
    ]
    seen.lose(0)
    assert len(seen.worker_lines()) == 1


def test_a_pipe_gets_a_line_every_thirty_seconds(clock: Clock) -> None:
    out = io.StringIO()
    watch = Watch(tally(), PlainDisplay(Console(file=out, width=200)))
    watch.ready(0, FACTS)

    for second in range(100):
        clock.now += 1
        watch.moved(0, moved(LaneReport("d1", 300, 10 * second)))

    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert all("tokens/s" in line and "left" in line for line in lines)


def test_a_terminal_sees_the_line_the_workers_and_what_is_said(clock: Clock) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, color_system=None)
    with Watch(tally(), LiveDisplay(console)) as watch:
        watch.ready(0, FACTS)
        for _ in range(3):
            clock.now += 1
            watch.moved(0, moved(LaneReport("d1", 300, 1024)))
        watch.lost(Loss(0, "crashed", "it crashed"), ["d1"])

    said = out.getvalue()
    for words in ("3.0 KiB of 8.0 KiB", "lanes 1", "worker 0: docs/d1.txt 25%", "worker 0 was lost (crashed)"):
        assert words in said
