"""How much memory this process has had, and this machine has. Knows nothing of what it is for; loads no torch."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path, PurePosixPath


def peak_memory_bytes() -> int:
    """The largest resident size that this process has had.

    From /proc where there is one: ru_maxrss begins with what the parent had when it forked, also across exec.
    """
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_limit_bytes(root: Path = Path("/")) -> int:
    """How much memory this process may have: that of the machine or of its container; 0 where the system does not say.

    Of control groups (version 1 and 2) the least limit of the process's own and all above it counts. `root` is where
    /proc and /sys are.
    """
    try:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (ValueError, OSError):
        return 0
    groups = root / "sys" / "fs" / "cgroup"
    for line in _lines(root / "proc" / "self" / "cgroup"):
        controllers, _, own = line.partition(":")[2].partition(":")
        if not own:
            continue
        if not controllers:
            limits += _limits(groups, own, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(groups / "memory", own, "memory.limit_in_bytes")
    return min(limits)


def _limits(groups: Path, own: str, name: str) -> list[int]:
    """What the files `name` of a group and of all above it say; in a container its own may not be there."""
    below = PurePosixPath(own.lstrip("/"))
    found = (line for group in (below, *below.parents) for line in _lines(groups / group / name))
    return [int(line) for line in found if line.isdigit()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
