"""Plain text files."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from pipeline import formats
from pipeline.errors import DocumentError
from pipeline.files import BLOCK_BYTES
from pipeline.formats import known_suffixes, reader_for
from pipeline.formats.text import open_document
from tests.pipeline.readings import document
from tests.pipeline.samples import store


def test_the_suffix_decides_whatever_its_case() -> None:
    assert [reader_for(name) for name in ("a.txt", "b/c.TXT", "d.e.log", "f.text")] == ["text"] * 4
    assert [reader_for(name) for name in ("a.md", "A.MARKDOWN")] == ["markdown"] * 2
    assert [reader_for(name) for name in ("a", ".txt", "a.gz.x", "a.xyz", "txt", "a.")] == [None] * 6


def test_a_reader_that_does_not_exist_is_refused_with_what_there_is(tmp_path: Path) -> None:
    ref = document(tmp_path / "a.txt", "text")
    with pytest.raises(DocumentError, match=r"readable are .*\.md.*\.txt") as caught:
        formats.open_document(type(ref)(**{**vars(ref), "reader": ""}), store(tmp_path))

    assert caught.value.error_type == "unsupported_type"
    assert ".txt" in known_suffixes()


@pytest.mark.parametrize(("mark", "encoding"), [(b"", "utf-8"), (codecs.BOM_UTF8, "utf-8-sig")])
def test_its_facts_are_those_of_the_file(tmp_path: Path, mark: bytes, encoding: str) -> None:
    data = mark + b"Der Text ist nicht lang, und das ist gut.\n"
    facts = open_document(document(tmp_path / "a.txt", data)).facts

    assert (facts.bytes, facts.encoding, facts.decode_errors) == (len(data), encoding, 0)
    assert (facts.language, facts.title, facts.pages) == ("de", None, None)


def test_a_text_has_no_sections_whatever_looks_like_a_heading(tmp_path: Path) -> None:
    text = "# One\n\ntext\n\n# Two\n\n" * 2000
    blocks = list(open_document(document(tmp_path / "a.txt", text)).blocks())

    assert len(blocks) == -(-len(text) // BLOCK_BYTES)
    assert {(block.section, block.page) for block in blocks} == {(None, None)}


def test_blocks_may_be_asked_for_again_and_again(tmp_path: Path) -> None:
    opened = open_document(document(tmp_path / "a.txt", "some text\n" * 3000))

    assert list(opened.blocks()) == list(opened.blocks())
