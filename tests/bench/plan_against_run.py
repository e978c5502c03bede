"""What `unspool plan` foretells of a job, beside what the run then takes: seconds of reading, and peak memory.

    python -m tests.bench.plan_against_run [--workers 0 1] JOB.yaml...

Prints one JSON line a job and number of workers. Reading is timed from the first worker that is ready to the last
document; memory is the driver's high-water mark with those of the workers, which Linux tells in /proc.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "jobs.cli"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="+", type=Path)
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1])
    arguments = parser.parse_args()
    for job in arguments.jobs:
        for workers in arguments.workers:
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(compared(job, workers, Path(folder) / "run")), flush=True)
    return 0


def compared(job: Path, workers: int, out: Path) -> dict[str, Any]:
    """The foretold and the real figures of one run."""
    options = [str(job), "-j", str(workers), "-o", str(out)]
    told = json.loads(subprocess.run([*PROGRAM, "plan", *options, "--json"], capture_output=True, check=True).stdout)
    driver = driver_bytes(subprocess.Popen([*PROGRAM, "run", *options, "--quiet"]))
    peak = driver + sum(worker_bytes(out)) if workers else driver
    seconds, estimate = seconds_reading(out), told["estimate"]
    return {
        "bench": "plan_against_run",
        "job": job.name,
        "workers": workers,
        "tokens_ratio": round(told["tokens_left_estimate"] / tokens(out), 3),
        "seconds": {"foretold": round(estimate["seconds"], 1), "taken": round(seconds, 1)},
        "speed_ratio": round(estimate["tokens_per_second"] * seconds / tokens(out), 3),
        "mebibytes": {"foretold": estimate["peak_memory_bytes"] >> 20, "taken": peak >> 20},
        "memory_ratio": round(estimate["peak_memory_bytes"] / peak, 3),
    }


def driver_bytes(process: subprocess.Popen[bytes]) -> int:
    """The most memory that the process had, once it has ended."""
    peak, status = 0, Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text("utf-8").splitlines() if status.exists() else []
        peak = max([peak, *(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))])
        time.sleep(0.1)
    if process.returncode not in (0, 3):
        raise SystemExit(f"the run ended with {process.returncode}")
    return peak


def worker_bytes(out: Path) -> list[int]:
    peaks: dict[int, int] = {}
    for line in (out / "metrics.jsonl").read_text("utf-8").splitlines():
        sample = json.loads(line)
        peaks[sample["worker"]] = sample["unspool_rss_peak_bytes"]
    return list(peaks.values())


def seconds_reading(out: Path) -> float:
    events = [json.loads(line) for line in (out / "events.jsonl").read_text("utf-8").splitlines()]
    times = {
        name: [datetime.fromisoformat(one["ts"]) for one in events if one["event"] == name]
        for name in ("worker_ready", "document_done")
    }
    return (max(times["document_done"]) - min(times["worker_ready"])).total_seconds()


def tokens(out: Path) -> int:
    return int(json.loads((out / "summary.json").read_text("utf-8"))["tokens"])


if __name__ == "__main__":
    sys.exit(main())
