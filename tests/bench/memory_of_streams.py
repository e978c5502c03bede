"""Measures how much more memory a long stream takes than a short one: through a pipe, and as a file that is followed.

    python -m tests.bench.memory_of_streams [--megabytes 1 20]

Both are commands in processes of their own, with a model so small that reading is cheap. Appends a line to
results.jsonl; exits with 1 if the peaks differ by more than 64 MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.memory_of_long_text import ALLOWED_BYTES, REPOSITORY, write_model, write_text

RESULTS = Path(__file__).with_name("results.jsonl")
QUIET_SECONDS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description="How much memory a long stream takes.")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 20], help="sizes; the first is the base")
    sizes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        found = {}
        for size in sizes:
            write_text(folder / f"{size}.log", size * 1_000_000)
            found[size] = {"pipe": piped(folder, size), "follow": followed(folder, size)}
    growth = {kind: max(found[size][kind] for size in sizes) - found[sizes[0]][kind] for kind in ("pipe", "follow")}
    result = {"bench": "memory_of_streams", "peak_bytes": found, "growth_bytes": growth, "allowed_bytes": ALLOWED_BYTES}
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(result))
    return 0 if max(growth.values()) <= ALLOWED_BYTES else 1


def piped(folder: Path, size: int) -> int:
    """The peak of `cat LOG | unspool embed -`, in bytes."""
    command = ["embed", "-", "--language", "en", "-m", str(folder / "model"), "-q"]
    with subprocess.Popen(["cat", str(folder / f"{size}.log")], stdout=subprocess.PIPE) as source:
        return _peak_of(_unspool(command, source.stdout))


def followed(folder: Path, size: int) -> int:
    """The peak of a run that follows the file until nothing happens any more, in bytes."""
    job = {
        "version": 1,
        "name": "log",
        "model": {"source": str(folder / "model"), "dtype": "fp32"},
        "inputs": [{"path": f"{size}.log", "follow": True}],
        "split": {"language": "en"},
        "tasks": [{"name": "vectors", "type": "embed"}, {"name": "gist", "type": "summarize"}],
        "output": {"path": f"run-{size}"},
        "run": {"workers": 0},
    }
    (folder / f"{size}.yaml").write_text(json.dumps(job), "utf-8")
    process = _unspool(["run", str(folder / f"{size}.yaml"), "-q"], subprocess.DEVNULL)
    events = folder / f"run-{size}" / "events.jsonl"
    while not events.exists() or time.time() - events.stat().st_mtime < QUIET_SECONDS:
        time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    return _peak_of(process)


def _unspool(arguments: list[str], stdin: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=stdin, stdout=subprocess.DEVNULL)  # type: ignore[call-overload,no-any-return]


def _peak_of(process: subprocess.Popen[bytes]) -> int:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 75):
        raise SystemExit(f"ended with {process.returncode}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
