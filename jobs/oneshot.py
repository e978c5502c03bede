"""One document without a job file: a job is written into a temporary folder, run there, and its table handed back.

The same machinery as for large jobs, so the rows are the same; but nothing is read by the model for tasks that go by
words. Knows nothing of command lines.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs import standard_input
from jobs.errors import ExitCode, JobError, together, usage_error
from jobs.manifest import document_id
from jobs.models import model_errors
from jobs.pools import processors
from jobs.prepare import Job
from jobs.run import RunOptions, RunResult, load_job, run_job
from jobs.run_directory import refuse_unwritable, storage_errors
from jobs.signals import Signals
from jobs.standard_input import STDIN
from pipeline.documents import LANGUAGE, DocumentRef
from pipeline.durable import Disk
from pipeline.fields import shipped
from pipeline.pool import PATIENT_THREADS
from rwkv_runtime import auto_dtype

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pipeline.stream import StreamSpec

_STDIN_NAME: Final = "stdin.txt"
_ARGUMENTS: Final = {"tasks[0].schema": "schema", "model.source": "model"}
TABLES: Final = {"summarize": "summaries", "extract": "extractions", "embed": "sentences"}


@dataclass(frozen=True)
class OneShot:
    """What to make of one document. `source` is a path, or `-` for what is on stdin; `task` a task as in a job file.

    `begun` is what has been read of stdin already. `options` says how whoever asks spells what a job file calls
    otherwise, such as `--language` for `split.language`.
    """

    source: str
    task: Mapping[str, Any]
    model: str = "default"
    language: str = "auto"
    begun: bytes = b""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return "vectors" if self.task.get("unit", "sentence") != "sentence" else TABLES[self.task["type"]]


def extract(
    source: str | Path, schema: type[BaseModel] | Mapping[str, Any] | str | Path | None = None, model: str = "default"
) -> list[dict[str, Any]]:
    """The rows of `extractions` for one document: every value with its quote and place.

    `schema` is a pydantic model, a schema as a mapping (our own or JSON Schema), a file with one, or the name of one
    that comes with the package. Raises JobError.
    """
    task: dict[str, Any] = {"type": "extract"}
    if isinstance(schema, type):
        task["schema"] = schema.model_json_schema()
    elif schema is not None:
        named = isinstance(schema, Mapping) or schema in shipped.names()
        task["schema"] = schema if named else str(Path(str(schema)).absolute())
    shot = OneShot(str(source), task, model, options=_ARGUMENTS)
    with run_once(shot, RunOptions(progress="none")) as result:
        return list(rows_of(result, shot.table))


@contextmanager
def run_once(shot: OneShot, options: RunOptions) -> Iterator[RunResult]:
    """The finished run of one document, gone when the block ends.

    Raises JobError: exit 2 if there is no such file, 3 with the reason if the document failed, 75 when interrupted. Of
    a file of many documents the rows of those that were read can be had; if others failed, that is raised behind.
    """
    with tempfile.TemporaryDirectory(prefix="unspool-") as scratch:
        folder = Path(scratch)
        path = _document(shot.source, folder, shot.begun)
        with _said_of(shot, folder):
            result = run_job(_job(shot, path, folder), [], replace(options, sparing=True))
        failed = result.table("failures").to_table().to_pylist() if result.exit_code is ExitCode.FAILURES else []
        if result.exit_code not in (ExitCode.OK, ExitCode.FAILURES):
            raise JobError("INTERRUPTED", "nothing was kept; run it again", exit_code=result.exit_code)
        if failed and result.failed == result.documents:
            raise _failure(shot, failed)
        yield result
        if failed:
            raise _failure(shot, failed)


def _failure(shot: OneShot, failed: Sequence[Mapping[str, Any]]) -> JobError:
    """The first of what failed, and how much more did."""
    others = f"; so have {len(failed) - 1} more documents in it" if len(failed) > 1 else ""
    message = f"{failed[0]['message']} ({failed[0]['error_type']}){others}"
    return JobError("DOCUMENT", message, exit_code=ExitCode.FAILURES, where=shot.source)


def rows_of_stdin(shot: OneShot) -> Iterator[dict[str, Any]]:
    """The rows of a text on stdin as they come, however long it goes on; SIGINT or SIGTERM ends the text there.

    Raises JobError: exit 2 for an option that does not fit the model, 3 with the reason if the text is none, 7.
    """
    from pipeline.errors import DocumentError, OptionError

    for name, value in PATIENT_THREADS.items():
        os.environ.setdefault(name, value)  # read when torch is loaded
    signals = Signals(wanted=True)
    heard = (signals.listening(), signals.noted_only())
    with tempfile.TemporaryDirectory(prefix="unspool-") as scratch, heard[0], heard[1], model_errors():
        from pipeline.growing import GrowingText, Pipe
        from pipeline.stream import rows_as_read

        folder = Path(scratch)
        with _said_of(shot, folder):
            job = load_job(_job(shot, folder / _STDIN_NAME, folder))
        told = {LANGUAGE: shot.language} if shot.language != "auto" else {}
        ref = DocumentRef(document_id(_STDIN_NAME), _STDIN_NAME, _STDIN_NAME, 0, 0, "text", told)
        text = GrowingText(ref, Pipe(sys.stdin.fileno(), lambda: signals.requested, shot.begun))
        try:
            for rows in rows_as_read(_stream_spec(job), text, shot.table):
                yield from rows.to_pylist()
        except DocumentError as error:
            message = f"{error.message} ({error.error_type})"
            raise JobError("DOCUMENT", message, exit_code=ExitCode.FAILURES, where=STDIN) from error
        except OptionError as error:
            raise usage_error("SPEC-VALUE", str(error)) from error


def _stream_spec(job: Job) -> StreamSpec:
    from pipeline.stream import StreamSpec

    spec = job.spec
    return StreamSpec(
        model_source=spec.model.location,
        device=spec.model.device,
        dtype=auto_dtype.resolve(spec.model.dtype, spec.model.device),
        threads=processors(),
        window=spec.run.window,
        max_chars=spec.split.max_chars,
        language=None if spec.split.language == "auto" else spec.split.language,
        tasks=tuple({**task.model_dump(mode="json"), "seed": spec.run.seed} for task in spec.tasks),
    )


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
    refuse_unwritable(target)


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


def _document(source: str, folder: Path, begun: bytes) -> Path:
    if source != STDIN:
        path = Path(source).absolute()
        if path.is_dir():
            message = (
                "is a folder; give one document in it, or read them all: `unspool init FOLDER` writes a job for them"
            )
            raise usage_error("NO-INPUT", message, source)
        if not path.is_file():
            raise usage_error("NO-INPUT", "no such file; give the path of a document, or - for stdin", source)
        return path if _is_utf8(str(path)) else _linked(path, folder)
    with storage_errors(folder):
        return standard_input.keep(folder, Disk(flush=lambda descriptor: None), begun=begun)


def address(path: Path) -> str:
    """How the job of one document names it, which decides on its id: as every job, relative to where the job lies."""
    if not _is_utf8(str(path)):
        return _link_name(path)
    return Path(os.path.relpath(path, Path(tempfile.gettempdir(), "unspool-"))).as_posix()


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _linked(path: Path, folder: Path) -> Path:
    """A link to a file under a name that a job file can hold, with the ends that tell its format, such as `.txt.gz`."""
    with storage_errors(folder):
        link = folder / _link_name(path)
        link.symlink_to(path)
    return link


def _link_name(path: Path) -> str:
    return "".join(("document", *(end for end in path.suffixes[-2:] if _is_utf8(end))))


def _job(shot: OneShot, path: Path, folder: Path) -> Path:
    import glob

    is_path = shot.model != "default" and "://" not in shot.model
    job = {
        "version": 1,
        "name": "one",
        "model": {"source": _literal(str(Path(shot.model).absolute()) if is_path else shot.model)},
        "inputs": [{"path": _literal(glob.escape(str(path)))}],
        "tasks": [{"name": shot.task["type"], **shot.task}],
        "split": {"language": shot.language},
        "output": {"path": _literal(str(folder / "run"))},
        "run": {"workers": 0},
    }
    file = folder / "job.yaml"
    file.write_text(json.dumps(job), "utf-8")
    return file


@contextmanager
def _said_of(shot: OneShot, folder: Path) -> Iterator[None]:
    """What is wrong with the job that was written is said of what was asked for: nobody has seen that file."""
    try:
        yield
    except JobError as error:
        raise together([_in_words_of(shot, one, folder) for one in (error, *error.others)]) from error


def _in_words_of(shot: OneShot, problem: JobError, folder: Path) -> JobError:
    message = problem.message
    for name, spelled in shot.options.items():
        message = message.replace(name, spelled)
    where = None if problem.where and problem.where.startswith(str(folder)) else problem.where
    return JobError(problem.code, message, exit_code=problem.exit_code, where=where)


def _literal(text: str) -> str:
    """A text in which `${` stands for itself."""
    return text.replace("${", "$${")
