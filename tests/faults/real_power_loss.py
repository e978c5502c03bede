"""Power losses on a real file system: ext4 in an image on a loop device, cut off below a program that uses it.

    unshare -m python -m tests.faults.real_power_loss FOLDER [--first SEED] [--trials N] [--what WHAT]

This shows that the flushes in the protocol are those that ext4 needs. It does not show a drive that lies about them.
WHAT loses its power is the `protocol` over documents that are not really read, or the real `command`; those that are
`careless-` flush nothing: they are the controls, and must lose documents. Prints a JSON line a history.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from jobs.errors import JobError
from pipeline.durable import Disk, Point, flush
from tests.faults.command_power_loss import command_histories, nothing
from tests.faults.histories import LARGEST_CUT, Verdict, corpus, undisturbed, wrong_at_the_end
from tests.faults.power_loss import PowerCutError
from tests.faults.volume import Volume
from tests.jobs.fake_driver import drive
from tests.jobs.project import REPOSITORY

LOSSES_AT_MOST = 3
_NOT_HERE: Final = 77

Flush = Callable[[int], None]


class Switch(Disk):
    """The real disk, with a switch that cuts the power at the `cut`-th flush or named point."""

    def __init__(self, volume: Volume, cut: int, flush: Flush) -> None:
        super().__init__(flush=self._flushed)
        self._volume, self._left, self._really = volume, cut, flush

    @property
    def is_off(self) -> bool:
        return self._left <= 0

    def reach(self, point: Point) -> None:
        self._tick()

    def _flushed(self, descriptor: int) -> None:
        self._tick()
        self._really(descriptor)

    def _tick(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._volume.lose_power()
            raise PowerCutError


def history(seed: int, documents: Path, scratch: Path, expected: dict[str, bytes], flush: Flush) -> Verdict:
    """Let the power go up to three times at moments drawn from `seed`, then run to the end."""
    chance = random.Random(seed)
    here, cuts = scratch / "project", 0
    shutil.copytree(documents, here)  # with the log of what was said: people do not lose their memory with the power
    volume = Volume(scratch)
    try:
        _lay_run_on(volume, here)
        for _ in range(chance.randint(1, LOSSES_AT_MOST)):
            disk = Switch(volume, chance.randint(1, LARGEST_CUT), flush)
            if not _loses_power(here, disk):
                break
            cuts += 1
            volume.come_back()
        return Verdict(seed, cuts, wrong_at_the_end(here, expected))
    except (JobError, OSError, ValueError) as error:
        return Verdict(seed, cuts, f"cannot be resumed: {type(error).__name__}: {error}")
    finally:
        volume.unmount()


def _lay_run_on(volume: Volume, project: Path) -> None:
    (volume.path / "lost+found").rmdir()
    (volume.path / "run").mkdir()
    subprocess.run(["sync", "-f", str(volume.path)], check=True)
    (project / "run").symlink_to(volume.path / "run")


def _loses_power(project: Path, disk: Switch) -> bool:
    """Run until the power goes or the run is over; whether the power went. Raises what else stops the run."""
    try:
        drive(project, disk)
    except (PowerCutError, JobError, OSError):
        if not disk.is_off:  # without power anything may fail
            raise
    return disk.is_off


def histories(seeds: range, folder: Path, flush: Flush = flush) -> Iterator[Verdict]:
    """The verdicts of many histories."""
    documents = corpus(folder / "corpus")
    expected = undisturbed(shutil.copytree(documents, folder / "golden"))
    for seed in seeds:
        scratch = folder / f"history-{seed}"
        scratch.mkdir()
        yield history(seed, documents, scratch, expected, flush)
        shutil.rmtree(scratch)


_HISTORIES: Final[Mapping[str, Callable[[range, Path], Iterator[Verdict]]]] = {
    "protocol": histories,
    "command": command_histories,
    "careless-protocol": lambda seeds, folder: histories(seeds, folder, nothing),
    "careless-command": lambda seeds, folder: command_histories(seeds, folder, nothing),
}


class NotPermittedError(Exception):
    """No file system can be made and mounted here."""


def in_namespace(seeds: range, folder: Path, what: str = "protocol") -> Iterator[Verdict]:
    """The verdicts of this program in a mount namespace of its own. Raises NotPermittedError where none can be had."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        raise NotPermittedError("mounting a file system takes root and `unshare`")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        program = [sys.executable, "-m", "tests.faults.real_power_loss", scratch]
        numbers = ["--first", str(seeds.start), "--trials", str(len(seeds))]
        command = ["unshare", "-m", *program, *numbers, "--what", what]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
            yield from (Verdict(**json.loads(line)) for line in process.stdout or ())
        if process.returncode == _NOT_HERE:
            raise NotPermittedError("no ext4 file system can be mounted from an image and shut down here")
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")


def can_be_mounted(folder: Path) -> bool:
    """Whether a file system can be made, mounted and cut off."""
    folder.mkdir()
    try:
        volume = Volume(folder)
        volume.lose_power()
        volume.unmount()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder to work in")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--what", choices=sorted(_HISTORIES), default="protocol")
    arguments = parser.parse_args()
    if not can_be_mounted(arguments.folder / "trial"):
        return _NOT_HERE
    seeds = range(arguments.first, arguments.first + arguments.trials)
    for verdict in _HISTORIES[arguments.what](seeds, arguments.folder):
        sys.stdout.write(f"{json.dumps(asdict(verdict))}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
