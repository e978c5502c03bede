"""One document without a job file: a job is written into a temporary folder, run there, and its table handed back.

The same machinery as for large jobs, so the rows are the same. Knows nothing of command lines.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs import standard_input
from jobs.errors import ExitCode, JobError, usage_error
from jobs.run import RunOptions, RunResult, run_job
from jobs.run_directory import storage_errors
from jobs.standard_input import STDIN
from pipeline.durable import Disk

TABLES: Final = {"summarize": "summaries", "extract": "extractions", "embed": "sentences"}


@dataclass(frozen=True)
class OneShot:
    """What to make of one document. `source` is a path, or `-` for what is on stdin; `task` a task as in a job file."""

    source: str
    task: Mapping[str, Any]
    model: str = "default"

    @property
    def table(self) -> str:
        return TABLES[self.task["type"]]


@contextmanager
def run_once(shot: OneShot, options: RunOptions) -> Iterator[RunResult]:
    """The finished run of one document, gone when the block ends.

    Raises JobError: exit 2 if there is no such file, 3 with the reason if the document failed, 75 when interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="unspool-") as scratch:
        folder = Path(scratch)
        path = _document(shot.source, folder)
        result = run_job(_job(shot, path, folder), [], options)
        failed = result.table("failures").to_table().to_pylist() if result.exit_code is ExitCode.FAILURES else []
        if failed:
            others = f"; so have {len(failed) - 1} more documents in it" if len(failed) > 1 else ""
            message = f"{failed[0]['message']} ({failed[0]['error_type']}){others}"
            raise JobError("DOCUMENT", message, exit_code=ExitCode.FAILURES, where=shot.source)
        if result.exit_code not in (ExitCode.OK, ExitCode.FAILURES):
            raise JobError("INTERRUPTED", "nothing was kept; run it again", exit_code=result.exit_code)
        yield result


def rows_of(result: RunResult, table: str) -> Iterator[dict[str, Any]]:
    """The rows of a table, a few at a time."""
    for batch in result.table(table).to_batches():
        yield from batch.to_pylist()


def check_target(target: Path) -> None:
    """Raise JobError (exit 2) before anything is read, if rows cannot be written there."""
    if target.suffix not in (".parquet", ".jsonl"):
        raise usage_error(
            "OUTPUT", "rows are written as Parquet or JSON Lines; end it in .parquet or .jsonl", str(target)
        )


def write(result: RunResult, table: str, target: Path) -> int:
    """Write a table as Parquet, or as JSONL if the name ends in `.jsonl`; the number of its rows. Raises JobError."""
    import pyarrow.parquet as pq

    with storage_errors(target):
        if target.suffix == ".jsonl":
            with target.open("w", encoding="utf-8") as file:
                count = 0
                for row in rows_of(result, table):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            return count
        dataset = result.table(table)
        with pq.ParquetWriter(target, dataset.schema, compression="zstd") as writer:
            for batch in dataset.to_batches():
                writer.write_batch(batch)
        return int(dataset.count_rows())


def _document(source: str, folder: Path) -> Path:
    if source != STDIN:
        path = Path(source).absolute()
        if not path.is_file():
            raise usage_error("NO-INPUT", "no such file; give the path of a document, or - for stdin", source)
        return path
    with storage_errors(folder):
        return standard_input.keep(folder, Disk(flush=lambda descriptor: None))


def _job(shot: OneShot, path: Path, folder: Path) -> Path:
    import glob

    is_path = shot.model != "default" and "://" not in shot.model
    job = {
        "version": 1,
        "name": "one",
        "model": {"source": _literal(str(Path(shot.model).absolute()) if is_path else shot.model)},
        "inputs": [{"path": _literal(glob.escape(str(path)))}],
        "tasks": [{"name": shot.task["type"], **shot.task}],
        "output": {"path": _literal(str(folder / "run"))},
        "run": {"workers": 0},
    }
    file = folder / "job.yaml"
    file.write_text(json.dumps(job), "utf-8")
    return file


def _literal(text: str) -> str:
    """A text in which `${` stands for itself."""
    return text.replace("${", "$${")
