"""A job in a folder on a small disk: `python -m tests.faults.full_disk FOLDER`, in a private mount namespace.

The disk gets full while documents are read; then it grows, and the job is run again. Prints what was said, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from unittest import mock

from tests.jobs.project import contents, unspool

SMALL, LARGE = "16640k", "200m"  # the reserve takes 16384k


def main(folder: Path) -> None:
    disk, job = folder / "disk", folder / "job.yaml"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(disk)], check=True)
    run = ("run", str(job), "--no-progress", "-o", str(disk / "out"))
    with mock.patch("jobs.run_directory.LEAST_FREE_BYTES", 0):
        full = unspool(*run)
        last = sorted((disk / "out" / "ledger").glob("*.json"))[-1].read_text().splitlines()[0]
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", str(disk)], check=True)
        again = unspool(*run)
    found = {"full": asdict(full), "last": json.loads(last), "again": again.code}
    json.dump({**found, "again_said": again.err, "output": contents(disk / "out" / "output")}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
