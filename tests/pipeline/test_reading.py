"""Reading: the state is that of the whole text at once, the vectors those of the spans, and any save point will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checkpoints import Checkpoint, Identity, from_bytes, to_bytes
from pipeline.errors import DocumentError
from pipeline.lane import memory_of, standing_of
from pipeline.reading import Boundary, Reader, SavePoint, Standing
from pipeline.segments import SplitOptions
from pipeline.tasks import Emit, Keep, make_tasks
from pipeline.values import to_json
from rwkv_runtime import Model, State, load
from rwkv_runtime.engine import Engine, Fed, Feed
from tests.pipeline.memory_document import MemoryDocument
from tests.pipeline.readings import (
    TASKS,
    WINDOW,
    WORLD_VOCABULARY,
    Lives,
    all_rows,
    bits,
    bpe_tensors,
    document,
    prose,
    save_model,
    worker_spec,
)
from tests.rwkv_runtime.test_rwkv_oracle import official, relative
from tests.rwkv_runtime.tiny import tiny_tensors

TEXT = prose(25)
OPTIONS = SplitOptions(WINDOW, 2000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_model(tmp_path_factory.mktemp("reading") / "bpe", bpe_tensors()))


@pytest.fixture(scope="module")
def world_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights for the World vocabulary, which need no tokenizer beside them."""
    tensors = tiny_tensors(vocabulary=WORLD_VOCABULARY, layers=2)
    return save_model(tmp_path_factory.mktemp("world") / "model", tensors, tokenizer=None)


@pytest.fixture(scope="module")
def world(world_path: str) -> Model:
    return load(world_path)


class Reading:
    """One document read by hand, which may be stopped and taken up through the bytes of a checkpoint."""

    def __init__(
        self, model: Model, text: str, stops: Sequence[int] = (), *, block: int = 700, pooling: str = "auto"
    ) -> None:
        self.document = MemoryDocument(tuple(text[i : i + block] for i in range(0, len(text), block)))
        self.model = model
        self.engine = Engine(model, window=WINDOW, lanes=1, pooling=pooling)
        self.asked: list[Emit | Keep | Boundary] = []
        self.standing: Standing | None = None
        self._read(frozenset(stops))

    def _read(self, stops: frozenset[int]) -> None:
        reader = self._reader(self.model.initial_state())
        steps, fed, number = reader.steps(), None, 0
        while True:
            try:
                step = steps.send(fed) if fed is not None else next(steps)
            except StopIteration:
                return
            fed = None
            if isinstance(step, Feed):
                fed = self.engine.feed([step])[0]
            elif isinstance(step, SavePoint):
                self.standing = reader.standing()
                if number in stops:
                    reader = self._reader(self._through_a_checkpoint(self.standing))
                    steps = reader.steps()
                number += 1
            else:
                self.asked.append(step)

    def _reader(self, start: State | Standing) -> Reader:
        tasks = make_tasks(list(TASKS))
        return Reader(self.document, tasks, self.model.tokenizer, self.engine.pooler, OPTIONS, start)

    def _through_a_checkpoint(self, standing: Standing) -> Standing:
        identity = Identity("r", "d", "s", "m", "f", "n")
        state, boundary = standing.state.to_bytes(), standing.boundary.to_bytes()
        stored = Checkpoint(identity, standing.tokens, state, boundary, memory_of(standing), {}, ())
        return standing_of(from_bytes(to_bytes(stored)), lambda data: State.from_bytes(data, self.model))

    def state(self, name: str) -> State:
        return next(one.state for one in self.asked if isinstance(one, Keep) and one.name == name)

    def rows(self, name: str) -> pa.Table:
        return pa.concat_tables([one.rows for one in self.asked if isinstance(one, Emit) and one.table == name])


def assert_close(found: State, expected: State, within: float = 1e-4) -> None:
    assert found.tokens_seen == expected.tokens_seen
    for name, tensor in expected.tensors.items():
        assert relative(found.tensors[name].numpy(), tensor.numpy()) < within, name


def kept_state(model: Model, path: str, text: str, folder: Path) -> State:
    """The end state that a worker keeps of the text in a file."""
    ref = document(folder / "d.txt", text)
    rows = all_rows(Lives(worker_spec(folder / "run", path), [ref]).to_the_end())
    data = rows["d"]["d.end.arrow"]
    assert isinstance(data, bytes)
    return State.from_bytes(data, model)


class TestState:
    @pytest.mark.parametrize("sentences", [1, 9, 40])
    def test_the_state_kept_of_a_document_is_that_of_feeding_its_encoding_at_once(
        self, world: Model, world_path: str, tmp_path: Path, sentences: int
    ) -> None:
        text = prose(sentences)
        found = kept_state(world, world_path, text, tmp_path)

        assert_close(found, world.forward(world.tokenizer.encode(text), world.initial_state()).state)

    def test_the_state_kept_of_a_document_is_that_of_the_rwkv_package(
        self, world: Model, world_path: str, tmp_path: Path
    ) -> None:
        text = prose(12)
        found = kept_state(world, world_path, text, tmp_path)
        tensors = tiny_tensors(vocabulary=WORLD_VOCABULARY, layers=2)
        tokens = world.tokenizer.encode(text)
        _, slots = official(tensors, tokens, tmp_path, len(tokens))[len(tokens)]

        assert len(slots) == 6
        for layer in range(2):
            for slot, name in enumerate(("att_shift", "wkv", "ffn_shift")):
                tensor = found.tensors[name][layer].numpy()
                assert relative(tensor, slots[3 * layer + slot].reshape(tensor.shape)) < 1e-4

    @pytest.mark.parametrize("block", [1, 64, 10_000])
    def test_the_size_of_the_blocks_does_not_matter(self, model: Model, block: int) -> None:
        assert Reading(model, TEXT, block=block).state("end").to_bytes() == Reading(model, TEXT).state("end").to_bytes()

    def test_the_boundary_state_is_one_that_a_longer_document_goes_through(self, model: Model) -> None:
        boundary = Reading(model, TEXT).state("boundary")
        for more in (" And on.", "\n\nA new passage.", "s"):
            tokens = model.tokenizer.encode(TEXT + more)[: boundary.tokens_seen]

            assert_close(boundary, model.forward(tokens, model.initial_state()).state)
        assert 0 < boundary.tokens_seen <= len(model.tokenizer.encode(TEXT))

    def test_of_a_text_of_one_window_nothing_is_settled(self, model: Model) -> None:
        assert Reading(model, "One sentence.").state("boundary").tokens_seen == 0


class TestVectors:
    @pytest.mark.parametrize("pooling", ["embed_head", "mean"])
    def test_are_those_of_the_features_over_each_sentence_whatever_the_windows(
        self, model: Model, pooling: str
    ) -> None:
        reading = Reading(model, TEXT, pooling=pooling)
        tokens = model.tokenizer.encode(TEXT)
        pooler = reading.engine.pooler
        features = pooler.features(model.forward(tokens, model.initial_state()), tokens)
        rows = reading.rows("sentences").to_pylist()

        assert any(row["token_start"] // WINDOW != (row["token_end"] - 1) // WINDOW for row in rows)
        for row in rows:
            span = features[row["token_start"] : row["token_end"]]
            counts = np.array([len(span)], np.int64)
            expected = pooler.finish(span.sum(axis=0, keepdims=True, dtype=np.float32), span[-1:], counts)[0]
            assert np.allclose(row["embedding"], expected, atol=1e-4), row["text"]

    def test_a_sentence_longer_than_several_windows_has_one_vector(self, model: Model) -> None:
        text = "word and another " * 200 + "end.\n\nA short one."
        rows = Reading(model, text).rows("sentences").to_pylist()

        assert max(row["token_end"] - row["token_start"] for row in rows) > 3 * WINDOW
        assert all(abs(np.linalg.norm(row["embedding"]) - 1) < 1e-5 for row in rows)


class TestStopping:
    @pytest.fixture(scope="class")
    @classmethod
    def straight(cls, model: Model) -> dict[str, Reading]:
        return {pooling: Reading(model, TEXT, pooling=pooling) for pooling in ("embed_head", "mean")}

    @pytest.mark.parametrize("pooling", ["embed_head", "mean"])
    @settings(deadline=None, max_examples=20)
    @given(stops=st.sets(st.integers(0, 20)))
    def test_at_any_save_points_changes_no_bit_of_what_is_asked_for(
        self, model: Model, straight: dict[str, Reading], pooling: str, stops: set[int]
    ) -> None:
        stopped, expected_all = Reading(model, TEXT, tuple(stops), pooling=pooling), straight[pooling].asked

        assert len(stopped.asked) == len(expected_all)
        for found, expected in zip(stopped.asked, expected_all, strict=True):
            if isinstance(expected, Keep):
                assert isinstance(found, Keep)
                assert (found.name, found.state.to_bytes()) == (expected.name, expected.state.to_bytes())
            elif isinstance(expected, Boundary):
                assert isinstance(found, Boundary)
                assert found.standing.state.to_bytes() == expected.standing.state.to_bytes()
                assert to_json(memory_of(found.standing)) == to_json(memory_of(expected.standing))
            else:
                assert isinstance(found, Emit)
                assert (found.table, bits(found.rows)) == (expected.table, bits(expected.rows))

    def test_what_is_to_be_kept_does_not_grow_with_the_document(self, model: Model) -> None:
        sizes = []
        for sentences in (700, 2100):
            standing = Reading(model, prose(sentences)).standing
            assert standing is not None
            stored = Checkpoint(Identity(*"abcdef"), 1, standing.state.to_bytes(), None, memory_of(standing), {}, ())
            sizes.append(len(to_bytes(stored)))

        assert sizes[1] < 1.5 * sizes[0]


def test_the_row_of_a_document_counts_what_was_read(model: Model) -> None:
    (row,) = Reading(model, TEXT).rows("documents").to_pylist()

    assert row["chars"] == len(TEXT)
    assert row["bytes"] == len(TEXT.encode())
    assert row["tokens"] == row["tokens_read"] == len(model.tokenizer.encode(TEXT))
    assert (row["coverage"], row["status"], row["state_path"]) == (1.0, "ok", "states/d0.end.arrow")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_is_not_finite_ends_the_reading_at_that_token(model: Model, value: float) -> None:
    reader = Reader(
        MemoryDocument((TEXT,)),
        (),
        model.tokenizer,
        Engine(model, window=WINDOW, lanes=1).pooler,
        OPTIONS,
        model.initial_state(),
    )
    steps = reader.steps()
    assert isinstance(next(steps), Feed)
    state = model.initial_state()
    damaged = replace(state, tensors={name: tensor + value for name, tensor in state.tensors.items()})
    with pytest.raises(DocumentError, match=f"not finite behind token {WINDOW}") as caught:
        steps.send(Fed(damaged, None))

    assert caught.value.error_type == "nonfinite_state"
