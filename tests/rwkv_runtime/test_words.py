"""Words of several tokens: which ends where, held to looking through all of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_runtime import load, weights
from rwkv_runtime.errors import ShapeError, WeightsError
from rwkv_runtime.weights.conversion import convert
from rwkv_runtime.weights.inspection import inspect
from rwkv_runtime.words import REACH, Words
from tests.pipeline.readings import bpe_tensors, save_model
from tests.rwkv_runtime.tiny import tiny_words, tokens_of

VOCABULARY = 5
"""So few tokens that words end nearly everywhere, and within each other."""

TOKEN = st.integers(0, VOCABULARY - 1)
WORD = st.lists(TOKEN, min_size=2, max_size=REACH).map(tuple)
TABLE = st.lists(WORD, min_size=1, max_size=30, unique=True)
STREAM = st.lists(TOKEN, max_size=60)


def words_of(words: list[tuple[int, ...]], vocabulary: int = VOCABULARY) -> Words:
    tensors = tiny_words(words)
    return Words.of(tensors["embed_head.words.weight"], tensors["embed_head.words.tokens"], vocabulary)


def looked_through(words: list[tuple[int, ...]], stream: list[int]) -> list[int]:
    """For each token the longest word that it ends, by trying all words."""
    numbers = {word: number for number, word in enumerate(words)}
    found = []
    for end in range(1, len(stream) + 1):
        ending = [tuple(stream[begin:end]) for begin in range(max(end - 2 * REACH, 0), end)]
        found.append(next((numbers[one] for one in ending if one in numbers), -1))
    return found


@given(words=TABLE, stream=STREAM)
@settings(deadline=None, max_examples=300)
def test_every_token_ends_the_longest_word_whose_tokens_end_there(words, stream):
    assert words_of(words).rows((), stream).tolist() == looked_through(words, stream)


@given(words=TABLE, stream=STREAM, cuts=st.lists(st.integers(0, 60), max_size=6))
@settings(deadline=None, max_examples=300)
def test_a_stream_in_pieces_has_the_words_of_the_whole_if_each_is_told_what_stood_before(words, stream, cuts):
    known, edges = words_of(words), [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for told in (known.context, REACH, 60):
        pieces = [
            known.rows(stream[max(begin - told, 0) : begin], stream[begin:end]).tolist()
            for begin, end in pairwise(edges)
        ]
        assert [row for piece in pieces for row in piece] == known.rows((), stream).tolist()


def test_the_context_is_what_the_longest_word_needs():
    assert words_of([(1, 2)]).context == 1
    assert words_of([(1, 2), (0,) * REACH]).context == REACH - 1


@pytest.mark.parametrize("vocabulary", [257, 65_536, 2**31 - 1])
def test_many_words_of_a_large_vocabulary_are_told_apart(vocabulary):
    tokens = tokens_of(6000, vocabulary=vocabulary)
    words = sorted({tuple(tokens[begin : begin + 2 + begin % 6]) for begin in range(0, 5990, 5)})
    assert words_of(words, vocabulary).rows(tokens[:7], tokens[7:]).tolist() == looked_through(words, tokens)[7:]


def test_vectors_are_added_at_the_last_token_of_a_word_alone():
    known, vectors = words_of([(1, 2), (0, 1, 2), (3, 3)]), torch.arange(5 * 24.0).reshape(5, 24)
    before = vectors.clone()
    found = known.added(vectors, [9 % VOCABULARY, 0, 1], [2, 1, 2, 4, 3])
    expected = vectors + torch.stack([known.weight[1], *torch.zeros(1, 24), known.weight[0], *torch.zeros(2, 24)])
    assert torch.equal(found, expected) and torch.equal(vectors, before)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 2], [3, 5]], r"word 1 has the tokens \[3, 5\], of which not all are below 5"),
        ([[1, 2], [-2, 3]], r"word 1 has the tokens \[-2, 3\], of which not all are below 5"),
        ([[1, 2, -1], [3, -1, 4]], r"word 1 has the tokens \[3, -1, 4\]; -1 may only stand behind the last"),
        ([[1, 2, 3], [-1, 3, 4]], r"word 1 has the tokens \[-1, 3, 4\]; -1 may only stand behind the last"),
        ([[1, 2], [3, -1]], r"word 1 has 1 token\(s\); a word has 2 to 8"),
        ([[1, 2], [-1, -1]], r"word 1 has 0 token\(s\); a word has 2 to 8"),
        ([[1, 2, *[-1] * 7], [3] * 9], r"word 1 has 9 token\(s\); a word has 2 to 8"),
        ([[1, 2, 3], [3, 4, -1], [1, 2, 3]], r"word 0 has the tokens \[1, 2, 3\], as another one has"),
    ],
)
def test_what_is_no_table_of_words_is_refused_in_one_line(tokens, message):
    with pytest.raises(WeightsError, match=f"^{message}$"):
        Words.of(torch.zeros(len(tokens), 4), torch.tensor(tokens, dtype=torch.int32), VOCABULARY)


@pytest.mark.parametrize(
    ("weight", "tokens", "message"),
    [
        ((2, 4), (3, 2), r"words of \[2, 4\] do not fit their tokens of \[3, 2\]"),
        ((2, 4), (2,), r"words of \[2, 4\] do not fit their tokens of \[2\]"),
        ((2,), (2, 2), r"words of \[2\] do not fit their tokens of \[2, 2\]"),
        ((0, 4), (0, 2), r"words of \[0, 4\] do not fit their tokens of \[0, 2\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(weight, tokens, message):
    with pytest.raises(ShapeError, match=f"^{message}$"):
        Words.of(torch.zeros(weight), torch.zeros(tokens, dtype=torch.int32), VOCABULARY)


def test_tokens_outside_of_the_vocabulary_are_refused_wherever_they_stand():
    known = words_of([(1, 2)])
    for before, tokens in (((), (1, 5)), ((5,), (1,)), ((-1,), (1,))):
        with pytest.raises(ShapeError, match="outside the model's 5 embedding rows"):
            known.rows(before, tokens)


@pytest.mark.parametrize("dtype", ["auto", "bf16"])
def test_tokens_of_words_are_no_parameters_and_are_converted_as_they_are(tmp_path: Path, dtype: str) -> None:
    tensors = bpe_tensors() | tiny_words([(300, 16_383), (7, 8, 9)])
    source = save_model(tmp_path / "model", tensors)
    (tmp_path / "new").mkdir()
    target = convert(source, tmp_path / "new" / "model.safetensors", dtype)

    tokens = weights.read(target).take_integers("embed_head.words.tokens", 2, 3)
    assert tokens.dtype == torch.int32 and torch.equal(tokens, tensors["embed_head.words.tokens"])
    assert inspect(target).parameters == sum(one.numel() for one in tensors.values()) - 6
    assert set(inspect(target).stored_as) == {"float32" if dtype == "auto" else "bfloat16"}
    head = load(target).embedding_head
    assert head is not None and head.words is not None
    assert head.words.rows((300,), (16_383, 7, 8, 9)).tolist() == [0, -1, -1, 1]
