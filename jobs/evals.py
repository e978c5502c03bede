"""Evals for people: one is found and run, and its table becomes a JSON line, Markdown and rows for a terminal.

Turns what the pipeline and the runtime refuse into exit codes. Importing it loads no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import usage_error
from jobs.models import model_errors
from jobs.run_directory import storage_errors
from pipeline.durable import sha256_file
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.evals import Estimate, Eval, Table


@dataclass(frozen=True)
class Evaluated:
    """A table and what it was made of."""

    table: Table
    model: str
    model_fingerprint: str
    data_sha256: str
    limit: int | None
    seconds: float


def eval_list() -> list[dict[str, Any]]:
    """The evals that there are: name, what it measures, and the files that it needs; as JSON values."""
    from pipeline.evals import described, evals

    return [
        {"name": name, "measures": described(module), "needs": list(module.NEEDS)} for name, module in evals().items()
    ]


def evaluate(name: str, folder: Path, source: str, limit: int | None) -> Evaluated:
    """Run an eval. Raises JobError: exit 2 for an unknown eval or missing data, 7 for the model."""
    from pipeline.evals import EvalError, find

    try:
        module = find(name)
    except EvalError as error:
        raise usage_error("EVAL", str(error)) from error
    _check_data(module, folder)
    began = time.monotonic()
    with model_errors():
        import rwkv_runtime

        model = rwkv_runtime.load(source)
        try:
            table = module.run(folder, model, limit)
        except PipelineError as error:
            raise usage_error("EVAL", str(error)) from error
    seconds = time.monotonic() - began
    return Evaluated(table, source, model.fingerprint, _data_hash(module, folder), limit, seconds)


def record(found: Evaluated) -> dict[str, Any]:
    """The result as a JSON value: what was measured, on what, with what, how long it took."""
    table = found.table
    return {
        "eval": table.name,
        "data": table.data,
        "data_sha256": found.data_sha256,
        "limit": found.limit,
        "model": Path(found.model).name,
        "model_fingerprint": found.model_fingerprint,
        "version": metadata.version("unspool"),
        "seconds": round(found.seconds, 1),
        "rows": [
            {"system": row.system, **{name: _numbers(value) for name, value in row.metrics.items()}}
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def append(path: Path, found: Evaluated) -> None:
    """Add the result to a file of such lines. Raises JobError (exit 6) if it cannot be written."""
    with storage_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record(found), ensure_ascii=False) + "\n")


def write_markdown(path: Path, found: Evaluated) -> None:
    """Write the table as a page of Markdown. Raises JobError (exit 6) if it cannot be written."""
    with storage_errors(path):
        path.write_text(markdown(found.table), "utf-8")


def cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """The heads and the rows of a table, as text: each figure with its interval."""
    heads = ["system", *(table.rows[0].metrics if table.rows else ())]
    return heads, [[row.system, *map(_shown, row.metrics.values())] for row in table.rows]


def markdown(table: Table) -> str:
    """The table in Markdown, with what it was measured on above it and its notes below."""
    heads, rows = cells(table)
    lines = [f"### {table.name}", "", table.data, "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    lines += [_line(row) for row in rows]
    return "\n".join([*lines, "", *(f"* {note}" for note in table.notes)]).rstrip() + "\n"


def _check_data(module: Eval, folder: Path) -> None:
    from pipeline.evals import missing

    if not folder.is_dir():
        raise usage_error("NO-FOLDER", "no such folder; give the one with the data of the evals", str(folder))
    if lacking := missing(module, folder):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise usage_error("EVAL-DATA", f"has no {lacking[0]}{more}, which `{module.NAME}` needs", str(folder))


def _data_hash(module: Eval, folder: Path) -> str:
    """SHA-256, in hex, over the hashes of the files that the eval needs."""
    files = [path for name in module.NEEDS for path in _files(folder / name)]
    return hashlib.sha256("\n".join(map(sha256_file, files)).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _numbers(value: Estimate) -> dict[str, float | None]:
    """JSON has no word for what is not a number."""
    return {name: None if math.isnan(number) else round(number, 6) for name, number in asdict(value).items()}


def _shown(value: Estimate) -> str:
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _line(row: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
