"""Settings of all tests: one thread a process, since several test processes share the machine."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, which no conftest does
