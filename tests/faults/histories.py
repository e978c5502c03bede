"""Histories: a run over a small corpus that loses its power a few times, and what must hold at the end of each."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import JobError
from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import Disk
from tests.faults.power_loss import DiskMaker, FailingPower, PowerCutError
from tests.jobs.fake_driver import drive, make_corpus, quick_disk, result

LARGEST_CUT = 220
"""A run over the corpus reaches about 200 flushes and points; some runs end before the power goes."""


@dataclass(frozen=True)
class Verdict:
    """What came of a history. `cuts`: how often the power went. `wrong`: what should not be, or nothing."""

    seed: int
    cuts: int
    wrong: str


def corpus(folder: Path) -> Path:
    """Three documents, and one that cannot be read."""
    folder.mkdir()
    make_corpus(folder, documents=3)
    return folder


def undisturbed(folder: Path) -> dict[str, bytes]:
    """What the corpus in `folder` gives when nothing happens."""
    drive(folder, quick_disk())
    return result(folder)


def history(seed: int, documents: Path, scratch: Path, expected: dict[str, bytes], power: DiskMaker) -> Verdict:
    """Let the power go up to three times at moments drawn from `seed`, then run to the end."""
    chance = random.Random(seed)
    here, cuts = scratch / "0", 0
    shutil.copytree(documents, here)
    for life in range(chance.randint(1, 3)):
        after = scratch / f"{life + 1}"
        disk = power(here, after, chance, chance.randint(1, LARGEST_CUT))
        try:
            drive(here, disk)
            break
        except PowerCutError:
            # What was said was seen: people do not lose their memory with the power.
            shutil.copy(here / "log", after / "log") if (here / "log").exists() else None
            here, cuts = after, cuts + 1
        except JobError as error:
            return Verdict(seed, cuts, f"cannot be resumed: {error}")
        finally:
            disk.close()
    return Verdict(seed, cuts, wrong_at_the_end(here, expected))


def wrong_at_the_end(folder: Path, expected: dict[str, bytes]) -> str:
    """Run to the end; what is wrong then."""
    try:
        drive(folder, quick_disk())
    except JobError as error:
        return f"cannot be resumed: {error}"
    if result(folder) != expected:
        return "other bytes"
    again = read_again(folder)
    if again:
        return f"{again} was read again after it was reported as done"
    return "; ".join(verify(RunDirectory.open(folder / "run", Disk())))


def read_again(folder: Path) -> str:
    """A document that was opened after it had been reported as done, if there is one."""
    done: set[str] = set()
    for line in (folder / "log").read_text(encoding="utf-8").splitlines():
        event, doc_id = line.split()[:2]
        if event == "open" and doc_id in done:
            return doc_id
        if event == "ack":
            done.add(doc_id)
    return ""


def histories(seeds: range, folder: Path, power: DiskMaker = FailingPower) -> Iterator[Verdict]:
    """The verdicts of many histories, in a scratch folder that is cleared between them."""
    documents = corpus(folder / "corpus")
    golden = shutil.copytree(documents, folder / "golden")
    expected = undisturbed(golden)
    for seed in seeds:
        scratch = folder / "scratch"
        scratch.mkdir()
        yield history(seed, documents, scratch, expected, power)
        shutil.rmtree(scratch)
