"""What a person wants to see of a corpus at once: how each document's topic moves, and a map of its sentences.

Reads the `sentences` table of a finished run once, in batches, and keeps a bounded amount of it. Knows nothing of runs,
pages or how the result is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Arrangement: TypeAlias = Callable[[Vectors], Vectors]
"""Vectors [n, D] to places within 0 and 1 [n, 2]."""

BINS: Final = 160
"""Values in a document's time line where there are many documents: one to each seven pixels of a wide screen."""
MOST_BINS: Final = 960
"""Where there are few: about one to a pixel, and one to a sentence of a document with fewer sentences than that."""
_FINE_DOCUMENTS: Final = 40
_BEFORE: Final = 8
"""A sentence's topic is compared with that of so many before it."""
_BATCH_ROWS: Final = 8192
_COLUMNS: Final = ("doc_id", "index", "text", "char_start", "char_end", "section", "nll", "embedding")
_MOST_SECTIONS: Final = 400


@dataclass(frozen=True)
class Section:
    """A stretch of a document under one heading, in code points."""

    name: str
    char_start: int
    char_end: int


@dataclass(frozen=True)
class TimeLine:
    """A document from its first sentence to its last.

    `shift` and `surprise` have from BINS to MOST_BINS values each, or none: the mean in each stretch of the text, from
    0 (as before; no surprise) on. A shift is 1 minus the cosine to the mean of the sentences before; a surprise is in
    nats a token. A stretch in which no sentence begins has what the one before it has.
    """

    sentences: int
    chars: int
    sections: tuple[Section, ...]
    shift: tuple[float, ...]
    surprise: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """A sentence on the map; x and y lie within 0 and 1."""

    x: float
    y: float
    doc_id: str
    index: int
    char_start: int
    text: str


@dataclass(frozen=True)
class Overview:
    """Of a corpus: time lines by document id, and points of its map."""

    lines: Mapping[str, TimeLine]
    points: tuple[Point, ...]


def overview(folder: Path, chars: Mapping[str, int], points: int, arrange: Arrangement | None = None) -> Overview:
    """Look at the table in `folder`: time lines for the documents in `chars` (id → length), `points` sentences mapped.

    The sentences of the map lie evenly over the table, and on the map where `arrange` puts them, else `project`.
    Raises OSError, pyarrow.ArrowInvalid.
    """
    table = ds.dataset(folder, format="parquet")
    columns = [name for name in _COLUMNS if name in table.schema.names]
    rows = table.count_rows()
    bins = max(BINS, min(MOST_BINS, MOST_BINS * _FINE_DOCUMENTS // max(len(chars), 1)))
    drawn = np.unique(np.linspace(0, max(rows - 1, 0), min(points, rows)).astype(np.int64))
    tracks: dict[str, _Track] = {}
    sampled: list[pa.RecordBatch] = []
    begin = 0
    for batch in table.to_batches(columns=columns, batch_size=_BATCH_ROWS):
        _follow(batch, chars, tracks, bins)
        here = drawn[(drawn >= begin) & (drawn < begin + batch.num_rows)] - begin
        sampled.append(batch.take(pa.array(here)))
        begin += batch.num_rows
    return Overview({doc: track.line() for doc, track in tracks.items()}, _map(sampled, arrange or project))


def project(vectors: Vectors) -> Vectors:
    """The two directions in which [n, D] vectors differ most (PCA), scaled to lie within 0 and 1: [n, 2]."""
    if len(vectors) < 2:
        return np.full((len(vectors), 2), 0.5, np.float32)
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # in ascending order; D is small beside n
    plane = centred @ axes[:, ::-1][:, :2]
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    # Squashed, or the few that lie far out would press all others together.
    spread = plane / np.maximum(2 * plane.std(axis=0), 1e-9)
    scaled: Vectors = (0.5 + 0.5 * np.tanh(spread)).astype(np.float32)
    return scaled


@dataclass
class _Track:
    """What has been seen of one document so far."""

    chars: int
    shift: _Means
    surprise: _Means
    sentences: int = 0
    sections: list[Section] = field(default_factory=list)
    before: Vectors | None = None

    def line(self) -> TimeLine:
        return TimeLine(self.sentences, self.chars, tuple(self.sections), self.shift.values(), self.surprise.values())


class _Means:
    """Means of values that fall into so many bins."""

    def __init__(self, bins: int) -> None:
        self.sums = np.zeros(bins, np.float32)
        self.counts = np.zeros(bins, np.float32)

    def add(self, bins: NDArray[np.int64], values: Vectors) -> None:
        np.add.at(self.sums, bins, values)
        np.add.at(self.counts, bins, 1)

    def values(self) -> tuple[float, ...]:
        """A mean a bin, an empty one taking that of the bin before it; none if nothing was added."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return ()
        latest = np.maximum.accumulate(np.where(self.counts > 0, np.arange(len(self.counts)), filled[0]))
        return tuple(map(float, self.sums[latest] / self.counts[latest]))


def _follow(batch: pa.RecordBatch, chars: Mapping[str, int], tracks: dict[str, _Track], count: int) -> None:
    """Add a batch of sentences to the documents that they belong to."""
    for doc_id, begin, end in _stretches(batch.column("doc_id").to_pylist()):
        if doc_id not in chars:
            continue
        if doc_id not in tracks:
            tracks[doc_id] = _Track(chars[doc_id], _Means(count), _Means(count))
        track = tracks[doc_id]
        rows = batch.slice(begin, end - begin)
        track.sentences += rows.num_rows
        starts = np.asarray(rows.column("char_start"), dtype=np.int64)
        bins = np.minimum(starts * count // max(track.chars, 1), count - 1)
        _add_sections(track, rows)
        _add_shift(track, rows, bins)
        _add_surprise(track, rows, bins)


def _stretches(ids: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Neighbouring rows of one document: (its id, from, to)."""
    begin = 0
    for place in range(1, len(ids) + 1):
        if place == len(ids) or ids[place] != ids[begin]:
            yield ids[begin], begin, place
            begin = place


def _add_sections(track: _Track, rows: pa.RecordBatch) -> None:
    names, starts, ends = (rows.column(name).to_pylist() for name in ("section", "char_start", "char_end"))
    for name, start, end in zip(names, starts, ends, strict=True):
        last = track.sections[-1] if track.sections else None
        if last is not None and last.name == (name or ""):
            track.sections[-1] = Section(last.name, last.char_start, end)
        else:
            track.sections.append(Section(name or "", start, end))
        if len(track.sections) > _MOST_SECTIONS:
            track.sections = _joined(track.sections)


def _joined(sections: Sequence[Section]) -> list[Section]:
    """Half as many: neighbours under the first one's name, the last one, which may be open, as it is."""
    closed = sections[:-1]
    pairs = [closed[place : place + 2] for place in range(0, len(closed), 2)]
    return [*(Section(pair[0].name, pair[0].char_start, pair[-1].char_end) for pair in pairs), sections[-1]]


def _add_shift(track: _Track, rows: pa.RecordBatch, bins: NDArray[np.int64]) -> None:
    """1 minus the cosine between each sentence and the mean of those before it."""
    vectors = _unit(_vectors(rows))
    if not vectors.size:
        return
    first = track.before is None
    before = vectors[:0] if track.before is None else track.before
    joined = np.concatenate([before, vectors])
    sums = np.cumsum(np.concatenate([np.zeros((1, joined.shape[1]), np.float32), joined]), axis=0)
    places = np.arange(len(before), len(joined))
    earliest = np.maximum(places - _BEFORE, 0)
    past = _unit(sums[places] - sums[earliest])
    shift = 1 - np.einsum("nd,nd->n", past, vectors)
    if first:
        shift[0] = 0  # there is nothing before the first sentence
    track.shift.add(bins, shift)
    track.before = joined[-_BEFORE:]


def _add_surprise(track: _Track, rows: pa.RecordBatch, bins: NDArray[np.int64]) -> None:
    if "nll" not in rows.schema.names or rows.column("nll").null_count == rows.num_rows:
        return
    values = np.nan_to_num(np.asarray(rows.column("nll").fill_null(0), dtype=np.float32))
    track.surprise.add(bins, values)


def _map(batches: Sequence[pa.RecordBatch], arrange: Arrangement) -> tuple[Point, ...]:
    vectors = [_unit(_vectors(batch)) for batch in batches if batch.num_rows]
    if not vectors or not vectors[0].size:
        return ()
    plane = arrange(np.concatenate(vectors))
    rows: list[dict[str, Any]] = [
        row for batch in batches for row in batch.select(["doc_id", "index", "char_start", "text"]).to_pylist()
    ]
    return tuple(
        Point(float(x), float(y), row["doc_id"], row["index"], row["char_start"], row["text"])
        for (x, y), row in zip(plane, rows, strict=True)
    )


def _vectors(rows: pa.RecordBatch) -> Vectors:
    """The embeddings as [n, D] float32; [n, 0] where there are none. Bits (binary vectors) count as -1 and 1."""
    if "embedding" not in rows.schema.names or rows.column("embedding").null_count:
        return np.zeros((rows.num_rows, 0), np.float32)
    column = rows.column("embedding")
    if pa.types.is_fixed_size_binary(column.type):
        raw = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(rows.num_rows, -1)
        return np.unpackbits(raw, axis=1).astype(np.float32) * 2 - 1
    flat = np.asarray(column.flatten())
    return flat.reshape(rows.num_rows, -1).astype(np.float32)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, 1e-9)
    return scaled
