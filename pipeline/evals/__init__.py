"""What the tool's results are worth, one module a data set or question: methods and their peers in one table.

An eval module has `NAME`, `NEEDS` (files below the data folder, with `/`) and `run(folder, model, limit) -> Table`.
Peers stand in the same table and are computed by the same code on the same items. A contract test runs over every
module of this folder. Knows nothing of command lines or of where tables are kept.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pipeline.errors import PipelineError
from pipeline.folder import entries

if TYPE_CHECKING:
    from rwkv_runtime.model import Model


class EvalError(PipelineError):
    """An eval cannot be run: it is unknown, or its data is missing or not what it should be."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What one system reached. Every row of a table has the same metrics, in the same order."""

    system: str
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Table:
    """What an eval found. `data` says in words what was measured on, `notes` what a reader must know besides."""

    name: str
    data: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())


class Eval(Protocol):
    """A module of this folder. `limit` takes the first so many items; None takes all."""

    NAME: str
    NEEDS: Sequence[str]

    def run(self, folder: Path, model: Model, limit: int | None) -> Table: ...


def evals() -> dict[str, Eval]:
    """All evals by their names."""
    modules = (cast(Eval, module) for module in entries(__name__).values())
    return {module.NAME: module for module in modules}


def find(name: str) -> Eval:
    """The eval of that name. Raises EvalError, which lists those that there are."""
    known = evals()
    if name not in known:
        raise EvalError(f"no eval is called {name!r}; there are {', '.join(known)}")
    return known[name]


def described(module: Eval) -> str:
    """What an eval measures, in the first line of its module."""
    return (module.__doc__ or "").strip().splitlines()[0].rstrip(".")


def missing(module: Eval, folder: Path) -> list[str]:
    """The files that an eval needs and the folder has not."""
    return [name for name in module.NEEDS if not (folder / name).exists()]


def read_jsonl(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, which may be packed as `.xz`. Raises EvalError for a line that is none."""
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(islice(lines, limit), start=1):
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise EvalError(
                    f"{path}:{number}: is not a JSON object; take the file from its source again"
                ) from error
