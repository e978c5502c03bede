"""Finding where one topic ends and the next begins (Choi, 2000): ten pieces of articles, joined, to be cut again.

The number of pieces is known. Pk is the share of pairs of sentences, half a piece apart, of which it is wrongly said
whether they are of one piece (Beeferman et al., 1999); lower is better.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evals import EvalError, Row, Table, demand, reading
from pipeline.metrics.bootstrap import estimate
from pipeline.metrics.peers import Text
from pipeline.metrics.segmentation import pk
from pipeline.retrieval.terms import terms_of
from pipeline.topics import boundaries, mixed
from pipeline.vectors import read_together
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "choi"
NEEDS: Final = ("labelled/choi.tar.xz",)

_BREAK: Final = "====="
_SHARE_OF_VECTORS: Final = 0.7

Floats = NDArray[np.float32]


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Pk x 100 of each way to see sentences, cut by the same programme."""
    engine = Engine(model, window=512, lanes=1)
    found: dict[str, list[float]] = {}
    for sentences, pieces in islice(_documents(folder / NEEDS[0]), limit):
        count = pieces[-1] + 1
        ways = {name: boundaries(rows, count) for name, rows in _rows(engine, sentences).items()}
        ways["even"] = [round(piece * len(sentences) / count) for piece in range(1, count)]
        for name, places in ways.items():
            found.setdefault(name, []).append(100 * pk(pieces, places))
    if not found:
        raise EvalError(f"{folder / NEEDS[0]}: has no .ref files; take it from its source again")
    rows = tuple(Row(name, {"Pk": estimate(values)}) for name, values in found.items())
    return Table(NAME, f"Choi, {len(found['even'])} documents, number of pieces known", rows)


def _rows(engine: Engine, sentences: list[str]) -> Mapping[str, Floats]:
    """What the sentences are cut by: both, vectors alone, words alone. Longer ones weigh more, by the square root."""
    text = Text.of(sentences, terms_of("en"))
    vectors = read_together(engine, engine.model.initial_state(), sentences).vectors
    weight = np.sqrt(np.maximum(text.counts.sum(axis=1, keepdims=True), 1))
    return {
        "unspool": mixed(text.tfidf, vectors, _SHARE_OF_VECTORS) * weight,
        "vectors": mixed(text.tfidf, vectors, 1.0) * weight,
        "TF-IDF": text.tfidf * weight,
    }


def _documents(path: Path) -> Iterator[tuple[list[str], list[int]]]:
    """Sentences of each document and the piece that each is of, in an order that mixes the lengths of pieces."""
    with reading(path), tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if member.name.endswith(".ref")]
        for member in sorted(members, key=lambda member: member.name.rpartition("/")[::-1]):
            file = archive.extractfile(member)
            assert file is not None  # it is a file's name
            sentences, pieces = _parsed(io.TextIOWrapper(file, "utf-8", "replace").read())
            demand(sentences, path / member.name, "sentences")
            yield sentences, pieces


def _parsed(text: str) -> tuple[list[str], list[int]]:
    sentences: list[str] = []
    pieces: list[int] = []
    for number, piece in enumerate(part for part in text.split(_BREAK) if part.strip("=\n ")):
        lines = [line for line in piece.splitlines() if line.strip("= ")]
        sentences += lines
        pieces += [number] * len(lines)
    return sentences, pieces
