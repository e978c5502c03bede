"""Sentence vectors: a row for each sentence, as it stands in the text."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from pipeline import tables
from pipeline.tasks import embed
from pipeline.tasks.embed import Embed, sentence_id, shortened
from tests.pipeline.memory_document import MemoryDocument
from tests.pipeline.moments import DIMENSIONS, Rehearsal, rows_of, table_of, vector_of
from tests.pipeline.readings import prose

DOCUMENT = MemoryDocument((prose(30), prose(10, seed=1)), ("One", None))


@pytest.mark.parametrize("window", [16, 64, 4096])
def test_every_sentence_has_one_row_with_its_spans_and_its_vector(window: int) -> None:
    rehearsal = Rehearsal(DOCUMENT, window)
    sentences = [sentence for segment in rehearsal.segments() for sentence in segment.sentences]
    rows = rows_of(rehearsal.play(Embed("vectors")), "sentences")

    assert [row["index"] for row in rows] == list(range(len(sentences)))
    for row, sentence in zip(rows, sentences, strict=True):
        spans = {name: value for name, value in asdict(sentence).items() if name not in ("lead", "turn")}
        assert {name: row[name] for name in spans} == spans
        assert (row["id"], row["doc_id"], row["nll"]) == (sentence_id("d0", sentence.index), "d0", None)
        assert np.array_equal(np.array(row["embedding"], np.float32), vector_of(sentence.text))


@pytest.mark.parametrize("dims", [None, 1, 5, DIMENSIONS])
def test_the_table_has_the_columns_that_users_were_promised(dims: int | None) -> None:
    table = table_of(Rehearsal(DOCUMENT).play(Embed("vectors", dims)), "sentences")

    assert table.schema == tables.sentences(dims or DIMENSIONS)
    table.validate(full=True)


def test_an_id_sorts_as_its_index() -> None:
    assert sentence_id("abc", 12) == "abc#s0000012"
    assert sorted(sentence_id("d", n) for n in (2, 10, 9, 1_000_000)) == [
        sentence_id("d", n) for n in (2, 9, 10, 1_000_000)
    ]


@pytest.mark.parametrize("dims", [1, 3, 8])
def test_shortened_vectors_are_the_leading_dimensions_at_unit_length(dims: int) -> None:
    vectors = np.random.RandomState(0).standard_normal((20, 8)).astype(np.float32)
    short = shortened(vectors, dims)

    assert short.shape == (20, dims)
    assert short.dtype == np.float32
    assert np.allclose(np.linalg.norm(short, axis=1), 1.0, atol=1e-6)
    assert np.allclose(short * np.linalg.norm(vectors[:, :dims], axis=1, keepdims=True), vectors[:, :dims], atol=1e-6)


def test_a_vector_of_zeros_stays_one() -> None:
    assert not shortened(np.zeros((1, 4), np.float32), 2).any()


def test_all_dimensions_are_left_as_they_are_bit_for_bit() -> None:
    vectors = np.random.RandomState(0).standard_normal((5, 8)).astype(np.float32)

    assert shortened(vectors, None) is vectors


def test_the_options_of_a_job_file_are_understood() -> None:
    assert embed.make({"name": "v", "type": "embed", "unit": "sentence", "dims": 64, "pooling": "auto"}) == Embed(
        "v", 64
    )
    assert embed.make({"name": "v", "dims": None}).dims is None


@pytest.mark.parametrize(("dtype", "within"), [("float32", 0.0), ("float16", 1e-3), ("int8", 0.5 / 127)])
def test_stored_vectors_are_those_read_as_near_as_their_numbers_allow(dtype: str, within: float) -> None:
    rows = table_of(Rehearsal(DOCUMENT).play(Embed("vectors", dtype=dtype)), "sentences")
    scale = 127 if dtype == "int8" else 1

    assert rows.schema == tables.sentences(DIMENSIONS, dtype)
    for row in rows.to_pylist():
        found = np.array(row["embedding"], np.float64) / scale
        assert np.abs(found - vector_of(row["text"])).max() <= within + 1e-9
