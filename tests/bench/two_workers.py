"""Whether two workers of one thread each are twice as fast as one, over a whole job.

    python -m tests.bench.two_workers [--characters 9000000] [--documents 16] [--model SOURCE] [--rounds 3]

The documents are equal pieces of the example documents, no two alike. Each round runs the job with one worker and with
two, Ray both times, and times by the clock: the whole command, the reading alone, from the first worker that is
ready to the last document, and the rest, which every job pays once; a job of half a minute is mostly told by that, so
the usual one takes minutes. Only an idle machine with two processors says anything; its load at the end stands in the
result. Their `output/` must be the same bytes. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from tests.bench.peer_models import facts
from tests.bench.plan_against_run import PROGRAM, seconds_reading

EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"
JOB = """version: 1
name: workers
model: {{source: {model}}}
inputs:
  - {{path: "*.txt"}}
tasks:
  - {{name: vectors, type: embed}}
ray: {{cpus: 1}}
output: {{path: out}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Two workers of a thread each against one, over a whole job.")
    parser.add_argument("--characters", type=int, default=9_000_000)
    parser.add_argument("--documents", type=int, default=16)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    outputs: set[str] = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_documents(folder, arguments.characters, arguments.documents)
        (folder / "job.yaml").write_text(JOB.format(model=arguments.model), "utf-8")
        for number in range(arguments.rounds):
            for workers, times in taken.items():
                out = folder / f"out-{number}-{workers}"
                times.append((seconds_of(folder / "job.yaml", workers, out), seconds_reading(out)))
                outputs.add(digest(out / "output"))
    if len(outputs) > 1:
        print("one worker and two have written different bytes; no speed is worth measuring", file=sys.stderr)
        return 1
    ratios = [(one[0] / two[0], one[1] / two[1]) for one, two in zip(taken[1], taken[2], strict=True)]
    found = {
        "characters": arguments.characters,
        "documents": arguments.documents,
        "model": arguments.model,
        "seconds": {f"{workers}": round(statistics.median(w for w, _ in times), 1) for workers, times in taken.items()},
        "seconds_beside_reading": {
            f"{workers}": round(statistics.median(whole - reading for whole, reading in times), 1)
            for workers, times in taken.items()
        },
        "times_as_fast": {
            "whole job": round(statistics.median(whole for whole, _ in ratios), 2),
            "reading": round(statistics.median(reading for _, reading in ratios), 2),
        },
    }
    print(json.dumps({**facts("two_workers", arguments.rounds), "processors": os.cpu_count(), **found}))
    return 0


def write_documents(folder: Path, characters: int, count: int) -> None:
    """Pieces of the examples, as often around as it takes; each begins with its number, so none is another's twin."""
    text = "".join(path.read_text("utf-8") for path in sorted(EXAMPLES.glob("*.txt")))
    source, size = cycle(text), characters // count
    for number in range(count):
        piece = "".join(islice(source, size))
        (folder / f"{number:03d}.txt").write_text(f"Piece {number}.\n\n{piece}", "utf-8")


def seconds_of(job: Path, workers: int, out: Path) -> float:
    """The time of the command by the clock."""
    started = time.perf_counter()
    subprocess.run([*PROGRAM, "run", str(job), "-j", str(workers), "-o", str(out), "--quiet"], check=True)
    return time.perf_counter() - started


def digest(folder: Path) -> str:
    """The hash of all files of a folder, with their names."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.parquet")):
        found.update(path.relative_to(folder).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
