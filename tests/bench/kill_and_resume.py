"""Kills a job with all its processes at random moments, resumes it each time, and compares with a run left alone.

    python -m tests.bench.kill_and_resume [--workers 0 1 2] [--kills 20] [--job examples/quickstart.yaml] OUTDIR

Prints one JSON line for each number of workers; exits with 1 if anything was lost, doubled, different, left running,
or read again for more than one checkpoint interval.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from jobs.plan import newest_checkpoint
from jobs.spec import load_spec
from tests.processes import Tree, start_tree

KILLED_BEFORE_READING = 0.15
"""The share of kills that come while the program, Ray and the model are still starting."""

Event = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after the first worker is ready, or after the start of the process."""

    reading: bool
    seconds: float


@dataclass(frozen=True)
class Life:
    """One process's part in a run: the events that it noted, and the tokens at which it left each document saved."""

    events: tuple[Event, ...]
    saved: dict[str, int]
    was_killed: bool


@dataclass(frozen=True)
class ReadAgain:
    """What a kill cost one document: tokens between where it was last seen and where it was taken up again.

    Workers report about once a second; what was read after the last report is not counted. `is_newest` says that it
    was taken up from the newest checkpoint that was there.
    """

    doc_id: str
    tokens: int
    is_newest: bool


@dataclass(frozen=True)
class Verdict:
    """What came of killing one job over and over."""

    kills: int
    lives: int
    runs: int
    identical: bool
    rows_lost: int
    rows_doubled: int
    verify: int
    interval: int
    tokens_again_max: int
    documents_interrupted: int
    older_checkpoints_used: int
    seconds: float

    def is_good(self) -> bool:
        wrong = self.rows_lost + self.rows_doubled + self.verify + self.older_checkpoints_used
        return self.identical and not wrong and self.tokens_again_max <= self.interval


@dataclass(frozen=True)
class Job:
    """A job and how the command is started. `interval` counts tokens between two checkpoints, a window included."""

    path: Path
    workers: int
    interval: int
    program: tuple[str, ...] = (sys.executable, "-m", "jobs.cli")

    def run(self, out: Path) -> list[str]:
        options = ["-o", str(out), "-j", str(self.workers), "--no-progress"]
        return [*self.program, "run", str(self.path), *options]

    def verify(self, out: Path) -> list[str]:
        return [*self.program, "verify", str(out)]


def main() -> int:
    arguments = _arguments()
    out: Path = arguments.outdir
    out.mkdir(parents=True)
    draw = random.Random(arguments.seed)
    golden = out / "golden"
    interval = _interval(arguments.job)
    run_to_the_end(Job(arguments.job, 0, interval), golden)
    good = True
    for workers in arguments.workers:
        job = Job(arguments.job, workers, interval)
        moments = [draw_moment(draw, arguments.span) for _ in range(arguments.kills)]
        verdict = kill_over_and_over(job, golden, out / f"workers-{workers}", moments)
        print(json.dumps({"workers": workers, "good": verdict.is_good(), **asdict(verdict)}), flush=True)
        good = good and verdict.is_good()
    return 0 if good else 1


def draw_moment(draw: random.Random, span: float) -> Moment:
    """A random moment: mostly within `span` seconds of reading, sometimes before it has begun."""
    return Moment(draw.random() >= KILLED_BEFORE_READING, draw.uniform(0, span))


def kill_over_and_over(job: Job, golden: Path, out: Path, moments: Sequence[Moment]) -> Verdict:
    """Kill a job at these moments of as many lives and let it finish. One that ends before is begun anew, for less."""
    started = time.monotonic()
    runs = [_Run(job, out / "run-0")]
    for number, moment in enumerate(moments):
        while not runs[-1].live(moment):
            runs.append(_Run(job, out / f"run-{len(runs)}"))
            moment = replace(moment, seconds=moment.seconds / 2)
        _say(f"workers {job.workers}: kill {number + 1} of {len(moments)}, {moment}")
    runs[-1].finish()
    again = [cost for run in runs for cost in tokens_read_again(run.lives)]
    lost, doubled = zip(*(_lost_and_doubled(golden, run.out) for run in runs), strict=True)
    return Verdict(
        kills=sum(life.was_killed for run in runs for life in run.lives),
        lives=sum(len(run.lives) for run in runs),
        runs=len(runs),
        identical=all(contents(run.out / "output") == contents(golden / "output") for run in runs),
        rows_lost=sum(lost),
        rows_doubled=sum(doubled),
        verify=max(_code(job.verify(run.out), run.log) for run in runs),
        interval=job.interval,
        tokens_again_max=max((cost.tokens for cost in again), default=0),
        documents_interrupted=len(again),
        older_checkpoints_used=sum(not cost.is_newest for cost in again),
        seconds=round(time.monotonic() - started, 1),
    )


def run_to_the_end(job: Job, out: Path) -> None:
    """Run a job that nobody disturbs."""
    _say(f"workers {job.workers}: undisturbed")
    _Run(job, out).finish()


class _Run:
    """A run directory and the lives that were spent on it."""

    def __init__(self, job: Job, out: Path) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        self.job = job
        self.out = out
        self.log = out.with_name(out.name + ".log")
        self.lives: list[Life] = []

    def live(self, moment: Moment) -> bool:
        """One life until this moment. False if it came to its end before: then the run is over."""
        seen = len(_events(self.out))
        with self.log.open("ab") as log:
            tree = start_tree(self.job.run(self.out), log)
            was_killed = self._wait_for(moment, tree, seen)
            tree.kill()
        self._end_life(seen, was_killed, tree.process.returncode)
        return was_killed

    def finish(self) -> None:
        """The last life, which nobody ends."""
        seen = len(_events(self.out))
        code = _code(self.job.run(self.out), self.log)
        self._end_life(seen, False, code)

    def _end_life(self, seen: int, was_killed: bool, code: int) -> None:
        if code != 0 and not was_killed:
            raise SystemExit(f"{self.out} ended with exit code {code}; see {self.log}")
        events = tuple(_events(self.out)[seen:])
        self.lives.append(Life(events, _saved(self.out), was_killed))

    def _wait_for(self, moment: Moment, tree: Tree, seen: int) -> bool:
        """Wait until the moment has come. False if the process ended before."""
        while moment.reading and not _is_ready(_events(self.out)[seen:]):
            if tree.process.poll() is not None:
                return False
            time.sleep(0.01)
        until = time.monotonic() + moment.seconds
        while time.monotonic() < until:
            if tree.process.poll() is not None:
                return False
            time.sleep(0.002)
        return True


def tokens_read_again(lives: Sequence[Life]) -> Iterator[ReadAgain]:
    """For every kill and every document that was being read then: what of it was read once more."""
    for number, life in enumerate(lives):
        if not life.was_killed:
            continue
        seen = _last_positions(life.events)
        for doc_id in seen.keys() | life.saved.keys():
            taken_up = next(_taken_up(doc_id, lives[number + 1 :]), None)
            if taken_up is not None:  # otherwise it was finished
                tokens, saved = seen.get(doc_id, 0), life.saved.get(doc_id, 0)
                yield ReadAgain(doc_id, max(tokens - taken_up, 0), taken_up >= saved)


def _saved(run: Path) -> dict[str, int]:
    """The token at which each document's newest checkpoint stands."""
    folders = (folder.name for folder in run.glob("checkpoints/*"))
    return {doc_id: newest_checkpoint(run, doc_id) or 0 for doc_id in folders}


def _last_positions(events: Sequence[Event]) -> dict[str, int]:
    """The token at which each document was last seen."""
    found: dict[str, int] = {}
    for event in events:
        if event["event"] in ("position", "checkpoint"):
            found |= event["tokens"]
    return found


def _taken_up(doc_id: str, lives: Sequence[Life]) -> Iterator[int]:
    """The tokens at which later lives went on with a document."""
    for event in (event for life in lives for event in life.events):
        if event.get("doc_id") == doc_id and event["event"] == "document_opened":
            yield event["tokens"]
        if event.get("doc_id") == doc_id and event["event"] == "document_done":
            yield event["tokens"] - event["tokens_fed"]


def _is_ready(events: Sequence[Event]) -> bool:
    return any(event["event"] == "worker_ready" for event in events)


def _events(run: Path) -> list[Event]:
    """The whole lines of a run's event log."""
    path = run / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _code(command: Sequence[str], log: Path) -> int:
    """The exit code of a command that nobody disturbs, once nothing of it runs any more."""
    with log.open("ab") as file:
        tree = start_tree(command, file)
        code = tree.process.wait()
    left = tree.kill()
    return code if not left else code or 1


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _lost_and_doubled(golden: Path, run: Path) -> tuple[int, int]:
    """Rows that the undisturbed run has and this one has not, and rows that it has once too often."""
    expected, found = _row_ids(golden), _row_ids(run)
    return (expected - found).total(), (found - expected).total()


def _row_ids(run: Path) -> Counter[tuple[str, str]]:
    ids: Counter[tuple[str, str]] = Counter()
    for folder in sorted(path for path in (run / "output").iterdir() if path.is_dir()):
        table = ds.dataset(folder, format="parquet").to_table()
        key = "id" if "id" in table.column_names else "doc_id"
        ids.update((folder.name, value) for value in table.column(key).to_pylist())
    return ids


def _interval(job: Path) -> int:
    """Tokens between two checkpoints of a job: as it says, and up to the end of the window that is being read."""
    spec = load_spec(job)
    return spec.checkpoint.every.tokens + spec.run.window


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of workers; 0 is no Ray")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--span", type=float, default=6.0, help="kill within so many seconds of reading")
    parser.add_argument("--job", type=Path, default=Path("examples/quickstart.yaml"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("outdir", type=Path, help="a folder that is not there yet")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
