"""How much memory this process has had, and this machine has. Knows nothing of what it is for; loads no torch."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """The largest resident size that this process has had.

    From /proc where there is one: ru_maxrss begins with what the parent had when it forked, also across exec.
    """
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def physical_memory_bytes() -> int:
    """What is built into this machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0
