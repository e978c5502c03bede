"""Vectors of sentences, sections, windows and documents: each depends on what it is of and on how it is read alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import alone, vectors
from pipeline.errors import OptionError
from pipeline.units import LONGEST_TEXT
from rwkv_runtime import Model, load
from rwkv_runtime.engine import Engine
from tests.pipeline.embedded import rows
from tests.pipeline.memory_document import MemoryDocument
from tests.pipeline.readings import (
    Lives,
    all_rows,
    assert_same_rows,
    bpe_tensors,
    document,
    prose,
    save_model,
    worker_spec,
)

SECTIONS = ("Beginning", "Beginning", None, "Middle", "End")
TEXTS = (prose(4), prose(3, seed=1), "Alone here. ", prose(6, seed=2) + "word and another " * 70 + "end. ", "Bye.")
CASES = [
    *({"unit": "section", "pooling": pooling} for pooling in ("span", "isolated", "eol", "contextual+isolated")),
    *({"unit": "window", "tokens": 40, "pooling": pooling} for pooling in ("span", "isolated", "eol", "echo")),
    *({"unit": "document", "pooling": pooling} for pooling in ("span", "isolated", "eol")),
    *({"unit": "sentence", "pooling": pooling} for pooling in ("span", "isolated", "eol", "echo")),
    {"unit": "sentence", "pooling": "contextual+isolated"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_model(tmp_path_factory.mktemp("units") / "bpe", bpe_tensors()))


def sectioned(block: int = 10_000) -> MemoryDocument:
    """The texts, each in its section, in blocks of so many characters."""
    pairs = zip(TEXTS, SECTIONS, strict=True)
    blocks = [(text[i : i + block], name) for text, name in pairs for i in range(0, len(text), block)]
    return MemoryDocument(tuple(text for text, _ in blocks), tuple(name for _, name in blocks))


def embedding(row: dict[str, object]) -> np.ndarray:
    return np.array(row["embedding"], np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
@settings(deadline=None, max_examples=3)
@given(stops=st.frozensets(st.integers(0, 12)), block=st.integers(1, 400))
def test_where_a_reading_is_interrupted_and_how_the_text_arrives_changes_no_bit(
    model: Model, case: dict[str, object], stops: frozenset[int], block: int
) -> None:
    assert rows(model, sectioned(block), stops=stops, **case) == rows(model, sectioned(), **case)


@pytest.mark.parametrize("unit", ["section", "window", "document"])
def test_the_units_of_a_text_are_its_sentences_each_in_one_with_true_spans(model: Model, unit: str) -> None:
    text = "".join(TEXTS)
    found = rows(model, sectioned(), unit=unit, tokens=40)
    sentences = rows(model, sectioned())

    assert sum(row["sentences"] for row in found) == len(sentences)
    assert [row["index"] for row in found] == list(range(len(found)))
    place = 0
    for row in found:
        own = sentences[place : place + row["sentences"]]
        place += row["sentences"]
        assert row["sentence_id"] == own[0]["id"]
        for side, one in (("start", own[0]), ("end", own[-1])):
            assert all(row[f"{kind}_{side}"] == one[f"{kind}_{side}"] for kind in ("byte", "char", "token"))
        assert text[row["char_start"] :].startswith(row["text"])
        assert len(row["text"]) <= max(LONGEST_TEXT, len(own[0]["text"]))
        if unit == "section":
            assert {one["section"] for one in own} == {row["section"]}
        if unit == "window":
            assert len({(one["token_end"] - 1) // 40 for one in own}) == 1


@pytest.mark.parametrize("pooling", ["isolated", "eol", "echo"])
def test_a_unit_read_by_itself_is_the_same_whatever_stands_around_it(model: Model, pooling: str) -> None:
    [alone_row] = rows(model, "A short one.", pooling=pooling)
    behind = rows(model, TEXTS[0] + "\n\nA short one.\n\n" + TEXTS[1], pooling=pooling)

    [found] = [row for row in behind if row["text"] == "A short one."]
    assert found["embedding"] == alone_row["embedding"]
    assert np.array_equal(embedding(found), vectors.isolated(engine(model), ["A short one."], pooling)[0])


def engine(model: Model, window: int = 64) -> Engine:
    return Engine(model, window=window, lanes=1)


@pytest.mark.parametrize("pooling", ["isolated", "eol"])
def test_a_section_read_by_itself_is_its_sentences_read_as_one_text(model: Model, pooling: str) -> None:
    found = rows(model, sectioned(), unit="section", pooling=pooling)
    sentences = rows(model, sectioned())
    machine = engine(model)
    reader = vectors.alone(machine, ways=[pooling])
    place = 0
    for row in found:
        texts = [one["text"] for one in sentences[place : place + row["sentences"]]]
        place += row["sentences"]
        expected = vectors.computed(machine, reader.vector(texts, reader.way(pooling)))
        assert np.array_equal(embedding(row), expected)


@pytest.mark.parametrize(
    ("pooling", "laid", "pooled"),
    [
        ("isolated", lambda text, tail: text, lambda text, tail: slice(0, len(text))),
        ("eol", lambda text, tail: text + tail, lambda text, tail: slice(len(text + tail) - 1, None)),
        ("echo", lambda text, tail: text + text, lambda text, tail: slice(len(text), None)),
    ],
)
def test_each_way_pools_the_tokens_that_it_says(
    model: Model,
    pooling: str,
    laid: Callable[[list[int], list[int]], list[int]],
    pooled: Callable[[list[int], list[int]], slice],
) -> None:
    """Held to the whole sequence read in one piece."""
    sentence, tail = "word and another " * 30, model.tokenizer.encode(alone.READOUT)
    text = model.tokenizer.encode(" " + sentence.strip())
    tokens = laid(text, tail)
    pooler = engine(model).pooler
    output = model.forward(tokens, model.initial_state(), logits="none")
    rows_of = pooler.features(output, tokens)[pooled(text, tail)]
    expected = pooler.finish(rows_of.sum(axis=0)[None], rows_of[-1:], np.array([len(rows_of)]))[0]

    np.testing.assert_allclose(vectors.isolated(engine(model), [sentence], pooling)[0], expected, atol=2e-5)


def test_both_kinds_behind_each_other_have_the_mean_of_their_cosines(model: Model) -> None:
    both = [embedding(row) for row in rows(model, sectioned(), pooling="contextual+isolated")]
    kinds = [[embedding(row) for row in rows(model, sectioned(), pooling=one)] for one in ("span", "isolated")]

    for one in range(len(both)):
        mean = np.mean([float(kind[one] @ kind[0]) for kind in kinds])
        assert abs(float(both[one] @ both[0]) - mean) < 1e-5


class TestEos:
    """EmbeddingRWKV's layout, by its own description: 4 EOS tokens a context of 2,048, alignment to 16."""

    @pytest.mark.parametrize("count", [1, 5, 511, 512, 777, 2044, 2045, 5000])
    def test_a_text_is_whole_and_in_order_between_its_eos_tokens(self, count: int) -> None:
        text = list(range(300, 300 + count))
        laid = alone.laid_with_eos(text)
        tokens = [token for token, _ in laid]
        begin = next(place for place, token in enumerate(tokens) if token != 261)
        kept = [token for token in tokens[begin:] if token != alone.EOS]

        assert len(tokens) % 16 == 0 and begin < 16
        assert [pooled for _, pooled in laid] == [token == alone.EOS for token in tokens]
        assert kept == (text * 4 if count < 512 else text)
        assert tokens.count(alone.EOS) == 4 * (-(-count // 2048) if count > 2044 else 1)
        assert tokens[-1] == alone.EOS

    def test_a_model_without_that_token_cannot_be_read_so(self, model: Model) -> None:
        with pytest.raises(OptionError, match="multi-eos reads token 65535, but the model has 16,384"):
            vectors.alone(engine(model), ways=["multi-eos"])


def test_what_is_held_of_a_text_is_bounded_where_its_length_is_not(model: Model) -> None:
    machine = engine(model)
    for pooling in ("isolated", "eol"):
        reader = vectors.alone(machine, ways=[pooling])
        text = reader.opened()
        for _ in range(40):
            steps = reader.with_sentence(text, "word and another " * 5, reader.way(pooling))
            text = vectors.computed(machine, steps)
            assert len(text.waiting) < 64 and not text.held


def test_what_a_worker_reads_beside_it_changes_no_bit(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "bpe", bpe_tensors())
    tasks = [
        {"name": "all", "type": "embed", "unit": "sentence", "pooling": "contextual+isolated"},
        *({"name": unit, "type": "embed", "unit": unit, "pooling": "isolated"} for unit in ("section", "window")),
    ]
    refs = [document(tmp_path / f"{name}.md", prose(12, seed)) for seed, name in enumerate("abc")]
    found = []
    for lanes in (1, 3):
        run = tmp_path / f"run{lanes}"
        found.append(all_rows(Lives(worker_spec(run, folder, tasks=tuple(tasks), lanes=lanes), refs).to_the_end()))

    assert {"sentences", "vectors"} <= found[0]["a"].keys()
    assert_same_rows(found[1], found[0])
