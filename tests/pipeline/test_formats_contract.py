"""What every format has in common, run over every module of the folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import pipeline.formats
from pipeline import files
from pipeline.documents import Block
from pipeline.errors import DocumentError
from pipeline.folder import entries
from pipeline.formats import known_suffixes, open_document, reader_for
from pipeline.values import from_json, to_json
from tests.pipeline.readings import document
from tests.pipeline.samples import MANY, SAMPLES, store

FORMATS = entries(pipeline.formats.__name__)
OF_RECORDS = {name for name, module in FORMATS.items() if hasattr(module, "members")}
AS_THEY_STAND = {name for name, module in FORMATS.items() if hasattr(module, "open_document")} - OF_RECORDS
OF_MANY = {name for name, module in FORMATS.items() if hasattr(module, "list_members")}
PARSED = {name for name, module in FORMATS.items() if hasattr(module, "extract")} - OF_MANY
LINES = st.sampled_from(
    [
        *["# One", "## Two ##", "   ### Drei", "#", "#no", "    # code", "###### ü 今", "# a > b"],
        *["```", "```python", "~~~", "~~~~", "  ```", "`` `", "Setext", "=====", "-----", "> # quoted", "\ufeff# bom"],
        *["Plain prose. And more.", "", " ", "\t", "naïve 𝄞 text", "\u2028", "\x0c", "* item", "| a | b |", "\x00"],
        *["word " * 2000, "x" * 9000, "# " + "long title " * 900, "今" * 7000],
    ]
)
ENDINGS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n"])
TEXTS = st.builds(
    lambda lines, last: "".join(line + ending for line, ending in lines) + last,
    st.lists(st.tuples(LINES, ENDINGS), max_size=25),
    LINES,
).filter(lambda text: text.strip() and text.count("\0") * 20 < len(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(params=sorted(AS_THEY_STAND))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check(name: str, folder: Path, data: bytes) -> list[Block]:
    """Read, and go on behind every block as if in another process; both must agree."""
    suffix = FORMATS[name].SUFFIXES[0]
    ref = replace(document(folder / f"a{suffix}", data), reader=name)
    opened = open_document(ref, store(folder))
    blocks = list(opened.blocks())
    for number, block in enumerate(blocks):
        cursor = from_json(to_json(block.after))
        assert isinstance(cursor, dict)
        assert list(open_document(ref, store(folder)).blocks(cursor)) == blocks[number + 1 :]
    return blocks


def test_suffixes_are_lower_case_with_a_dot_and_belong_to_one_format() -> None:
    suffixes = [suffix for module in FORMATS.values() for suffix in module.SUFFIXES]

    assert all(suffix == suffix.lower() and suffix.startswith(".") and len(suffix) > 1 for suffix in suffixes)
    assert len(set(suffixes)) == len(suffixes)
    assert sorted(suffixes) == known_suffixes()


@pytest.mark.parametrize("module", FORMATS.values(), ids=list(FORMATS))
def test_a_format_says_what_it_does(module: ModuleType) -> None:
    assert module.__doc__
    assert [hasattr(module, name) for name in ("extract", "open_document", "records")].count(True) == 1
    assert hasattr(module, "open_document") or module.version()
    assert not hasattr(module, "records") or hasattr(module, "list_members")


def test_every_format_that_is_parsed_has_a_sample_that_the_tests_of_the_text_store_run_over() -> None:
    assert {reader_for(name) for name in SAMPLES} == PARSED


def test_every_format_of_many_documents_has_a_sample_that_its_tests_run_over() -> None:
    assert {reader_for(name) for name in MANY} == OF_MANY


@pytest.mark.parametrize("name", sorted(AS_THEY_STAND))
@settings(deadline=None, max_examples=60)
@given(text=TEXTS, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
@example(text="no final newline", encoding="utf-8-sig")
@example(text="# A\r\n\r\ntext\r\n```\r\n# no\r\n```\r\n# B", encoding="utf-8")
@example(text="x" * 9_000 + "\n" + "y" * 66_000 + "\n# B\ntext", encoding="utf-8")
@example(text="x" * 9_000 + "\n# " + "y" * 66_000 + "\n# B\ntext", encoding="utf-8")
@example(text="# " + "t" * 66_000 + "\n" + "y" * 70_000 + "\ntext\n# B\n" + "z" * 140_000, encoding="utf-8")
def test_the_blocks_joined_are_the_text_and_every_cursor_goes_on_there(
    folder: Path, name: str, text: str, encoding: str
) -> None:
    assume(not (encoding == "utf-16" and text.startswith("\0")))  # its first four bytes are the mark of UTF-32
    data = text.encode(encoding)
    blocks = check(name, folder, data)

    assert "".join(block.text for block in blocks) == data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    assert all(block.text for block in blocks)


@pytest.mark.parametrize("name", sorted(AS_THEY_STAND))
@settings(deadline=None, max_examples=40)
@given(text=TEXTS, block=st.integers(4, 300))
def test_blocks_of_the_file_that_fall_elsewhere_change_neither_text_nor_sections(
    folder: Path, name: str, text: str, block: int
) -> None:
    expected = check(name, folder, text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", block)
        ref = replace(document(folder / f"b{FORMATS[name].SUFFIXES[0]}", text), reader=name)
        found = list(open_document(ref, store(folder)).blocks())

    assert stretches(found) == stretches(expected)


def stretches(blocks: list[Block]) -> list[tuple[str | None, int | None, str]]:
    """Blocks of one section and page joined."""
    joined: list[tuple[str | None, int | None, str]] = []
    for block in blocks:
        if joined and joined[-1][:2] == (block.section, block.page):
            joined[-1] = (block.section, block.page, joined[-1][2] + block.text)
        else:
            joined.append((block.section, block.page, block.text))
    return joined


def test_memory_stays_bounded_by_the_block_whatever_the_lines_are(name: str, folder: Path) -> None:
    for text in ("x" * 200_000, "line\n" * 20_000, "# " + "h" * 200_000):
        assert max(len(block.text) for block in check(name, folder, text.encode())) <= 128 * 1024


def test_the_facts_name_the_bytes_that_were_read(name: str, folder: Path) -> None:
    one, other = (
        open_document(replace(document(folder / f"{n}.txt", text), reader=name), store(folder)).facts
        for n, text in enumerate("ab")
    )

    assert one.source_sha256 != other.source_sha256
    assert len(one.source_sha256) == 64


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"\x00" * 100, bytes(range(256)) * 9])
def test_what_cannot_be_read_is_refused_in_one_line(name: str, folder: Path, data: bytes) -> None:
    ref = replace(document(folder / "bad.txt", data), reader=name)
    with pytest.raises(DocumentError) as caught:
        list(open_document(ref, store(folder)).blocks())

    assert "\n" not in caught.value.message
    assert caught.value.stage in {"open", "decode", "parse"}


def test_a_file_that_is_gone_is_missing(name: str, folder: Path) -> None:
    ref = replace(document(folder / "gone.txt", "text"), reader=name)
    (folder / "gone.txt").unlink()
    with pytest.raises(DocumentError) as caught:
        open_document(ref, store(folder))

    assert caught.value.error_type == "missing"
