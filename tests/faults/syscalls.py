"""Faults at system calls: a driver is killed at its n-th flush, rename, link or write, or is told that it failed.

strace injects them, so no code of ours takes part: points that nobody thought of are met too. Linux, where strace may
be used.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import ExitCode, JobError
from pipeline.durable import Disk
from tests.faults.histories import corpus, undisturbed, wrong_at_the_end
from tests.jobs.fake_driver import drive
from tests.jobs.project import REPOSITORY

CALLS = {"fsync": 100, "rename": 20, "link": 6, "unlink": 25, "write": 90}
"""And how many of each a run makes about."""
KINDS = ("signal=SIGKILL", "error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EINTR")
FORESEEN = (0, int(ExitCode.ENVIRONMENT), -signal.SIGKILL)


@dataclass(frozen=True)
class Trial:
    """What was injected, how the driver ended, and what was wrong after running to the end."""

    fault: str
    code: int
    wrong: str


def is_possible() -> bool:
    """Whether strace is there and may look at our own processes."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run([*_strace("fsync", "error=EIO", 1), sys.executable, "-c", ""], capture_output=True)
    return tried.returncode == 0


def trials(seeds: range, folder: Path) -> Iterator[Trial]:
    """One fault a seed, each in a run of its own."""
    documents = corpus(folder / "corpus")
    expected = undisturbed(shutil.copytree(documents, folder / "golden"))
    for seed in seeds:
        here = shutil.copytree(documents, folder / f"trial-{seed}")
        yield _trial(random.Random(seed), here, expected)
        shutil.rmtree(here)


def _trial(chance: random.Random, folder: Path, expected: dict[str, bytes]) -> Trial:
    call = chance.choice([*CALLS])
    kind = chance.choice(KINDS)
    nth = chance.randint(1, CALLS[call])
    command = [*_strace(call, kind, nth), sys.executable, "-m", "tests.faults.syscalls", str(folder)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, timeout=300)
    wrong = "" if ended.returncode in FORESEEN else f"ended with {ended.returncode}: {ended.stderr[-500:]!r}"
    return Trial(f"{call} {kind} {nth}", ended.returncode, wrong or wrong_at_the_end(folder, expected))


def _strace(call: str, kind: str, nth: int) -> list[str]:
    """Only the main thread is looked at: it is the one that writes."""
    return ["strace", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:{kind}:when={nth}"]


def main(folder: str) -> None:
    """The program at which the faults are aimed; exits with the code of the JobError, if any."""
    try:
        drive(Path(folder), Disk())
    except JobError as error:
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main(sys.argv[1])
