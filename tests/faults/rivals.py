"""Several drivers on one run that do not see each other's lock."""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

from jobs.errors import JobError
from jobs.ledger import RunLedger
from jobs.run_directory import RunDirectory
from pipeline.durable import Disk
from tests.jobs.fake_driver import drive, quick_disk, result

DRIVERS = 3


def drive_without_lock(folder: str, disk: Callable[[], Disk]) -> None:
    """A driver that removes whatever lock there is before it takes its own."""
    (Path(folder) / "run" / "LOCK").unlink(missing_ok=True)
    try:
        drive(Path(folder), disk())
    except JobError as error:
        sys.exit(int(error.exit_code))


def round_of_rivals(
    context: ForkServerContext, folder: Path, expected: dict[str, bytes], disk: Callable[[], Disk] = quick_disk
) -> str:
    """Have them all run at once, each with its own `disk`, then go on alone; what is wrong then."""
    rivals = [context.Process(target=drive_without_lock, args=(str(folder), disk)) for _ in range(DRIVERS)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join(120)
    codes = [rival.exitcode for rival in rivals]
    if any(code not in (0, 5, 6) for code in codes):
        return f"exit codes {codes}"
    try:
        drive(folder, quick_disk())
        view = RunLedger.read(RunDirectory.open(folder / "run", Disk()).ledger)  # raises unless it is one chain
    except JobError as error:
        return f"cannot be resumed: {error}"
    if view.final is None:
        return "not finished"
    return "" if result(folder) == expected else "other bytes"
