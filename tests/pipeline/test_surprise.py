"""Surprise: a sentence's mean nats are those of scoring the whole text at once, however it is cut and interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.surprise import OpenSurprise
from rwkv_runtime import Model, load
from tests.pipeline.embedded import rows
from tests.pipeline.readings import bpe_tensors, prose, save_model

TEXT = prose(25) + "word and another " * 60 + "end.\n\nA short one."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_model(tmp_path_factory.mktemp("surprise") / "bpe", bpe_tensors()))


def directly(model: Model, text: str) -> Iterator[float]:
    """-ln p of each token but the first, of all logits at once."""
    tokens = model.tokenizer.encode(text)
    logits = model.forward(tokens, model.initial_state(), logits="all").logits
    assert logits is not None
    scores = torch.log_softmax(logits[:-1].double(), dim=-1)
    yield from (-scores[place, token].item() for place, token in enumerate(tokens[1:]))


@pytest.mark.parametrize("window", [64, 128, 1024])
def test_a_sentence_has_the_mean_of_the_nats_of_its_tokens_whatever_the_window(model: Model, window: int) -> None:
    nats = [float("nan"), *directly(model, TEXT)]
    found = rows(model, TEXT, surprise=True, window=window)

    assert found[-1]["token_end"] == len(nats)
    for row in found:
        assert row["nll"] == pytest.approx(np.nanmean(nats[row["token_start"] : row["token_end"]]), rel=1e-4), row


@settings(deadline=None, max_examples=8)
@given(stops=st.frozensets(st.integers(0, 14)), block=st.integers(1, 900))
def test_where_a_reading_is_interrupted_and_how_the_text_arrives_changes_no_bit(
    model: Model, stops: frozenset[int], block: int
) -> None:
    text = TEXT[-1400:]
    found, straight = rows(model, text, surprise=True, stops=stops, block=block), rows(model, text, surprise=True)

    assert [row["nll"] for row in found] == [row["nll"] for row in straight]
    assert found == straight


def test_vectors_are_the_same_bits_with_it_and_without(model: Model) -> None:
    without = rows(model, TEXT, surprise=False)

    assert [row["embedding"] for row in rows(model, TEXT, surprise=True)] == [row["embedding"] for row in without]
    assert {row["nll"] for row in without} == {None}


def test_the_head_is_not_asked_unless_a_task_asks_and_never_for_more_than_a_few_rows(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, shapes = type(model._network), list[int]()
    scored = network.logits

    def watched(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        shapes.append(len(hidden))
        return scored(self, hidden)

    monkeypatch.setattr(network, "logits", watched)
    rows(model, TEXT, surprise=False, window=1024)
    assert not shapes
    rows(model, TEXT, surprise=True, window=1024)
    assert set(shapes) == {64}


def test_a_text_of_one_token_has_nothing_that_could_predict_it(model: Model) -> None:
    (row,) = rows(model, "a", surprise=True)

    assert (row["token_end"], row["nll"]) == (1, None)


def test_what_is_kept_of_a_window_comes_back_and_older_checkpoints_have_none() -> None:
    held = OpenSurprise(2.5, 3, 0.125)

    assert OpenSurprise.of(held.as_values()) == held
    assert OpenSurprise.of({}) == OpenSurprise()
