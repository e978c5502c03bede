"""How soon a worker that hangs is noticed and gone: a document at which every worker holds the interpreter for ever.

    python -m tests.bench.hung_worker [--stall 5]

A worker counts as hung once its call is out for `on_error.stall_timeout`. Prints one JSON line: for each of three tries
the seconds between that deadline and the loss being noted, and between the loss and the process being gone (0 if it was
gone before). Exits with 1 if a loss took more than 5 s or a process stayed for more than 1 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.jobs.project import Project, events, finish, prose, start
from tests.processes import state_of

NOTICED_WITHIN, GONE_WITHIN = 5.0, 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stall", type=float, default=5.0, help="on_error.stall_timeout in seconds")
    stall = parser.parse_args().stall
    with tempfile.TemporaryDirectory(prefix="unspool-hung-") as folder:
        noticed, gone = measure(Path(folder), stall)
    good = len(noticed) == 3 and max(noticed) <= NOTICED_WITHIN and max(gone) <= GONE_WITHIN
    found = {"bench": "hung_worker", "good": good, "stall": stall, "noticed_after": noticed, "gone_after": gone}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if good else 1


def measure(folder: Path, stall: float) -> tuple[list[float], list[float]]:
    """Seconds from each deadline to the loss, and from the loss to the end of the process."""
    project = Project(folder / "project", hang=prose(80), good=prose(40, 1))
    project.write_job(
        model={"source": str(project.write_model()), "dtype": "fp32"},
        on_error={"stall_timeout": f"{stall:g}s", "max_failed": 1.0},
        run={"workers": 1, "window": 64},
    )
    process = start("run", str(project.job), "--no-progress", faults="documents=hang:docs/hang.txt")
    ended: dict[int, float] = {}
    while process.poll() is None:
        for pid in _workers(project.out):
            if pid not in ended and state_of(pid) in ("", "Z"):
                ended[pid] = time.time()
        time.sleep(0.01)
    said = finish(process)
    if said.code != 3:
        raise SystemExit(f"the run ended with {said.code}: {said.err}")
    return _from_the_log(events(project.out), ended, stall)


def _workers(out: Path) -> Iterator[int]:
    return (event["pid"] for event in events(out) if event["event"] == "worker_ready")


def _from_the_log(log: list[dict[str, Any]], ended: dict[int, float], stall: float) -> tuple[list[float], list[float]]:
    """Only a worker that has the hanging document is lost; the call with it goes out when the worker is ready."""
    noticed, gone = [], []
    for number, event in enumerate(log):
        if event["event"] != "worker_lost":
            continue
        lost = _seconds(event)
        last = next(
            one for one in reversed(log[:number]) if one["event"] in ("worker_ready", "position", "document_done")
        )
        pid = next(one["pid"] for one in reversed(log[:number]) if one["event"] == "worker_ready")
        noticed.append(round(lost - _seconds(last) - stall, 3))
        gone.append(round(max(ended.get(pid, time.time()) - lost, 0.0), 3))
    return noticed, gone


def _seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


if __name__ == "__main__":
    sys.exit(main())
