"""Surprise: a sentence's mean nats are those of scoring the whole text at once, however it is cut and interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checkpoints import Checkpoint, Identity, from_bytes, to_bytes
from pipeline.lane import memory_of, standing_of
from pipeline.reading import Reader, SavePoint, Standing
from pipeline.segments import SplitOptions
from pipeline.surprise import OpenSurprise
from pipeline.tasks import Emit, make_tasks
from rwkv_runtime import Model, State, load
from rwkv_runtime.engine import Engine, Feed
from tests.pipeline.memory_document import MemoryDocument
from tests.pipeline.readings import bpe_tensors, prose, save_model

ASKED = {"name": "vectors", "type": "embed", "surprise": True}
TEXT = prose(25) + "word and another " * 60 + "end.\n\nA short one."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_model(tmp_path_factory.mktemp("surprise") / "bpe", bpe_tensors()))


def rows(
    model: Model, text: str, *, window: int = 64, block: int = 700, stops: frozenset[int] = frozenset(), **task: Any
) -> list[dict[str, Any]]:
    """The rows of `sentences`, of a reading that goes through a checkpoint behind each of the windows `stops`."""
    document = MemoryDocument(tuple(text[i : i + block] for i in range(0, len(text), block)))
    engine = Engine(model, window=window, lanes=1)
    tasks = make_tasks([ASKED | task])

    def reader(start: State | Standing) -> Reader:
        return Reader(document, tasks, model.tokenizer, engine.pooler, SplitOptions(window, 2000), start)

    now, number = reader(model.initial_state()), 0
    steps, fed, found = now.steps(), None, list[dict[str, Any]]()
    while True:
        try:
            step = steps.send(fed) if fed is not None else next(steps)
        except StopIteration:
            return found
        fed = None
        if isinstance(step, Feed):
            fed = engine.feed([step])[0]
        elif isinstance(step, SavePoint):
            if number in stops:
                now = reader(through_a_checkpoint(now.standing(), model))
                steps = now.steps()
            number += 1
        elif isinstance(step, Emit) and step.table == "sentences":
            found += step.rows.to_pylist()


def through_a_checkpoint(standing: Standing, model: Model) -> Standing:
    state, boundary = standing.state.to_bytes(), standing.boundary.to_bytes()
    stored = Checkpoint(Identity(*"abcdef"), standing.tokens, state, boundary, memory_of(standing), {}, ())
    return standing_of(from_bytes(to_bytes(stored)), lambda data: State.from_bytes(data, model))


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
    found = rows(model, TEXT, window=window)

    assert found[-1]["token_end"] == len(nats)
    for row in found:
        assert row["nll"] == pytest.approx(np.nanmean(nats[row["token_start"] : row["token_end"]]), rel=1e-4), row


@settings(deadline=None, max_examples=8)
@given(stops=st.frozensets(st.integers(0, 14)), block=st.integers(1, 900))
def test_where_a_reading_is_interrupted_and_how_the_text_arrives_changes_no_bit(
    model: Model, stops: frozenset[int], block: int
) -> None:
    text = TEXT[-1400:]
    found, straight = rows(model, text, stops=stops, block=block), rows(model, text)

    assert [row["nll"] for row in found] == [row["nll"] for row in straight]
    assert found == straight


def test_vectors_are_the_same_bits_with_it_and_without(model: Model) -> None:
    without = rows(model, TEXT, surprise=False)

    assert [row["embedding"] for row in rows(model, TEXT)] == [row["embedding"] for row in without]
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
    rows(model, TEXT, window=1024)
    assert set(shapes) == {64}


def test_a_text_of_one_token_has_nothing_that_could_predict_it(model: Model) -> None:
    (row,) = rows(model, "a")

    assert (row["token_end"], row["nll"]) == (1, None)


def test_what_is_kept_of_a_window_comes_back_and_older_checkpoints_have_none() -> None:
    held = OpenSurprise(2.5, 3, 0.125)

    assert OpenSurprise.of(held.as_values()) == held
    assert OpenSurprise.of({}) == OpenSurprise()
