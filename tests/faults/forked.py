"""Processes that cost little: forked from one that has loaded everything that any of them needs.

There is one such server a process, and what the first to ask for it has it load is what it has loaded: so all ask here.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

_PRELOADED = (
    "pandas",
    "pyarrow.parquet",
    "torch",
    "pipeline.worker",
    "jobs.run",
    "tests.faults.real_runs",
    "tests.faults.rivals",
    "tests.faults.warm",
    "tests.faults.frozen",
)


def processes() -> ForkServerContext:
    """Where such processes come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED])
    return context
