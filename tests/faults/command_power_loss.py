"""The real command on a file system that loses its power at one of its flushes: what it has committed must be there.

Each record is noted elsewhere by the process that commits it, once it is a fact. Runs within a mount namespace, as
`python -m tests.faults.real_power_loss` makes one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from jobs.errors import JobError
from jobs.ledger import RunLedger
from jobs.records import Done, Quarantine, Record
from tests.faults.histories import Verdict
from tests.faults.real_runs import DONE, KILLED, Runs
from tests.faults.volume import Volume, lose_power
from tests.jobs.project import unspool

LOSSES_AT_MOST = 3
LARGEST_CUT = 90
"""A life of the command flushes about 100 times."""


@dataclass(frozen=True)
class Life:
    """One life of the command. `cut`: the flush at which the power goes. `flush`: what flushes the others."""

    job: str
    mounted: Path
    log: Path
    cut: int
    flush: Callable[[int], None]

    def __call__(self) -> None:
        left, commit = self.cut, RunLedger.commit

        def noted(ledger: RunLedger, record: Record) -> None:
            commit(ledger, record)
            with self.log.open("a", encoding="utf-8") as file:
                file.writelines(f"{doc_id}\n" for doc_id in _documents(record))

        def flush(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                lose_power(self.mounted)
                os.kill(os.getpid(), signal.SIGKILL)
            self.flush(descriptor)

        with mock.patch.object(RunLedger, "commit", noted), mock.patch("os.fsync", flush):
            sys.exit(unspool("run", self.job, "-o", str(self.mounted / "out"), "--quiet").code)


def nothing(descriptor: int) -> None:
    """The flush of a careless program."""


def command_histories(seeds: range, folder: Path, flush: Callable[[int], None] = os.fsync) -> Iterator[Verdict]:
    """The verdicts of many runs, each of which loses its power up to three times."""
    runs = Runs.over(folder)
    for seed in seeds:
        scratch = folder / f"history-{seed}"
        scratch.mkdir()
        volume = Volume(scratch)
        try:
            yield _history(seed, runs, volume, scratch / "committed", flush)
        finally:
            volume.unmount()
        shutil.rmtree(scratch)


def _history(seed: int, runs: Runs, volume: Volume, log: Path, flush: Callable[[int], None]) -> Verdict:
    chance, out, cuts = random.Random(seed), volume.path / "out", 0
    log.touch()
    try:
        for _ in range(chance.randint(1, LOSSES_AT_MOST)):
            if not _loses_power(
                runs, Life(str(runs.project.job), volume.path, log, chance.randint(1, LARGEST_CUT), flush)
            ):
                break
            cuts += 1
            volume.come_back()
            if lost := _lost(out, log):
                return Verdict(seed, cuts, f"{lost} was committed and is not there")
        code = runs.live(out, "")
        return Verdict(seed, cuts, runs.wrong(out) if code == DONE else f"cannot be resumed: exit code {code}")
    except (JobError, OSError) as error:
        return Verdict(seed, cuts, f"cannot be resumed: {error}")


def _loses_power(runs: Runs, life: Life) -> bool:
    child = runs.context.Process(target=life)
    child.start()
    child.join()
    return child.exitcode == KILLED


def _documents(record: Record) -> list[str]:
    match record:
        case Done(documents):
            return [document.doc_id for document in documents]
        case Quarantine(document):
            return [document.doc_id]
    return []


def _lost(out: Path, log: Path) -> str:
    """A document that was committed and is not in the ledger, if there is one."""
    committed = log.read_text("utf-8").split()
    there = RunLedger.read(out / "ledger").finished_ids() if committed else frozenset()
    return next((doc_id for doc_id in committed if doc_id not in there), "")
