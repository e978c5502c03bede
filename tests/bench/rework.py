"""What kills cost: a document of a million tokens, killed ten times, with a checkpoint every 10,000 tokens.

    python -m tests.bench.rework [--tokens 1000000] [--kills 10] [--every 10000] [--seed 0]

Every token that is fed is counted in memory that outlives the process, so nothing is estimated. A kill may cost the
tokens since the last checkpoint, which is at most an interval and a window. Prints one JSON line; exits with 1 if more
than 11 % was read again or the tables are not those of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from unittest import mock

from rwkv_runtime.engine import Engine, Fed, Feed
from tests.faults.real_runs import KILLED, processes
from tests.jobs.project import Project, contents, prose, unspool

ALLOWED = 0.11
TOKENS_A_SENTENCE = 12
WINDOW = 512


@dataclass(frozen=True)
class Verdict:
    """`fed` counts the tokens of all lives, `tokens` those of the document."""

    tokens: int
    kills: int
    every: int
    fed: int
    read_again: float
    identical: bool
    seconds: float

    def is_good(self) -> bool:
        return self.identical and self.read_again <= ALLOWED


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="unspool-rework-") as folder:
        verdict = measure(Path(folder), arguments.tokens, arguments.kills, arguments.every, arguments.seed)
    sys.stdout.write(json.dumps({"bench": "rework", "good": verdict.is_good(), **asdict(verdict)}) + "\n")
    return 0 if verdict.is_good() else 1


def measure(folder: Path, tokens: int, kills: int, every: int, seed: int) -> Verdict:
    """Read a document of about so many tokens, undisturbed and with kills at tokens drawn from `seed`."""
    started = time.monotonic()
    project = _project(folder / "project", tokens, every)
    whole = _read(project, folder / "whole", kill_at=None)
    draw = random.Random(seed)
    fed = 0
    for moment in sorted(draw.sample(range(WINDOW, whole), kills)):
        # A moment counts what all lives together have fed, so that each kill comes further on in the document.
        fed += _read(project, folder / "killed", kill_at=max(moment - fed, WINDOW))
    fed += _read(project, folder / "killed", kill_at=None)
    identical = contents(folder / "whole" / "output") == contents(folder / "killed" / "output")
    read_again = round(fed / whole - 1, 4)
    return Verdict(whole, kills, every, fed, read_again, identical, round(time.monotonic() - started, 1))


def _project(folder: Path, tokens: int, every: int) -> Project:
    project = Project(folder, long=prose(tokens // TOKENS_A_SENTENCE))
    project.write_job(
        model={"source": str(project.write_model()), "dtype": "fp32"},
        tasks=[{"name": "vectors", "type": "embed"}, {"name": "keep", "type": "state", "at": ["end"]}],
        checkpoint={"every": {"tokens": every, "seconds": 3600}},
        run={"workers": 0, "window": WINDOW},
    )
    return project


def _read(project: Project, out: Path, kill_at: int | None) -> int:
    """One life, killed once it has fed so many tokens; how many it has fed. Raises SystemExit if it ends otherwise."""
    context = processes()
    fed: Synchronized[int] = context.Value("q", 0)
    child = context.Process(target=_life, args=(str(project.job), str(out), fed, kill_at))
    child.start()
    child.join()
    if child.exitcode != (0 if kill_at is None else KILLED):
        raise SystemExit(f"a life ended with {child.exitcode}")
    return fed.value


def _life(job: str, out: str, fed: Synchronized[int], kill_at: int | None) -> None:
    feed = Engine.feed

    def counted(self: Engine, feeds: Sequence[Feed]) -> list[Fed]:
        found = feed(self, feeds)
        fed.value += sum(len(one.tokens) for one in feeds)
        if kill_at is not None and fed.value >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    with mock.patch.object(Engine, "feed", counted):
        sys.exit(unspool("run", job, "-o", out, "--quiet").code)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--every", type=int, default=10_000, help="tokens between two checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
