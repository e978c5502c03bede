"""What the tool's results are worth, one module a data set or question: methods and their peers in one table.

An eval module has `NAME`, `NEEDS` (files below the data folder, with `/`) and `run(folder, model, limit) -> Table`.
Peers stand in the same table and are computed by the same code on the same items. A contract test runs over every
module of this folder. Knows nothing of command lines or of where tables are kept.
"""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO, cast

from pipeline.errors import PipelineError
from pipeline.folder import entries

if TYPE_CHECKING:
    from rwkv_runtime.model import Model


AGAIN: Final = "take it from its source again"


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


class _Object(dict[str, Any]):
    """An object of a line, or one inside of it, which says where it stands when a key is missing."""

    where: str = ""

    def __missing__(self, key: str) -> Any:
        raise EvalError(f"{self.where}: has no key {key!r}; {AGAIN}")


def read_jsonl(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, which may be packed as `.xz`.

    Raises EvalError for a line that is none, for a file that is damaged or has no lines, and where a key of a row is
    asked for that it has not.
    """
    number = 0
    with reading(path), _opened(path) as lines:
        for number, line in enumerate(islice(lines, limit), start=1):
            yield _object(line, f"{path}:{number}")
    if not number:
        raise EvalError(f"{path}: has no rows; {AGAIN}")


def read_text(path: Path) -> str:
    """The text of a file. Raises EvalError if it is damaged or has none."""
    with reading(path):
        text = path.read_text("utf-8")
    demand(text.strip(), path, "text")
    return text


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong when data is read or unpacked is an EvalError with its file."""
    try:
        yield
    except (lzma.LZMAError, tarfile.TarError, EOFError, UnicodeDecodeError, OSError) as error:
        raise EvalError(f"{path}: cannot be read ({error}); {AGAIN}") from error


def demand(found: Sized, path: Path, what: str) -> None:
    """Raise EvalError if nothing was found in a file."""
    if not len(found):
        raise EvalError(f"{path}: has no {what}; {AGAIN}")


def _opened(path: Path) -> TextIO:
    if path.suffix == ".xz":
        return cast(TextIO, lzma.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8")


def _object(line: str, where: str) -> dict[str, Any]:
    def placed(pairs: dict[str, Any]) -> _Object:
        found = _Object(pairs)
        found.where = where
        return found

    try:
        row = json.loads(line, object_hook=placed)
    except (ValueError, RecursionError) as error:
        raise EvalError(f"{where}: is not a JSON object; {AGAIN}") from error
    if not isinstance(row, _Object):
        raise EvalError(f"{where}: is not a JSON object; {AGAIN}")
    return row
