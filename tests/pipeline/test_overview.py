"""What is shown of a corpus: bounded whatever its size, and the same however its rows lie in files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import overview as module
from pipeline.neighbours_map import arranged
from pipeline.overview import BINS, MOST_BINS, Section, overview, project
from pipeline.tables import sentences

DIMENSIONS = 8


def write(folder: Path, documents: dict[str, np.ndarray[Any, Any]], nll: float | None = None) -> dict[str, int]:
    """A table in which each sentence takes ten characters; lengths by document."""
    rows = []
    for doc_id, vectors in documents.items():
        for index, vector in enumerate(vectors):
            span = {"char_start": 10 * index, "char_end": 10 * index + 9}
            section = f"part {index // 20}"
            text = f"sentence {index} of {doc_id}"
            row = {"doc_id": doc_id, "index": index, "text": text, "section": section, "nll": nll, **span}
            rows.append({**row, "embedding": vector.tolist()})
    schema = sentences(DIMENSIONS)
    folder.mkdir()
    full = [{name: row.get(name) for name in schema.names} for row in rows]
    pq.write_table(pa.Table.from_pylist(full, schema), folder / "part-00000-of-00001.parquet", row_group_size=64)
    return {doc_id: 10 * len(vectors) for doc_id, vectors in documents.items()}


def two_topics(count: int) -> np.ndarray[Any, Any]:
    """Vectors that point one way in the first half and another in the second."""
    vectors = np.zeros((count, DIMENSIONS), np.float32)
    vectors[: count // 2, 0] = vectors[count // 2 :, 1] = 1
    return vectors


def test_the_shift_of_a_document_is_largest_where_its_topic_changes(tmp_path: Path) -> None:
    chars = write(tmp_path / "t", {"d1": two_topics(400)}, nll=2.5)

    line = overview(tmp_path / "t", chars, 50).lines["d1"]

    middle = len(line.shift) // 2
    assert len(line.shift) == MOST_BINS, "one document has a line as fine as can be seen"
    assert abs(int(np.argmax(line.shift)) - middle) <= 2
    assert max(line.shift[: middle - 3]) < 1e-6
    assert set(line.surprise) == {2.5}
    assert [section.name for section in line.sections] == [f"part {n}" for n in range(20)]
    assert (line.sections[0].char_start, line.sections[-1].char_end) == (0, 3999)


def test_many_documents_have_coarser_lines_and_no_section_of_any_is_left_out(tmp_path: Path) -> None:
    many = np.tile(np.eye(DIMENSIONS, dtype=np.float32), (1100, 1))
    chars = write(tmp_path / "t", {"d": many, **{f"d{n}": many[:2] for n in range(300)}})

    lines = overview(tmp_path / "t", chars, 50).lines

    assert len(lines["d"].shift) == BINS
    sections = lines["d"].sections
    assert 200 < len(sections) <= 400
    assert (sections[0], sections[-1]) == (Section("part 0", 0, 399), Section("part 439", 87800, 87999))
    assert all(one.char_end < other.char_start for one, other in pairwise(sections))


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_the_size_of_a_batch_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    draw = np.random.default_rng(0)
    documents = {f"d{n}": draw.normal(size=(30 + n, DIMENSIONS)).astype(np.float32) for n in range(4)}
    chars = write(tmp_path / "t", documents)
    whole = overview(tmp_path / "t", chars, 40)
    monkeypatch.setattr(module, "_BATCH_ROWS", rows)

    pieces = overview(tmp_path / "t", chars, 40)

    assert [(p.doc_id, p.index, p.text) for p in pieces.points] == [(p.doc_id, p.index, p.text) for p in whole.points]
    for doc_id, line in whole.lines.items():
        np.testing.assert_allclose(pieces.lines[doc_id].shift, line.shift, atol=1e-5)
        assert pieces.lines[doc_id].sections == line.sections


def test_the_map_has_at_most_the_asked_points_and_they_lie_within_it(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    chars = write(tmp_path / "t", {"d": draw.normal(size=(500, DIMENSIONS)).astype(np.float32)})

    points = overview(tmp_path / "t", chars, 60).points

    assert len(points) == 60
    assert {points[0].index, points[-1].index} == {0, 499}
    assert all(0 <= point.x <= 1 and 0 <= point.y <= 1 for point in points)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 1000))
def test_any_vectors_are_placed_within_the_map(count: int, dimensions: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)

    plane = project(vectors)

    assert plane.shape == (count, 2)
    assert np.isfinite(plane).all() and (plane >= 0).all() and (plane <= 1).all()


def test_neighbours_lie_side_by_side_on_the_map_by_neighbours_the_same_every_time() -> None:
    draw = np.random.default_rng(3)
    centres = np.eye(4, DIMENSIONS, dtype=np.float32)
    groups = [centre + 0.05 * draw.normal(size=(15, DIMENSIONS)).astype(np.float32) for centre in centres]
    vectors = np.concatenate(groups)

    plane = arranged(vectors)

    nearest = np.argsort(np.linalg.norm(plane[:, None] - plane[None], axis=2), axis=1)[:, 1:6] // 15
    assert (nearest == np.repeat(np.arange(4), 15)[:, None]).mean() > 0.9
    assert plane.shape == (60, 2) and plane.min() >= 0 and plane.max() <= 1
    assert np.array_equal(plane, arranged(vectors))
    assert all(arranged(vectors[:count]).shape == (count, 2) for count in (0, 1, 7, 9))


def test_groups_that_lie_apart_are_apart_on_the_map() -> None:
    draw = np.random.default_rng(2)
    centre = np.zeros(DIMENSIONS, np.float32)
    centre[3] = 5
    groups = [draw.normal(size=(50, DIMENSIONS)).astype(np.float32) * 0.1 + sign * centre for sign in (-1, 1)]

    plane = project(np.concatenate(groups))

    assert (plane[:50, 0] < 0.5).all() != (plane[50:, 0] < 0.5).all()
