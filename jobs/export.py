"""Hands the tables of a finished run on to another tool, whole or not at all: a target is there once it is complete.

Knows which runs may be handed on and where to; how is what pipeline/sinks/ knows.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from jobs.errors import ExitCode, JobError, usage_error
from jobs.ledger import LedgerView, RunLedger
from jobs.run_directory import RunDirectory, storage_errors
from pipeline.durable import TEMPORARY, Disk, sha256_file
from pipeline.errors import MissingExtraError, OptionError, SinkError

if TYPE_CHECKING:
    from pipeline.exported import Dataset


@dataclass(frozen=True)
class ExportRequest:
    """What to hand on, and how: the sink, the tables (none: all), dimensions to keep of vectors, text as it is."""

    sink: str
    tables: Sequence[str] = ()
    dims: int | None = None
    raw: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written where; `rows` by table."""

    target: str
    rows: dict[str, int]


def export_to_path(path: Path, request: ExportRequest, target: Path | None) -> Exported:
    """Write a new file or folder; without a name, beside the run. Raises JobError (exit 2, 6): nothing was made."""
    from pipeline.exported import SinkOptions

    run = RunDirectory.open(path, Disk())
    sink = _sink(request)
    dataset = _dataset(run, request)
    place = (target or _beside(run.path, sink.SUFFIX)).absolute()
    if os.path.lexists(place):
        raise usage_error("EXPORT-EXISTS", "is there already; remove it, or name another place with -o", str(place))
    if place.is_relative_to(run.path.absolute()):
        raise usage_error("EXPORT-IN-RUN", "lies in the run directory; name a place outside of it with -o", str(place))
    unfinished = place.with_name(f"{place.name}{TEMPORARY}{secrets.token_hex(6)}")
    try:
        with storage_errors(place), _told():
            place.parent.mkdir(parents=True, exist_ok=True)
            sink.write(dataset, unfinished, SinkOptions(request.raw))
            run.disk.rename(unfinished, place)
    finally:
        _remove(unfinished)
    return Exported(str(place), {table.name: table.rows for table in dataset.tables})


def export_to_server(path: Path, request: ExportRequest, address: str) -> Exported:
    """Write into a database. Raises JobError (exit 2: this sink is no server; exit 6)."""
    run = RunDirectory.open(path, Disk())
    sink = _sink(request)
    if not hasattr(sink, "load"):
        raise usage_error("EXPORT-OPTION", f"`{request.sink}` is no server; leave --dsn out, or use --to pgvector")
    dataset = _dataset(run, request)
    with _told():
        sink.load(dataset, address)
    return Exported(request.sink, {table.name: table.rows for table in dataset.tables})


def _sink(request: ExportRequest) -> ModuleType:
    from pipeline.sinks import sinks

    known = sinks()
    if request.sink not in known:
        raise usage_error("EXPORT-TO", f"{request.sink!r} is no place to export to; choose one of {', '.join(known)}")
    sink = known[request.sink]
    if request.raw and "raw" not in sink.OPTIONS:
        raise usage_error("EXPORT-OPTION", f"`{request.sink}` hands text on as it is; leave --raw out")
    return sink


def _dataset(run: RunDirectory, request: ExportRequest) -> Dataset:
    from pipeline.exported import Dataset, open_table

    files = _files(run, RunLedger.read(run.ledger))
    unknown = [name for name in request.tables if name not in files]
    if unknown:
        message = f"the run has no table {unknown[0]!r}; it has {', '.join(files)}"
        raise usage_error("EXPORT-TABLE", message, str(run.path))
    chosen = [name for name in files if name in request.tables or not request.tables]
    with _told():
        return Dataset(
            str(run.info.spec.get("name", run.path.name)),
            tuple(open_table(name, files[name], request.dims) for name in chosen),
        )


def _files(run: RunDirectory, view: LedgerView) -> dict[str, list[Path]]:
    """The Parquet files of a finished run by table, each as the ledger says. Raises JobError (exit 6)."""
    if view.final is None:
        raise run.not_finished()
    found: dict[str, list[Path]] = {}
    for file in view.final.files:
        table, _, name = file.path.partition("/")
        if name.endswith(".parquet"):
            path = run.output / table / name
            with storage_errors(path):
                if path.stat().st_size != file.bytes or sha256_file(path) != file.sha256:
                    raise _damaged(run, path, "its content is not what was written")
            found.setdefault(table, []).append(path)
    return found


def _damaged(run: RunDirectory, path: Path, what: str) -> JobError:
    message = f"damaged: {what}; `unspool resume {run.path}` makes it anew"
    return JobError("RUN-OUTPUT-DAMAGED", message, exit_code=ExitCode.ENVIRONMENT, where=str(path))


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the layer below says into a JobError."""
    try:
        yield
    except MissingExtraError as error:
        raise usage_error("EXPORT-EXTRA", str(error)) from error
    except OptionError as error:
        raise usage_error("EXPORT-DIMS", str(error)) from error
    except SinkError as error:
        raise JobError("EXPORT", str(error), exit_code=ExitCode.ENVIRONMENT) from error


def _beside(run: Path, suffix: str) -> Path:
    whole = run.absolute()
    return whole.with_name(whole.name + suffix)


def _remove(path: Path) -> None:
    """Remove a file or folder and what a library put beside it under its name."""
    for left in path.parent.glob(f"{glob.escape(path.name)}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
