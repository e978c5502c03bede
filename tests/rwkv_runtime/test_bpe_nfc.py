"""Byte-level BPE with NFC and runs of blanks as added tokens, like the 20B vocabulary, against `tokenizers`."""

from __future__ import annotations

import json
import unicodedata
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from rwkv_runtime import tokenizers
from rwkv_runtime.tokenizers.bpe import UNIT
from tests.rwkv_runtime.naughty import NAUGHTY

PARTS = [
    *(
        "e\u0301",
        "é",
        "e",
        "\u0301",
        "\u0327",
        "\u212b",
        "\u0958",
        "\u1112",
        "\u1161",
        "\u11ab",
        "\ud558",
        "q\u0301\u0327",
    ),
    *(
        "\u2000",
        "\u037e",
        "\u09c7\u09be",
        "🙂",
        "水",
        " the",
        "a",
        "ab",
        " ",
        "  ",
        "\n",
        "     ",
        " \u0301",
        "\t\u0327",
    ),
]
TEXTS = st.builds("".join, st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=40))
LONG_RUNS = st.builds(
    lambda part, before, length: ("x" * before + part * length)[: length + before],
    st.sampled_from([part for part in PARTS if part.strip() and " " not in part]),
    st.integers(0, 3),
    st.integers(UNIT - 70, 2 * UNIT + 3),
)
LONG_TEXTS = st.builds("".join, st.lists(st.one_of(TEXTS, LONG_RUNS), max_size=3))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary made as the 20B one is: NFC, GPT-2's pattern, runs of 2 to 24 blanks, two special tokens."""
    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([Path(tokenizers.__file__).read_text("utf-8"), "é éé 하하 水水 ab the\n\n" * 50], trainer)
    inner.add_tokens([AddedToken(" " * count, normalized=True) for count in range(24, 1, -1)])
    path = tmp_path_factory.mktemp("nfc") / "tokenizer.json"
    inner.save(str(path))
    return path


@pytest.fixture(scope="module")
def ours(path: Path) -> tokenizers.Tokenizer:
    return tokenizers.load(path)


@pytest.fixture(scope="module")
def plain(path: Path) -> Tokenizer:
    inner = Tokenizer.from_file(str(path))
    inner.encode_special_tokens = True
    return inner


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_any_text_encodes_as_in_the_library(text: str, ours: tokenizers.Tokenizer, plain: Tokenizer) -> None:
    assert ours.encode(text) == plain.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", NAUGHTY, ids=range(len(NAUGHTY)))
def test_naughty_texts_decode_to_their_nfc_form(text: str, ours: tokenizers.Tokenizer) -> None:
    assert ours.decode(ours.encode(text)) == unicodedata.normalize("NFC", text)


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_spans_tile_the_original_text_and_begin_where_the_library_says(
    text: str, ours: tokenizers.Tokenizer, plain: Tokenizer
) -> None:
    spans = ours.encode_with_offsets(text).spans
    byte_of = [len(text[:place].encode()) for place in range(len(text) + 1)]
    starts = [byte_of[start] for start, _ in plain.encode(text, add_special_tokens=False).offsets]

    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == len(text.encode())
    # Tokens within one character begin, by the library, where it does: of these only the first is compared.
    heads = [next(group) for _, group in groupby(range(len(starts)), lambda token: starts[token])]
    assert [spans[token][0] for token in heads] == [starts[token] for token in heads]


@settings(deadline=None)
@given(text=TEXTS)
def test_spans_in_a_normal_text_are_the_bytes_of_the_tokens(text: str, ours: tokenizers.Tokenizer) -> None:
    text = unicodedata.normalize("NFC", text)
    data, encoding = text.encode(), ours.encode_with_offsets(text)

    assert [data[start:end] for start, end in encoding.spans] == [ours.token_bytes(token) for token in encoding.ids]


@settings(deadline=None, max_examples=100)
@given(text=LONG_TEXTS, data=st.data())
def test_a_text_in_parts_gives_the_tokens_of_the_whole(
    text: str, data: st.DataObject, ours: tokenizers.Tokenizer
) -> None:
    whole = ours.encode_with_offsets(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    stream, pieces = ours.stream(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces += stream.push(text[start:end])
        assert len(stream.snapshot().decode()) < UNIT
        stream = ours.stream(stream.snapshot())
    pieces += stream.finish()

    assert pieces == [(token, end - start) for token, (start, end) in zip(whole.ids, whole.spans, strict=True)]


@settings(deadline=None, max_examples=60)
@given(text=LONG_TEXTS)
def test_a_cut_that_had_to_be_made_parts_no_character_that_composes(text: str, ours: tokenizers.Tokenizer) -> None:
    if "\u0301" * 3 not in text and "\u0327" * 3 not in text:  # more marks than any language puts on one letter
        assert ours.decode(ours.encode(text)) == unicodedata.normalize("NFC", text)


def test_the_special_tokens_of_the_vocabulary_are_text_when_they_stand_in_a_text(ours: tokenizers.Tokenizer) -> None:
    assert ours.decode(ours.encode("a<|endoftext|>b")) == "a<|endoftext|>b"
    assert not {0, 1} & set(ours.encode("a<|endoftext|>b<|padding|>"))


def test_runs_of_blanks_are_their_own_tokens(ours: tokenizers.Tokenizer, path: Path) -> None:
    added = {token["content"]: token["id"] for token in json.loads(path.read_text())["added_tokens"]}

    assert ours.encode(" " * 26) == [added[" " * 24], added["  "]]
    assert ours.token_bytes(added[" " * 7]) == b" " * 7
