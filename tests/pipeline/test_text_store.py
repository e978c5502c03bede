"""Texts of parsed documents: extracted once, kept whole, read from anywhere."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import text_store
from pipeline.errors import DocumentError
from pipeline.formats import open_document, reader_for
from pipeline.segments import Segmenter, SplitOptions
from pipeline.text_store import TextStore
from pipeline.values import from_json, to_json
from tests.pipeline.memory_document import StrideTokenizer
from tests.pipeline.samples import PAGE, SAMPLES, refer, refusal, store


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_every_block_s_cursor_goes_on_behind_it_in_another_process(tmp_path: Path, name: str) -> None:
    ref, texts = refer(tmp_path / name, SAMPLES[name]), store(tmp_path)
    blocks = list(open_document(ref, texts).blocks())

    assert len(blocks) > 5
    assert all(0 < len(block.text) <= 32_768 for block in blocks)
    for number in range(0, len(blocks), 7):
        cursor = from_json(to_json(blocks[number].after))
        assert isinstance(cursor, dict)
        assert list(open_document(ref, texts).blocks(cursor)) == blocks[number + 1 :]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_another_extraction_gives_the_same_file(tmp_path: Path, name: str) -> None:
    files = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        open_document(refer(tmp_path / folder / name, SAMPLES[name]), store(tmp_path / folder))
        files.append([(path.name, path.read_bytes()) for path in (tmp_path / folder / "text").iterdir()])

    assert files[0] == files[1]
    assert len(files[0]) == 1


def test_a_document_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref, texts = refer(tmp_path / "a.html", PAGE), store(tmp_path)
    first = list(open_document(ref, texts).blocks())
    monkeypatch.setattr(text_store, "parse", None)

    assert list(open_document(ref, texts).blocks()) == first


@pytest.mark.parametrize("change", ["source", "options", "version"])
def test_it_is_parsed_anew_when_anything_has_changed_that_determines_its_text(tmp_path: Path, change: str) -> None:
    texts = store(tmp_path)
    before = texts.open(refer(tmp_path / "a.html", PAGE), "1")
    data = PAGE.replace("First", "Other") if change == "source" else PAGE
    ref = refer(tmp_path / "a.html", data, {"encoding": "cp1252"} if change == "options" else {})
    after = texts.open(ref, "2" if change == "version" else "1")

    assert after.path != before.path
    assert after.facts.text_id != before.facts.text_id


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_text_is_noticed(tmp_path: Path, damage: str) -> None:
    ref, texts = refer(tmp_path / "a.epub", SAMPLES["a.epub"]), store(tmp_path)
    stored = texts.open(ref, "1")
    expected = list(stored.blocks())
    data = bytearray(stored.path.read_bytes())
    data[200] ^= 1
    stored.path.write_bytes(data if damage == "flipped" else data[: len(data) // 2] if damage == "truncated" else b"")

    if damage == "flipped":
        with pytest.raises(DocumentError, match="damaged") as caught:
            list(texts.open(ref, "1").blocks())
        assert caught.value.retryable
    for _ in range(2):
        assert list(texts.open(ref, "1").blocks()) == expected


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    refusal(tmp_path / "a.html", "<p> </p>")
    refusal(tmp_path / "a.html", SAMPLES["a.html"], silent_seconds=0.001)

    assert list((tmp_path / "text").iterdir()) == []


def test_the_file_is_plain_zstd_with_a_line_of_json_a_block(tmp_path: Path) -> None:
    ref, texts = refer(tmp_path / "a.html", PAGE), store(tmp_path)
    stored = texts.open(ref, "1")
    with pa.CompressedInputStream(pa.OSFile(str(stored.path)), "zstd") as stream:
        content = stream.read()

    assert b'["Home\\n\\n", null, null]' in content or b'["Home", null, null]' in content


class TestTheSandbox:
    def test_what_is_silent_for_too_long_is_stopped(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "a.html", SAMPLES["a.html"], silent_seconds=0.001).error_type == "parse_timeout"

    def test_what_takes_too_long_in_all_is_stopped(self, tmp_path: Path) -> None:
        error = refusal(tmp_path / "a.html", SAMPLES["a.html"], seconds=0.001, seconds_per_mib=0)

        assert error.error_type == "parse_timeout"

    def test_what_needs_too_much_memory_is_stopped(self, tmp_path: Path) -> None:
        page = "<p>" + "<i>x</i>" * 1_000_000

        assert refusal(tmp_path / "a.html", page, memory_bytes=150 << 20).error_type in {"parse_memory", "parse_error"}

    def test_what_says_too_much_is_stopped(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "a.html", SAMPLES["a.html"], output_bytes=10_000).error_type == "bomb"

    def test_it_sees_nothing_of_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        (tmp_path / "selectolax.py").write_text("raise SystemExit(3)", "utf-8")

        assert open_document(refer(tmp_path / "a.html", PAGE), store(tmp_path)).facts.title == "A page"


def test_stores_are_values(tmp_path: Path) -> None:
    assert isinstance(store(tmp_path), TextStore)
    assert reader_for("a.PDF") == "pdf"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_sentences_stand_in_the_stored_text_at_their_spans_on_their_page(tmp_path: Path, name: str) -> None:
    stored = open_document(refer(tmp_path / name, SAMPLES[name]), store(tmp_path))
    blocks = list(stored.blocks())
    text = "".join(block.text for block in blocks)
    starts = list(accumulate((len(block.text) for block in blocks), initial=0))
    segments = Segmenter(stored, StrideTokenizer(5), SplitOptions(512, 2000))

    for sentence in (sentence for segment in segments for sentence in segment.sentences):
        block = blocks[bisect_right(starts, sentence.char_start) - 1]
        assert text[sentence.char_start : sentence.char_end] == sentence.text
        assert text.encode()[sentence.byte_start : sentence.byte_end].decode() == sentence.text
        assert (sentence.page, sentence.section) == (block.page, block.section)
