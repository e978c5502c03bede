"""Words of several tokens count wherever a window ends, in every way in which texts are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import in_memory, vectors
from pipeline.alone import OpenText
from pipeline.segments import SplitOptions
from pipeline.values import from_json, to_json
from rwkv_runtime import Model, State, load
from rwkv_runtime.engine import Engine
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from tests.pipeline.embedded import rows
from tests.pipeline.readings import TOKENIZER, bpe_tensors, prose, save_model
from tests.rwkv_runtime.tiny import tiny_words

TEXT = prose(14) + "word and another " * 30 + "end.\n\nA short one."
SENTENCES = [" ".join(one.split()) for one in TEXT.split(". ")]


def over_windows(tokens: list[int]) -> list[tuple[int, ...]]:
    """Words of four tokens that lie across the ends of windows of 64."""
    return [tuple(tokens[end - 2 : end + 2]) for end in range(64, len(tokens) - 2, 64)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Has words across the windows of TEXT read as a document, and of SENTENCES read as one text of their own."""
    encode = BpeTokenizer.from_file(Path(TOKENIZER)).encode
    alone = [token for one in SENTENCES for token in encode(f" {one}")]
    words = dict.fromkeys([*over_windows(encode(TEXT)), *over_windows(alone), *over_windows(alone + alone)])
    return load(save_model(tmp_path_factory.mktemp("words") / "bpe", bpe_tensors() | tiny_words(list(words))))


def document(engine: Engine) -> np.ndarray:
    read = in_memory.read(in_memory.TextDocument(TEXT), engine, SplitOptions(engine.window, 2000))
    return np.concatenate([one.vectors for one in read])


def run(engine: Engine) -> np.ndarray:
    found = rows(engine.model, TEXT, window=engine.window)
    return np.array([row["embedding"] for row in found], np.float32)


def together(engine: Engine) -> np.ndarray:
    return vectors.read_together(engine, engine.model.initial_state(), SENTENCES).vectors


def alone(engine: Engine) -> np.ndarray:
    reader = vectors.alone(engine, ways=("isolated", "echo"))
    return np.stack([vectors.computed(engine, reader.vector(SENTENCES, way)) for way in reader.ways.values()])


@pytest.mark.parametrize("read", [document, run, together, alone])
def test_vectors_are_the_same_whatever_the_windows(model: Model, read: Callable[[Engine], np.ndarray]) -> None:
    small, large = (read(Engine(model, window=window, lanes=1)) for window in (64, 256))

    np.testing.assert_allclose(small, large, atol=1e-4)
    head = model.embedding_head
    assert head is not None
    if read is not run:  # it takes the model's own head
        without = read(Engine(model, window=64, lanes=1, pooling=replace(head, words=None)))
        assert np.abs(small - without).max() > 1e-2


@pytest.mark.parametrize("stops", [{0}, {1, 2}, set(range(12))])
@pytest.mark.parametrize("pooling", ["span", "isolated"])
def test_a_reading_that_goes_on_at_a_checkpoint_knows_the_words_across_it(
    model: Model, stops: set[int], pooling: str
) -> None:
    asked = {"unit": "document", "pooling": pooling}

    assert rows(model, TEXT, stops=frozenset(stops), **asked) == rows(model, TEXT, **asked)


def test_a_text_of_a_version_that_kept_no_tokens_in_front_is_gone_on_with(model: Model) -> None:
    engine = Engine(model, window=64, lanes=1)
    reader = vectors.alone(engine)
    way, text = reader.way("isolated"), reader.opened()
    for sentence in SENTENCES:
        text = vectors.computed(engine, reader.with_sentence(text, sentence, way))
    values = from_json(to_json(text.as_values()))  # type: ignore[arg-type]
    assert isinstance(values, dict) and len(text.recent) == 8

    def state(data: bytes) -> State:
        return State.from_bytes(data, model)

    assert OpenText.of(values, state).recent == text.recent
    del values["recent"]
    assert OpenText.of(values, state).recent == ()
