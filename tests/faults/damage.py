"""Damage to files of a run: flipped bits and cuts, and what must hold for whoever goes on with the run."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import ExitCode, JobError
from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import Disk, Point
from tests.faults.histories import corpus, undisturbed
from tests.jobs.fake_driver import drive, quick_disk, result

_ONLY_FOR_PEOPLE = frozenset({"LOCK", "events.jsonl", "metrics.jsonl", "summary.json"})
"""Nothing is decided by these files."""


@dataclass(frozen=True)
class Damage:
    """What was done to which file, and what of that should not be: an error of ours, other bytes, or silence."""

    file: str
    what: str
    wrong: str


class Stopped(Disk):
    """A disk whose user goes away at the `last`-th point that is reached."""

    def __init__(self, last: int) -> None:
        super().__init__(flush=lambda _: None)
        self._left = last

    def reach(self, point: Point) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def begun_runs(folder: Path, chance: random.Random) -> list[Path]:
    """Runs over one corpus: finished, and left at different moments."""
    golden = corpus(folder / "golden")
    runs = [shutil.copytree(golden, folder / f"begun-{number}") for number in range(5)]
    for run in runs:
        try:
            drive(run, Stopped(chance.randint(15, 110)))
        except KeyboardInterrupt:
            continue
    undisturbed(golden)
    return [golden, *runs]


def damages(seeds: range, folder: Path) -> Iterator[Damage]:
    """Damage one file after another, each in a copy of a run."""
    runs = begun_runs(folder, random.Random(0))
    expected = result(runs[0])
    for seed in seeds:
        scratch = folder / "scratch"
        chance = random.Random(seed)
        shutil.copytree(chance.choice(runs), scratch)
        yield _damage(scratch, chance, expected)
        shutil.rmtree(scratch)


def _damage(folder: Path, chance: random.Random, expected: dict[str, bytes]) -> Damage:
    files = [path for path in sorted((folder / "run").rglob("*")) if path.is_file() and path.stat().st_size]
    victim = chance.choice([path for path in files if path.name not in _ONLY_FOR_PEOPLE])
    name = victim.relative_to(folder / "run").as_posix()
    what = _hurt(victim, chance)
    try:
        unnoticed = _noticed(folder, name)
        # How finished tables are written anew is the real driver's work: tests/jobs/test_run.py.
        healed = "" if name.startswith("output/") else _gone_on_with(folder, expected)
        return Damage(name, what, unnoticed or healed)
    except Exception as error:  # whatever it is: a damaged file must not surprise the program
        return Damage(name, what, f"{type(error).__name__}: {error}")


def _hurt(victim: Path, chance: random.Random) -> str:
    data = bytearray(victim.read_bytes())
    place = chance.randrange(len(data))
    if chance.random() < 0.3:
        victim.write_bytes(data[:place])
        return f"cut at {place} of {len(data)}"
    bit = chance.randrange(8)
    data[place] ^= 1 << bit
    victim.write_bytes(data)
    return f"bit {bit} of byte {place} of {len(data)}"


def _noticed(folder: Path, name: str) -> str:
    """What `verify` should have said of a finished run, and has not."""
    finished = (folder / "run" / "output").is_dir()
    if not finished:
        return ""
    try:
        found = verify(RunDirectory.open(folder / "run", Disk()))
    except JobError:
        return ""
    return "" if found else f"verify does not notice that {name} is damaged"


def _gone_on_with(folder: Path, expected: dict[str, bytes]) -> str:
    """What is wrong after going on with the run: it ends with the same bytes, or stops and says why."""
    before = {path: path.read_bytes() for path in (folder / "run" / "ledger").glob("*")}
    try:
        drive(folder, quick_disk())
    except JobError as error:
        kept = all(path.read_bytes() == data for path, data in before.items() if path.exists())
        known = error.exit_code in (ExitCode.ENVIRONMENT, ExitCode.OTHER_SPEC)
        return "" if known and kept else f"stopped with {error.exit_code!r}: {error}"
    return "" if result(folder) == expected else "other bytes"
