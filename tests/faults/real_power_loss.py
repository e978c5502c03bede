"""Power losses on a real file system: ext4 in an image on a loop device, cut off below a program that uses it.

    unshare -m python -m tests.faults.real_power_loss FOLDER [--first SEED] [--trials N] [--careless]

EXT4_IOC_SHUTDOWN without a flush of the journal drops what the page cache and the journal hold, and lets nothing more
reach the disk, as a power loss does; then the file system is mounted again, which replays what is left of its journal.
This shows that the flushes in the protocol are those that ext4 needs. It does not show a drive that lies about them.
Prints one JSON line a history. Needs root, in a mount namespace of its own, so that nothing stays mounted.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from jobs.errors import JobError
from pipeline.durable import Disk, Point, flush
from tests.faults.histories import LARGEST_CUT, Verdict, corpus, undisturbed, wrong_at_the_end
from tests.faults.power_loss import PowerCutError
from tests.jobs.fake_driver import drive
from tests.jobs.project import REPOSITORY

_SHUTDOWN: Final = 0x8004587D
_WITHOUT_THE_JOURNAL: Final = 2
_IMAGE_BYTES: Final = 512 << 20
"""Of which the file system takes the little that is written."""
LOSSES_AT_MOST = 3
_NOT_HERE: Final = 77

Flush = Callable[[int], None]


class Volume:
    """A new ext4 file system, mounted at `path`."""

    def __init__(self, folder: Path) -> None:
        self._image, self.path = folder / "disk.img", folder / "mounted"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        self._mount()

    def lose_power(self) -> None:
        """Nothing that is not on the disk gets there any more."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_THE_JOURNAL))
        finally:
            os.close(descriptor)

    def come_back(self) -> None:
        """The power is back: what is on the disk is mounted."""
        self.unmount()
        self._mount()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True)

    def _mount(self) -> None:
        # With commit=1 the kernel writes its journal every second, so some of what nobody flushed gets to the disk.
        subprocess.run(["mount", "-o", "loop,commit=1", str(self._image), str(self.path)], check=True)


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
    os.sync()
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


class NotPermittedError(Exception):
    """No file system can be made and mounted here."""


def in_namespace(seeds: range, folder: Path, careless: bool = False) -> Iterator[Verdict]:
    """The verdicts of this program in a mount namespace of its own. Raises NotPermittedError where none can be had."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        raise NotPermittedError("mounting a file system takes root and `unshare`")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        program = [sys.executable, "-m", "tests.faults.real_power_loss", scratch]
        numbers = ["--first", str(seeds.start), "--trials", str(len(seeds))]
        command = ["unshare", "-m", *program, *numbers, *(["--careless"] if careless else [])]
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
    parser.add_argument("--careless", action="store_true", help="the control: a program that flushes nothing")
    arguments = parser.parse_args()
    if not can_be_mounted(arguments.folder / "trial"):
        return _NOT_HERE
    seeds = range(arguments.first, arguments.first + arguments.trials)
    for verdict in histories(seeds, arguments.folder, (lambda _: None) if arguments.careless else flush):
        sys.stdout.write(f"{json.dumps(asdict(verdict))}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
