"""The World tokenizer against the `rwkv` package's, and what streaming and damaged files must do."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

from rwkv_runtime import tokenizers
from rwkv_runtime.errors import TokenizerError
from rwkv_runtime.tokenizers import rust_world
from rwkv_runtime.tokenizers.world import WorldTokenizer, shipped_fingerprint, shipped_vocabulary
from tests.rwkv_runtime.naughty import LONE_SURROGATES, NAUGHTY, random_texts

PUBLISHED_SHA256 = "e6dee3d4e31b4d5c40ac99508ac6c701ceef4bed681bf2167ce9a908552bca89"  # BlinkDL's file, LF
WORLD = WorldTokenizer.shipped()
BY_RULE = WorldTokenizer(shipped_vocabulary(), WORLD.fingerprint, find_bulk=lambda _: None)

SAMPLES = [
    "The quick brown fox, 3.14159 and 2,000,000; don't!\r\n\tTabs\u00a0and nbsp.",
    "Größe, Ærøskøbing, naïve café — “quotes” … e\u0301 é",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "いろはにほへと ちりぬるを。漢字とカタカナ、全角ABC。\n\n次の段落",
    "天地玄黄,宇宙洪荒。日月盈昃,辰宿列张。",
    "다람쥐 헌 쳇바퀴에 타고파.",
    "صِف خَلقَ خَودٍ كَمِثلِ الشَمسِ إِذ بَزَغَت",
    "עטלף אבק נס דרך מזגן שהתפוצץ כי חם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "👩‍👩‍👧‍👦 🏳️‍🌈 ✿ 🇩🇪 \U0010ffff",
    "<s> <|endoftext|> [PAD65530] User: hi\n\nAssistant: <think>ok</think>",
    " " * 300 + "x" + "\n" * 50 + "=" * 200,
    "def f(x):\n    return {'a': [1, 2], \"b\": x ** 2}  # comment\n",
    "\x00\x01\x7f\x80\ufeff\ufffd\u2028",
]
# Text in which long and overlapping tokens are likely, among all of Unicode.
TEXTS = st.lists(st.one_of(st.text(max_size=12), st.sampled_from([*SAMPLES, " ", "\n", " the", "ing", "    "]))).map(
    "".join
)


@pytest.fixture(scope="module")
def reference() -> TRIE_TOKENIZER:
    package = find_spec("rwkv")
    assert package is not None
    assert package.origin is not None
    return TRIE_TOKENIZER(str(Path(package.origin).with_name("rwkv_vocab_v20230424.txt")))


@pytest.mark.parametrize("text", SAMPLES)
def test_every_script_encodes_as_in_the_rwkv_package(text: str, reference: TRIE_TOKENIZER) -> None:
    assert WORLD.encode(text) == reference.encode(text)


@settings(deadline=None)
@given(text=TEXTS)
def test_any_text_encodes_as_in_the_rwkv_package(text: str, reference: TRIE_TOKENIZER) -> None:
    assert WORLD.encode(text) == reference.encode(text)


def test_ten_thousand_random_texts_encode_as_in_the_rwkv_package(reference: TRIE_TOKENIZER) -> None:
    texts = random_texts(9_500, 60, seed=1) + random_texts(500, 600, seed=2)

    assert [text for text in texts if WORLD.encode(text) != reference.encode(text)] == []


@pytest.mark.parametrize("text", NAUGHTY, ids=range(len(NAUGHTY)))
def test_naughty_texts_encode_as_in_the_rwkv_package_and_come_back(text: str, reference: TRIE_TOKENIZER) -> None:
    assert WORLD.encode(text) == BY_RULE.encode(text) == reference.encode(text)
    assert WORLD.decode(WORLD.encode(text)) == text


@pytest.mark.parametrize("text", LONE_SURROGATES, ids=ascii)
@pytest.mark.parametrize("tokenizer", [WORLD, BY_RULE], ids=["rust", "rule"])
def test_lone_surrogates_are_refused(text: str, tokenizer: WorldTokenizer) -> None:
    for refuse in (tokenizer.encode, tokenizer.encode_with_offsets, tokenizer.stream().push):
        with pytest.raises(TokenizerError, match="lone surrogate"):
            refuse(text)


@settings(deadline=None)
@given(text=st.one_of(TEXTS, st.text(alphabet="é🙂水a\n")), times=st.integers(20, 60), data=st.data())
def test_a_long_text_in_parts_gives_the_tokens_of_the_rule(text: str, times: int, data: st.DataObject) -> None:
    """Parts of more than BULK bytes go through the Rust encoder, and pending bytes may start inside a character."""
    text *= times
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    stream, rule = WORLD.stream(), BY_RULE.stream()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        assert stream.push(text[start:end]) == rule.push(text[start:end])
        assert stream.snapshot() == rule.snapshot()
    assert stream.finish() == rule.finish()


@pytest.mark.parametrize("character", ["a", " ", "\n", "\x00", "é", "🙂"], ids=ascii)
def test_a_megabyte_of_one_character_is_read_at_once_and_in_parts_alike(character: str) -> None:
    text = character * (1_000_000 // len(character.encode()))
    stream = WORLD.stream()
    parts = [stream.push(text[start : start + 10_007]) for start in range(0, len(text), 10_007)]

    ids = [token for part in [*parts, stream.finish()] for token, _ in part]
    assert ids == WORLD.encode(text) == BY_RULE.encode(text)


def test_the_rust_encoder_is_used_for_its_own_vocabulary_only() -> None:
    pytest.importorskip("pyrwkv_tokenizer", reason="there is no build of it for this Python")
    assert rust_world.encoder(PUBLISHED_SHA256) is not None
    assert rust_world.encoder("0" * 64) is None


def test_every_token_of_the_rwkv_package_has_the_same_bytes_here(reference: TRIE_TOKENIZER) -> None:
    assert {token: WORLD.token_bytes(token) for token in range(1, WORLD.vocab_size)} == reference.idx2token


@settings(deadline=None)
@given(text=TEXTS)
def test_decoding_undoes_encoding(text: str) -> None:
    assert WORLD.decode(WORLD.encode(text)) == text


@settings(deadline=None)
@given(text=TEXTS)
def test_spans_cover_the_bytes_of_their_tokens_without_a_gap(text: str) -> None:
    data, encoding = text.encode(), WORLD.encode_with_offsets(text)

    assert encoding.ids == WORLD.encode(text)
    assert [data[start:end] for start, end in encoding.spans] == [WORLD.token_bytes(t) for t in encoding.ids]
    assert [start for start, _ in encoding.spans] == [0, *(end for _, end in encoding.spans)][: len(encoding.ids)]


@settings(deadline=None)
@given(text=TEXTS, data=st.data())
def test_a_text_in_parts_gives_the_tokens_of_the_whole(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    stream, pieces = WORLD.stream(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces += stream.push(text[start:end])
    pieces += stream.finish()

    assert pieces == [(token, len(WORLD.token_bytes(token))) for token in WORLD.encode(text)]


@settings(deadline=None)
@given(text=TEXTS, data=st.data())
def test_a_stream_goes_on_from_its_snapshot(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    first = WORLD.stream()
    before = first.push(text[:cut])
    snapshot = first.snapshot()
    second = WORLD.stream(snapshot)
    after = second.push(text[cut:]) + second.finish()

    assert len(snapshot) < 128
    assert [token for token, _ in before + after] == WORLD.encode(text)


@pytest.mark.parametrize("first", range(129))
def test_the_longest_token_is_found_wherever_its_bytes_are_parted(first: int) -> None:
    longest = WORLD.token_bytes(65529).decode()
    stream = WORLD.stream()
    assert len(longest) == 128
    assert stream.push(longest[:first]) + stream.push(longest[first:]) + stream.finish() == [(65529, 128)]


def test_tokens_come_out_of_a_stream_while_the_text_goes_on() -> None:
    stream = WORLD.stream()
    assert sum(length for _, length in stream.push("word " * 1000)) > 5000 - 128


def test_a_finished_stream_is_as_new() -> None:
    stream = WORLD.stream()
    stream.push("one text")
    stream.finish()
    assert (stream.snapshot(), stream.finish()) == (b"", [])


def test_the_fingerprint_is_the_hash_of_the_published_file_whatever_its_line_ends(tmp_path: Path) -> None:
    package = find_spec("rwkv")
    assert package is not None
    assert package.origin is not None
    with_crlf = Path(package.origin).with_name("rwkv_vocab_v20230424.txt")

    assert b"\r\n" in with_crlf.read_bytes()
    assert tokenizers.load(with_crlf).fingerprint == PUBLISHED_SHA256
    assert tokenizers.load(None).fingerprint == PUBLISHED_SHA256
    assert shipped_fingerprint() == PUBLISHED_SHA256


def test_end_of_text_decodes_to_nothing_and_unused_ids_to_the_replacement_character() -> None:
    assert WORLD.decode([0, *WORLD.encode("a"), 0]) == "a"
    assert WORLD.decode([65530, 65535]) == "\ufffd\ufffd"


@pytest.mark.parametrize("token", [-1, 70000])
def test_a_token_of_no_model_is_an_error(token: int) -> None:
    with pytest.raises(TokenizerError, match="outside the vocabulary of 65530 ids"):
        WORLD.decode([token])


def test_half_a_character_decodes_to_the_replacement_character() -> None:
    assert WORLD.decode([0xF0 + 1, 0x9F + 1]) == "\ufffd"


def test_a_lone_surrogate_is_an_error_that_names_its_place() -> None:
    with pytest.raises(TokenizerError, match="lone surrogate U\\+DC80 at character 2"):
        WORLD.encode("ab\udc80")
    stream = WORLD.stream()
    stream.push("ab")
    with pytest.raises(TokenizerError, match="at character 0"):
        stream.push("\ud800")
    assert [token for token, _ in stream.finish()] == WORLD.encode("ab")


def test_a_snapshot_that_no_world_stream_can_have_made_is_refused() -> None:
    with pytest.raises(TokenizerError, match="another tokenizer"):
        WORLD.stream(b"x" * 128)


def test_the_shipped_vocabulary_loads_without_torch() -> None:
    code = (
        "import sys; from rwkv_runtime import tokenizers; tokenizers.load(None);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'tokenizers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_a_model_may_have_rows_without_an_id_but_no_id_without_a_row() -> None:
    tokenizers.check_fits(WORLD, 65536)
    tokenizers.check_fits(WORLD, 65530)
    for rows in (65529, 65530 + 2049):
        with pytest.raises(TokenizerError, match=f"65530 ids, but the model has {rows} embedding rows"):
            tokenizers.check_fits(WORLD, rows)


BYTE_LINES = [f"{byte + 1} {bytes([byte])!r} 1" for byte in range(256)]


def vocabulary(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*BYTE_LINES, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_vocabulary_of_ones_own_encodes_with_its_longest_tokens(tmp_path: Path) -> None:
    path = vocabulary(tmp_path, "257 'ab' 2", "258 'abcdefg' 7", '259 "it\'s" 4', "300 ' x y' 4")
    own = tokenizers.load(path)

    assert own.encode("abcdefgabcdef") == [258, 257, *(ord(c) + 1 for c in "cdef")]
    assert own.encode("it's x y") == [259, 300]
    assert own.vocab_size == 301


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("257 'ab'", "expected `ID 'text' BYTES`"),
        ("", "expected `ID 'text' BYTES`"),
        ("x 'ab' 2", "expected `ID 'text' BYTES`"),
        ("257 'ab' two", "expected `ID 'text' BYTES`"),
        ("257 '" + "a" * 5000 + "' 5000", "expected `ID 'text' BYTES`"),
        ("257 ab 2", "expected a quoted text or bytes"),
        ("257 ['a'] 1", "expected a quoted text or bytes"),
        ("257 'a'+'b' 2", "expected a quoted text or bytes"),
        ("257 '\\ud800' 3", "surrogates not allowed"),
        ("257 __import__('os').getcwd() 2", "expected a quoted text or bytes"),
        ("257 " + "(" * 3000 + " 2", "expected a quoted text or bytes"),
        ("257 " + "-" * 3000 + "1 2", "expected a quoted text or bytes"),
        ("257 'ab' 3", "the token has 2 bytes, the line says 3"),
        ("257 'ä' 1", "the token has 2 bytes, the line says 1"),
        ("257 '' 0", "the token has 0 bytes"),
        ("7 'ab' 2", "id 7 is given twice"),
        ("257 'a' 1", "already that of id 98"),
        ("0 'ab' 2", "id 0 is the end of text"),
    ],
)
def test_a_bad_line_is_an_error_that_names_it(tmp_path: Path, line: str, reason: str) -> None:
    path = vocabulary(tmp_path, line, "400 'zz' 2")
    with pytest.raises(TokenizerError) as raised:
        WorldTokenizer.from_file(path)
    assert str(raised.value).startswith(f"{path}:257: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_vocabulary_without_a_single_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(BYTE_LINES[:0x41] + BYTE_LINES[0x42:]))
    with pytest.raises(TokenizerError, match=r"vocab.txt:255: ends without a token for the single byte 0x41"):
        WorldTokenizer.from_file(path)


def test_a_vocabulary_that_is_no_text_or_is_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"1 'a' 1\n\xff\xfe")
    with pytest.raises(TokenizerError, match=r"vocab.txt:2: is not UTF-8"):
        WorldTokenizer.from_file(tmp_path / "vocab.txt")
    with pytest.raises(TokenizerError, match="No such file"):
        WorldTokenizer.from_file(tmp_path / "none.txt")
