"""Batch jobs: the YAML file, the run directory, the ledger and the command line. Knows nothing of tensors.

`run_job` runs a job file, or resumes it; `open_run` gives the tables of a run directory; `extract` finds the fields of
a schema in one document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.oneshot import extract
    from jobs.run import RunOptions, RunResult, open_run, resume_run, run_job

__all__ = ["RunOptions", "RunResult", "extract", "open_run", "resume_run", "run_job"]


def __getattr__(name: str) -> Any:
    # Importing the command line must stay fast; the rest is loaded when it is used.
    if name == "extract":
        from jobs import oneshot

        return oneshot.extract
    if name in __all__:
        from jobs import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
