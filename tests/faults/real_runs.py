"""Whole runs of the real command over a tiny model, killed or failed at named points, and what must hold afterwards."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from unittest import mock

from jobs.errors import ExitCode
from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import TEMPORARY, Disk, Point
from tests.faults.forked import processes
from tests.jobs.project import Project, contents, prose, unspool
from tests.processes import state_of

KILLED = -9
DONE = 3  # one document cannot be read
STOPPED = 6
LIVES_AT_MOST = 300
FAILS = 0.05
ACTIONS = ("kill", "raise:EIO", "raise:ENOSPC")
KILLS_A_RUN = 8
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Runs:
    """A project whose documents take several checkpoints, one of which cannot be read, and what it comes to."""

    context: ForkServerContext
    project: Project
    golden: Path
    expected: dict[str, str]
    reached: Counter[str]
    """How often a life that nobody disturbs gets to each point."""

    @classmethod
    def over(cls, folder: Path) -> Runs:
        project = Project(folder / "project", first=prose(24, 1), second=prose(12, 2), empty="")
        project.write_job(model={"source": str(project.write_model()), "dtype": "fp32"})
        context, golden, counts = processes(), folder / "golden", folder / "reached.json"
        _end(_begun(context, count_points, str(project.job), str(golden), str(counts)), _PATIENCE_SECONDS)
        return cls(context, project, golden, results(golden), Counter(json.loads(counts.read_text("utf-8"))))

    def live(self, out: Path, faults: str, seconds: float = _PATIENCE_SECONDS) -> int:
        """One life of the command in a process of its own; its exit code, or minus the signal that ended it.

        It is killed after so many `seconds`.
        """
        child = self._begin(out, faults)
        return _end(child, seconds)

    def interrupt(self, out: Path, point: Point) -> int:
        """A life that gets SIGTERM when it reaches a point for the first time; its exit code."""
        return self.stand_still(out, f"{point}=stop", lambda pid: os.kill(pid, signal.SIGTERM))

    def stand_still(self, out: Path, faults: str, meanwhile: Callable[[int], object]) -> int:
        """A life that stands still as `faults` say, and goes on after `meanwhile(pid)`; its exit code."""
        child = self._begin(out, faults)
        until = time.monotonic() + _PATIENCE_SECONDS
        while child.is_alive() and state_of(child.pid or 0) != "T" and time.monotonic() < until:
            time.sleep(0.005)
        if child.is_alive():
            meanwhile(child.pid or 0)
            os.kill(child.pid or 0, signal.SIGCONT)
        return _end(child, _PATIENCE_SECONDS)

    def _begin(self, out: Path, faults: str) -> ForkServerProcess:
        return _begun(self.context, run_command, str(self.project.job), str(out), faults)

    def wrong(self, out: Path) -> str:
        """What should not be, once a run has come to its end."""
        if results(out) != self.expected:
            return "other bytes"
        left = [path.name for path in out.rglob(f"*{TEMPORARY}*")]
        return "; ".join([*left, *verify(RunDirectory.open(out, Disk()))])


def _begun(context: ForkServerContext, target: Callable[..., None], *arguments: str) -> ForkServerProcess:
    child = context.Process(target=target, args=arguments)
    child.start()
    return child


def _end(child: ForkServerProcess, seconds: float) -> int:
    """Wait for a process; kill it after so many seconds."""
    child.join(seconds)
    child.kill()
    child.join()
    return child.exitcode or 0


def run_command(job: str, out: str, faults: str) -> None:
    """The command, in the process that is to end with it."""
    sys.exit(unspool("run", job, "-o", out, "--no-progress", faults=faults).code)


def count_points(job: str, out: str, counts: str) -> None:
    """The command, and how often it gets to each point, in a file."""
    reached: Counter[str] = Counter()

    def reach(disk: Disk, point: Point) -> None:
        reached[point] += 1

    with mock.patch.object(Disk, "reach", reach):
        unspool("run", job, "-o", out, "--no-progress")
    Path(counts).write_text(json.dumps(reached), "utf-8")


def results(out: Path) -> dict[str, str]:
    return contents(out / "output") | contents(out / "states")


class Killed:
    """One run after another, each killed a number of times and then left alone: half at points, half at moments."""

    def __init__(self, runs: Runs, folder: Path) -> None:
        self._runs, self._folder = runs, folder
        self._number = self._kills = 0
        self._usual_seconds = 1.0

    def kill(self, seed: int) -> str:
        """Start the command until it has been killed once more; what is wrong with a run that is over by then."""
        chance = random.Random(seed)
        while True:
            code, seconds = self._live(chance)
            if code == KILLED:
                self._kills += 1
                return self.finish() if self._kills == KILLS_A_RUN else ""
            self._usual_seconds = seconds
            if wrong := self._over(code):
                return wrong

    def finish(self) -> str:
        """Leave the run alone; what is wrong at its end."""
        return self._over(self._runs.live(self._out, ""))

    @property
    def _out(self) -> Path:
        return self._folder / f"killed-{self._number}"

    def _live(self, chance: random.Random) -> tuple[int, float]:
        """One life; how it ended and how long it took."""
        started = time.monotonic()
        if chance.random() < 0.5:
            point = chance.choice([*Point])
            nth = chance.randint(1, max(self._runs.reached[point], 1))
            code = self._runs.live(self._out, f"{point}=kill@{nth}")
        else:
            code = self._runs.live(self._out, "", chance.uniform(0, self._usual_seconds))
        return code, time.monotonic() - started

    def _over(self, code: int) -> str:
        wrong = self._runs.wrong(self._out) if code == DONE else f"exit code {code}"
        shutil.rmtree(self._out, ignore_errors=True)
        self._number, self._kills = self._number + 1, 0
        return wrong


def killed_runs(seeds: range, folder: Path) -> Iterator[str]:
    """Kill the command once for each seed; what was wrong with the runs that came to their end."""
    killed = Killed(Runs.over(folder), folder)
    for seed in seeds:
        yield killed.kill(seed)
    yield killed.finish()


def told_to_stop(seeds: range, folder: Path) -> Iterator[str]:
    """What was wrong with runs each of which was told to stop at a point, one after another."""
    runs = Runs.over(folder)
    points = [point for point in Point if point is not Point.FINALIZE_MOVED_ASIDE]  # it takes a crash to get there
    for seed in seeds:
        out = folder / f"stopped-{seed}"
        code = runs.interrupt(out, points[seed % len(points)])
        again = runs.live(out, "")
        yield runs.wrong(out) if (code, again) == (ExitCode.INTERRUPTED, DONE) else f"exit codes {code}, {again}"
        shutil.rmtree(out)


def draw_faults(chance: random.Random) -> str:
    """A plan in which every point fails each time with the same small probability, until the first one has."""
    return ";".join(f"{point}={chance.choice(ACTIONS)}@{_first_failure(chance)}" for point in Point)


def _first_failure(chance: random.Random) -> int:
    tries = 1
    while chance.random() >= FAILS:
        tries += 1
    return tries


def flaky(runs: Runs, seed: int, out: Path) -> str:
    """Start the command again and again, each time with other faults, until it is done; what is wrong then."""
    chance = random.Random(seed)
    for _ in range(LIVES_AT_MOST):
        code = runs.live(out, draw_faults(chance))
        if code == DONE:
            return runs.wrong(out)
        if code not in (KILLED, STOPPED):
            return f"exit code {code}"
    return f"not done after {LIVES_AT_MOST} lives"


def flaky_machines(seeds: range, folder: Path) -> Iterator[str]:
    """What was wrong in each of many runs on machines where everything may fail at any time."""
    runs = Runs.over(folder)
    for seed in seeds:
        out = folder / f"flaky-{seed}"
        yield flaky(runs, seed, out)
        shutil.rmtree(out)
