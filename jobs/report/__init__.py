"""`report.html`: one file that shows what a run read and what came of it. Opens offline, from anywhere."""

from __future__ import annotations

from jobs.report.build import arrangement_of, write_report

__all__ = ["arrangement_of", "write_report"]
