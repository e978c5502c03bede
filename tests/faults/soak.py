"""The long profile of the fault harnesses: `python -m tests.faults.soak [--seed N] [--scale S]`, or `make soak`.

Each harness prints one JSON line for tests/bench/results.jsonl. The process ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults import syscalls
from tests.faults.bad_company import bad_company, cases
from tests.faults.damage import damages
from tests.faults.forked import processes
from tests.faults.histories import corpus, histories, undisturbed
from tests.faults.nodes import lost_nodes
from tests.faults.real_power_loss import in_namespace
from tests.faults.real_runs import flaky_machines, killed_runs, told_to_stop
from tests.faults.rivals import round_of_rivals

KILLS = 1_000
STOPS = 140
POWER_LOSSES = 10_000
REAL_POWER_LOSSES = 100
COMMAND_POWER_LOSSES = 50
CONTROLS = 10
SYSTEM_CALLS = 300
DAMAGES = 10_000
RIVAL_ROUNDS = 100
FLAKY_RUNS = 50
LOST_NODES = 20
BAD_COMPANY = len(cases())


def power_losses(seeds: range, folder: Path) -> Iterator[str]:
    return (verdict.wrong for verdict in histories(seeds, folder))


def real_power_losses(seeds: range, folder: Path) -> Iterator[str]:
    """On a real file system, then without any flush: if that harms nothing, nothing was shown."""
    yield from _with_control(seeds, folder, "protocol")


def command_power_losses(seeds: range, folder: Path) -> Iterator[str]:
    """The same with the real command."""
    yield from _with_control(seeds, folder, "command")


def _with_control(seeds: range, folder: Path, what: str) -> Iterator[str]:
    yield from (verdict.wrong for verdict in in_namespace(seeds, folder, what))
    control = list(in_namespace(range(CONTROLS), folder, f"careless-{what}"))
    if not any(verdict.wrong for verdict in control):
        yield "a program that never flushes lost nothing"


def system_calls(seeds: range, folder: Path) -> Iterator[str]:
    return (f"{trial.fault}: {trial.wrong}" if trial.wrong else "" for trial in syscalls.trials(seeds, folder))


def damaged_files(seeds: range, folder: Path) -> Iterator[str]:
    return (f"{damage.file}: {damage.wrong}" if damage.wrong else "" for damage in damages(seeds, folder))


def rivals(seeds: range, folder: Path) -> Iterator[str]:
    documents = corpus(folder / "corpus")
    expected = undisturbed(shutil.copytree(documents, folder / "golden"))
    context = processes()
    for seed in seeds:
        scratch = shutil.copytree(documents, folder / f"round-{seed}")
        yield round_of_rivals(context, scratch, expected)
        shutil.rmtree(scratch)


Harness = Callable[[range, Path], Iterator[str]]
"""What was wrong in each trial, or nothing; given the seeds and a folder to work in."""

HARNESSES: dict[str, tuple[Harness, int]] = {
    "kills": (killed_runs, KILLS),
    "told_to_stop": (told_to_stop, STOPS),
    "power_losses": (power_losses, POWER_LOSSES),
    "real_power_losses": (real_power_losses, REAL_POWER_LOSSES),
    "command_power_losses": (command_power_losses, COMMAND_POWER_LOSSES),
    "system_calls": (system_calls, SYSTEM_CALLS),
    "damaged_files": (damaged_files, DAMAGES),
    "rivals_without_lock": (rivals, RIVAL_ROUNDS),
    "flaky_machines": (flaky_machines, FLAKY_RUNS),
    "lost_nodes": (lost_nodes, LOST_NODES),
    "bad_company": (bad_company, BAD_COMPANY),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed; another one draws other faults")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of trials")
    parser.add_argument("--only", choices=sorted(HARNESSES), help="one harness instead of all")
    arguments = parser.parse_args()
    failed = False
    for name, (harness, trials) in HARNESSES.items():
        if arguments.only in (None, name):
            failed |= soak(name, harness, max(1, int(trials * arguments.scale)), arguments.seed)
    return int(failed)


def soak(name: str, harness: Harness, trials: int, seed: int) -> bool:
    """Run one harness; whether anything was wrong."""
    started, wrong = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="unspool-soak-") as folder:
        for number, found in enumerate(harness(range(seed, seed + trials), Path(folder)), 1):
            if found:
                wrong.append(found)
                print(f"{name}: trial {seed + number - 1}: {found}", file=sys.stderr)
            if number % 500 == 0:
                print(f"{name}: {number} of {trials}, {len(wrong)} wrong", file=sys.stderr)
    seconds = round(time.monotonic() - started, 1)
    print(
        json.dumps({"bench": name, "trials": trials, "seed": seed, "wrong": len(wrong), "seconds": seconds}), flush=True
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
