"""The peer that vectors are measured against, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evals import sts
from pipeline.metrics import minilm
from rwkv_runtime import load
from tests.jobs.project import REPOSITORY

ITEMS = REPOSITORY / "tests" / "pipeline" / "eval_items"


@pytest.mark.skipif(not minilm.is_installed(), reason="all-MiniLM-L6-v2 is not installed (extra `peers`)")
def test_it_puts_a_paraphrase_nearer_than_another_sentence_and_each_text_has_its_own_vector() -> None:
    texts = ["A man is playing a guitar.", "Someone plays the guitar.", "The court dismissed the appeal."]
    vectors = minilm.vectors_of(texts)

    assert vectors.shape == (3, 384) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert np.allclose(minilm.vectors_of(texts[2:])[0], vectors[2], atol=1e-4)


def test_where_it_is_not_installed_the_table_says_how_to_and_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "is_installed", lambda: False)
    monkeypatch.setattr(sts, "_READ_BEFORE", (64,))
    table = sts.run(ITEMS, load("default"), 5)

    assert minilm.NAME not in {row.system for row in table.rows}
    assert any("unspool[peers]" in note for note in table.notes)
