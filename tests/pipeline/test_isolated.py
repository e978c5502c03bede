"""Sentences read by themselves: a vector depends on model and sentence, and on nothing that stands around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import vectors
from rwkv_runtime import Model, load
from rwkv_runtime.engine import Engine
from tests.pipeline.embedded import rows
from tests.pipeline.readings import bpe_tensors, prose, save_model

TEXT = prose(12) + "word and another " * 60 + "end.\n\nA short one."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_model(tmp_path_factory.mktemp("isolated") / "bpe", bpe_tensors()))


def test_a_vector_is_that_of_a_query_with_the_same_words_bit_for_bit(model: Model) -> None:
    found = rows(model, TEXT, pooling="isolated")
    expected = vectors.isolated(Engine(model, window=64, lanes=1), [str(row["text"]) for row in found])

    assert max(row["token_end"] - row["token_start"] for row in found) > 64
    assert np.array_equal(np.array([row["embedding"] for row in found], np.float32), expected)


def test_what_stands_before_a_sentence_changes_nothing_and_on_the_stream_it_does(model: Model) -> None:
    alone = rows(model, "A short one.", pooling="isolated")
    behind = rows(model, TEXT, pooling="isolated")
    streamed = [rows(model, text, pooling="span")[-1]["embedding"] for text in ("A short one.", TEXT)]

    assert alone[0]["embedding"] == behind[-1]["embedding"]
    assert streamed[0] != streamed[1]


@settings(deadline=None, max_examples=6)
@given(stops=st.frozensets(st.integers(0, 10)), block=st.integers(1, 900))
def test_where_a_reading_is_interrupted_and_how_the_text_arrives_changes_no_bit(
    model: Model, stops: frozenset[int], block: int
) -> None:
    text = TEXT[-1200:]

    assert rows(model, text, stops=stops, block=block, pooling="isolated") == rows(model, text, pooling="isolated")
