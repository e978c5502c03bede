"""What a model remembers is measured rightly: held to a model whose memory is known, since it is scripted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from pipeline.recall import CHOICES, Grid, Recall, measure
from rwkv_runtime.engine import Engine, Fed, Feed
from tests.rwkv_runtime.tiny import ByteTokenizer

GRID = Grid((1, 4), (100, 800), 6, anew=400)


@dataclass(frozen=True)
class Page:
    """A state that holds the last so many tokens, word for word."""

    tokens: tuple[int, ...] = ()


@dataclass
class Rememberer:
    """An engine that expects what followed the last 12 tokens when it read them before."""

    memory: int
    window: int = 64
    model: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model = type("Scripted", (), {"tokenizer": ByteTokenizer(), "initial_state": staticmethod(Page)})

    def feed(self, feeds: Sequence[Feed]) -> list[Fed]:
        return [self._read(feed) for feed in feeds]

    def _read(self, feed: Feed) -> Fed:
        before = cast(Page, feed.state).tokens
        text = bytes(token - 1 for token in (*before, *feed.tokens, *feed.followers[-1:]))
        nats = np.empty(len(feed.followers), np.float32)
        for place in range(len(feed.followers)):
            end = len(before) + place + 1
            seen = text[: max(end - 1, 0)].rfind(text[max(end - 12, 0) : end])
            nats[place] = 0.1 if seen >= 0 and text[seen + min(12, end)] == text[end] else 5.0
        state = Page((*before, *feed.tokens)[-self.memory :])
        return Fed(cast(Any, state), None, nats if len(nats) else None)


def recalled(memory: int) -> Recall:
    return measure(cast(Engine, Rememberer(memory)), GRID)


def share(recall: Recall, mode: str, distance: int) -> list[float]:
    return [cell.value for cell in recall.cells if (cell.mode, cell.distance) == (mode, distance)]


def test_a_model_that_forgets_nothing_knows_everything() -> None:
    recall = recalled(1_000_000)

    assert {cell.value for cell in recall.cells if cell.mode not in ("by section", "primed anew")} == {100.0}
    assert recall.horizon("state") == recall.horizon("read again") == 800


def test_a_model_that_forgets_is_told_apart_by_distance_and_saved_by_reading_again() -> None:
    recall = recalled(400)

    assert min(share(recall, "state", 100)) == 100
    assert max(share(recall, "state", 800)) <= 60
    assert min(share(recall, "read again", 800)) == 100
    assert recall.horizon("state") == 100


@pytest.mark.parametrize("policy", ["by section", "primed anew"])
def test_a_state_that_was_begun_anew_knows_nothing_of_what_stood_before(policy: str) -> None:
    recall = recalled(1_000_000)

    assert min(share(recall, policy, 100)) == 100
    assert max(share(recall, policy, 800)) <= 60
    assert recall.horizon(policy) == 100


def test_a_state_that_is_primed_anew_knows_what_was_read_again() -> None:
    near = measure(cast(Engine, Rememberer(1_000_000)), Grid((1,), (150,), 4, anew=100))

    assert (share(near, "primed anew", 150), max(share(near, "by section", 150)) < 100) == ([100.0], True)


def test_every_cell_of_the_grid_is_there_once_with_its_interval() -> None:
    recall = recalled(50)

    assert len(recall.cells) == len({(cell.facts, cell.distance, cell.mode) for cell in recall.cells}) == 20
    assert all(cell.low <= cell.value <= cell.high for cell in recall.cells)


def test_who_guesses_is_right_as_often_as_chance_has_it() -> None:
    class Guesser(Rememberer):
        def _read(self, feed: Feed) -> Fed:
            nats = np.random.RandomState(hash(feed.tokens) % 2**32).rand(len(feed.followers)).astype(np.float32)
            return Fed(feed.state, None, nats)

    found = measure(cast(Engine, Guesser(1)), Grid((16,), (40,), 120))

    for mode in ("state", "read again"):
        assert share(found, mode, 40)[0] == pytest.approx(100 / CHOICES, abs=9)
