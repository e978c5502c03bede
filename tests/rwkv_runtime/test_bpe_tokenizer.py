"""Byte-level BPE against the `tokenizers` library, on the shipped vocabulary and on one trained here."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from rwkv_runtime import tokenizers
from rwkv_runtime.errors import TokenizerError
from rwkv_runtime.tokenizers.bpe import GPT2_PATTERN, PATTERNS, UNIT, BpeTokenizer, byte_alphabet

SHIPPED = Path(tokenizers.__file__).parents[1] / "default" / "tokenizer.json"
BLANKS = [" ", "\t", "\n", "\r", "\v", "\f", "\x1c", "\x1f", "\x85", "\u00a0", "\u2003", "\u2028", "\u3000", "\u200b"]
WORDS = ["the", "don't", "we'll", "'s", "2025", "...", "=", "—", "naïve", "漢字", "привет", "👩‍👧", "<|endoftext|>"]
BLANK_RUNS = st.builds(lambda blank, length: blank * length, st.sampled_from(BLANKS), st.integers(1, 4))
SOUPS = st.builds("".join, st.lists(BLANK_RUNS, max_size=3))
TEXTS = st.builds("".join, st.lists(st.one_of(st.sampled_from(WORDS), SOUPS, st.text(max_size=6)), max_size=40))
# Stretches around the length at which a unit is cut, of one character, so that merges reach across the cut.
LONG_RUNS = st.builds(
    lambda part, length: (part * length)[:length],
    st.sampled_from(["a", "the", " ", "\n", "1", "=", "漢", "\u3000", "\x1c"]),
    st.one_of(st.integers(UNIT - 3, UNIT + 3), st.integers(2 * UNIT - 3, 2 * UNIT + 3)),
)
LONG_TEXTS = st.builds("".join, st.lists(st.one_of(TEXTS, LONG_RUNS), max_size=4))


def trained(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    """A vocabulary of 700 ids, as somebody would train it, with what would add tokens if it were let."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizer
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = Path(tokenizers.__file__).read_text(encoding="utf-8")
    inner.train_from_iterator(
        [text, "=\x1c=\x1c= \t\t\t\tx \r\r 漢字 漢字 aaaa aaaaaaaa the the    there\n\n\n====== привет " * 50], trainer
    )
    inner.post_processor = processors.TemplateProcessing(single="<pad> $A", special_tokens=[("<pad>", 1)])
    inner.enable_truncation(5)
    inner.enable_padding(length=64)
    return inner


@pytest.fixture(scope="module", params=["shipped", "gpt2"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "shipped":
        return SHIPPED
    path = tmp_path_factory.mktemp("gpt2") / "tokenizer.json"
    trained(pre_tokenizers.ByteLevel(add_prefix_space=False)).save(str(path))
    return path


@pytest.fixture(scope="module")
def ours(path: Path) -> tokenizers.Tokenizer:
    return tokenizers.load(path)


@pytest.fixture(scope="module")
def plain(path: Path) -> Callable[[str], list[int]]:
    """The library alone, on the whole text, with special strings as text."""
    inner = Tokenizer.from_file(str(path))
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = True
    return lambda text: list(inner.encode(text, add_special_tokens=False).ids)


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_any_text_encodes_as_in_the_library(
    text: str, ours: tokenizers.Tokenizer, plain: Callable[[str], list[int]]
) -> None:
    assert ours.encode(text) == plain(text)


def test_a_text_of_many_slices_encodes_as_in_the_library(
    ours: tokenizers.Tokenizer, plain: Callable[[str], list[int]]
) -> None:
    text = "".join(word + blank for word in WORDS for blank in [*BLANKS, "  ", " \n ", "\n\n\n"]) * 40
    assert len(text) > 10 * UNIT
    assert ours.encode(text) == plain(text)


def test_a_run_just_short_of_the_limit_encodes_as_in_the_library(
    ours: tokenizers.Tokenizer, plain: Callable[[str], list[int]]
) -> None:
    for run in ("a" * (UNIT - 1), " " * (UNIT - 2) + "b", "漢" * (UNIT - 1)):
        text = f"the{' ' if run[0] != ' ' else ''}{run} the {run}\n"
        assert ours.encode(text) == plain(text)


def test_a_longer_run_is_cut_at_multiples_of_the_limit_from_the_start_of_its_unit(
    ours: tokenizers.Tokenizer, plain: Callable[[str], list[int]]
) -> None:
    unit = " " + "a" * (2 * UNIT + 50)
    parts = ["some words", unit[:UNIT], unit[UNIT : 2 * UNIT], unit[2 * UNIT :], "\nmore"]
    assert ours.encode("".join(parts)) == [token for part in parts for token in plain(part)]


@settings(deadline=None, max_examples=150)
@given(text=LONG_TEXTS, data=st.data())
def test_a_text_in_parts_gives_the_tokens_of_the_whole(
    text: str, data: st.DataObject, ours: tokenizers.Tokenizer
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    stream, pieces = ours.stream(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces += stream.push(text[start:end])
    pieces += stream.finish()

    assert pieces == [(token, len(ours.token_bytes(token))) for token in ours.encode(text)]


@settings(deadline=None, max_examples=150)
@given(text=LONG_TEXTS, data=st.data())
def test_a_stream_goes_on_from_its_snapshot(text: str, data: st.DataObject, ours: tokenizers.Tokenizer) -> None:
    cut = data.draw(st.integers(0, len(text)))
    first = ours.stream()
    before = first.push(text[:cut])
    snapshot = first.snapshot()
    second = ours.stream(snapshot)
    after = second.push(text[cut:]) + second.finish()

    assert len(snapshot.decode()) < UNIT
    assert [token for token, _ in before + after] == ours.encode(text)


@pytest.mark.parametrize("solid", ["=", "a", "漢", "1"])
def test_no_kind_of_white_space_between_no_kind_of_characters_changes_a_token(
    solid: str, ours: tokenizers.Tokenizer, plain: Callable[[str], list[int]]
) -> None:
    for first in BLANKS:
        for second in ["", *BLANKS]:
            text = solid + (first + second + solid) * 2
            stream = ours.stream()
            pieces = [piece for character in text for piece in stream.push(character)] + stream.finish()
            assert ours.encode(text) == plain(text), repr(text)
            assert [token for token, _ in pieces] == plain(text), repr(text)


@pytest.mark.parametrize("length", range(UNIT - 3, UNIT + 4))
def test_a_run_of_about_the_limit_gives_the_same_tokens_wherever_it_is_parted(
    length: int, ours: tokenizers.Tokenizer
) -> None:
    text = ("the" * UNIT)[:length] + " end"
    for first in range(UNIT - 5, len(text)):
        stream = ours.stream()
        pieces = stream.push(text[:first]) + stream.push(text[first:]) + stream.finish()
        assert [token for token, _ in pieces] == ours.encode(text)


def test_one_character_at_a_time_gives_the_tokens_of_the_whole(ours: tokenizers.Tokenizer) -> None:
    text = "We'll see: 漢字\u3000 and\x1c more,\n\n\n  1234 <|endoftext|> end " * 4
    stream = ours.stream()
    pieces = [piece for character in text for piece in stream.push(character)] + stream.finish()
    assert [token for token, _ in pieces] == ours.encode(text)


@settings(deadline=None)
@given(text=TEXTS)
def test_decoding_undoes_encoding_and_spans_tile_the_text(text: str, ours: tokenizers.Tokenizer) -> None:
    data, encoding = text.encode(), ours.encode_with_offsets(text)

    assert ours.decode(encoding.ids) == text
    assert b"".join(data[start:end] for start, end in encoding.spans) == data
    assert [data[start:end] for start, end in encoding.spans] == [ours.token_bytes(t) for t in encoding.ids]


def test_white_space_that_a_cut_relies_on_is_white_space_for_the_library_and_for_python() -> None:
    """A free cut stands between what both take for no space (Python's is the larger set) and a blank of both."""
    split = pre_tokenizers.Split(Regex(r"\s"), "removed")
    ordinary = "".join(c for c in map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]) if not c.isspace())

    assert split.pre_tokenize_str(" \t\n\r") == []
    assert len(split.pre_tokenize_str(ordinary)) == 1


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@settings(deadline=None)
@given(text=TEXTS)
def test_no_known_pattern_puts_white_space_behind_another_character(pattern: str, text: str) -> None:
    pieces = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)
    for piece, _ in pieces:
        solid = piece.lstrip()
        assert not any(blank in solid for blank in " \t\n\r"), piece


def test_the_byte_alphabet_is_the_librarys() -> None:
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    for byte in range(0x80):
        [(piece, _)] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))
        assert byte_alphabet()[piece] == byte


def test_special_strings_in_a_text_are_text(ours: tokenizers.Tokenizer) -> None:
    assert 0 not in ours.encode("a <|endoftext|> b")
    assert ours.decode(ours.encode("a <|endoftext|> b")) == "a <|endoftext|> b"
    assert ours.decode([0, *ours.encode("a"), 0]) == "a"


def test_rows_without_an_id_decode_to_the_replacement_character(ours: tokenizers.Tokenizer) -> None:
    assert ours.decode([ours.vocab_size]) == "\ufffd"
    for token in (-1, ours.vocab_size + tokenizers.PADDING_ROWS):
        with pytest.raises(TokenizerError, match="outside the vocabulary"):
            ours.decode([token])


def test_a_lone_surrogate_is_an_error_that_names_its_place(ours: tokenizers.Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate U\\+D800 at character 1"):
        ours.encode("a\ud800")
    with pytest.raises(TokenizerError, match="at character 0"):
        ours.stream().push("\udfff")


def test_a_snapshot_that_no_stream_can_have_made_is_refused(ours: tokenizers.Tokenizer) -> None:
    for snapshot in (b"\xff", b"x" * UNIT):
        with pytest.raises(TokenizerError, match="another tokenizer"):
            ours.stream(snapshot)


def test_the_shipped_vocabulary_has_the_rows_of_the_shipped_model_and_its_files_hash() -> None:
    shipped = BpeTokenizer.from_file(SHIPPED)
    tokenizers.check_fits(shipped, 16384)
    with pytest.raises(TokenizerError, match="16384 ids, but the model has 65536"):
        tokenizers.check_fits(shipped, 65536)
    assert shipped.fingerprint == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(trained(pre_tokenizers.ByteLevel(add_prefix_space=False)).to_str())
    return spec


def changed(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        for key in path[:-1]:
            spec = spec[key]
        spec[path[-1]] = value

    return change


def split(pattern: str, **options: Any) -> dict[str, Any]:
    ends = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    first = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False, **options}
    return {"type": "Sequence", "pretokenizers": [first, ends]}


LLAMA_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BLANKS_ADDED = {"id": 900, "content": "  ", "single_word": False, "lstrip": False, "rstrip": False}
MERGED_SPECIAL = {"id": 2, "content": "!", "single_word": False, "lstrip": False, "rstrip": False}

REFUSED = {
    "a normalizer": (changed(["normalizer"], json.loads(normalizers.NFKC().__getstate__())), "normalizer (NFKC)"),
    "a blank that takes others": (
        lambda spec: spec["added_tokens"].append(
            {**BLANKS_ADDED, "lstrip": True, "normalized": True, "special": False}
        ),
        "'  ' is not special",
    ),
    "no splitting": (changed(["pre_tokenizer"], None), "does not end with ByteLevel"),
    "an empty sequence": (changed(["pre_tokenizer"], {"type": "Sequence", "pretokenizers": []}), "end with ByteLevel"),
    "a prefix space": (changed(["pre_tokenizer", "add_prefix_space"], True), "without add_prefix_space"),
    "bytes not split": (changed(["pre_tokenizer", "use_regex"], False), "not known to allow reading in parts"),
    "an unknown pattern": (changed(["pre_tokenizer"], split(LLAMA_PATTERN)), "not known to allow reading in parts"),
    "removed blanks": (changed(["pre_tokenizer"], split(GPT2_PATTERN, behavior="Removed")), "not known to allow"),
    "a word suffix": (changed(["model", "end_of_word_suffix"], "</w>"), "sets end_of_word_suffix"),
    "dropout": (changed(["model", "dropout"], 0.1), "sets dropout"),
    "a plain added token": (changed(["added_tokens", 0, "special"], False), "'<|endoftext|>' is not special"),
    "a special token that is text": (
        lambda spec: spec["added_tokens"].append({**MERGED_SPECIAL, "normalized": False, "special": True}),
        "the text '!' encodes to the special token",
    ),
    "a token that is no bytes": (changed(["model", "vocab", "a b"], 700), "'a b' is not made of byte characters"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_change_or_lose_text_is_refused(what: str, good: dict[str, Any], tmp_path: Path) -> None:
    change, reason = REFUSED[what]
    spec = json.loads(json.dumps(good))
    change(spec)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(spec))
    with pytest.raises(TokenizerError) as raised:
        BpeTokenizer.from_file(path)
    assert reason in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_known_pattern_in_a_split_is_accepted(good: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(good | {"pre_tokenizer": split(GPT2_PATTERN)}))
    (tmp_path / "good.json").write_text(json.dumps(good))
    text = "We'll see the  漢字\n\n 12"
    assert BpeTokenizer.from_file(path).encode(text) == BpeTokenizer.from_file(tmp_path / "good.json").encode(text)


def test_a_vocabulary_without_a_single_byte_is_refused(good: dict[str, Any], tmp_path: Path) -> None:
    spec = json.loads(json.dumps(good))
    gone = "þ"
    spec["model"]["vocab"].pop(gone)
    spec["model"]["merges"] = [pair for pair in spec["model"]["merges"] if gone not in "".join(pair)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(TokenizerError, match="no token for the single byte 0xfe"):
        BpeTokenizer.from_file(tmp_path / "tokenizer.json")


def other_kinds() -> Iterator[tuple[str, bytes]]:
    yield "WordPiece", Tokenizer(models.WordPiece({"a": 0}, unk_token="a")).to_str().encode()
    yield "Unigram", Tokenizer(models.Unigram([("a", 0.0)], 0)).to_str().encode()
    yield "is no tokenizer.json", b"{}"
    yield "is no tokenizer.json", b"[" * 10_000
    yield "is no tokenizer.json", b"\xff\xfe"
    yield "is no tokenizer.json", SHIPPED.read_bytes()[:-5]


@pytest.mark.parametrize(("reason", "content"), list(other_kinds()))
def test_a_file_of_another_kind_or_a_damaged_one_is_refused(reason: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=reason) as raised:
        tokenizers.load(tmp_path / "tokenizer.json")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="No such file"):
        tokenizers.load(tmp_path / "tokenizer.json")
