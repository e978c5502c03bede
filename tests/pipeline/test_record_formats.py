"""Files of many documents: every record is found again where it lies, and a bad one fails alone."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.documents import Document, DocumentRef
from pipeline.errors import DocumentError
from pipeline.formats import members, open_document
from pipeline.values import from_json, to_json
from tests.pipeline.samples import refer, store

CELLS = st.text(st.sampled_from("ab ,;\t|\"'\n\r é今𝄞\u2028"), max_size=12)
TEXTS = st.lists(CELLS.filter(lambda text: text.strip()), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


def records(path: Path, data: bytes | str, **options: str) -> list[DocumentRef]:
    """References to what the file holds, as a run makes them."""
    ref = refer(path, data, options)
    found = members(ref.reader, ref.path, ref.options)
    assert found is not None
    return [replace(ref, doc_id=one.name, size=one.size, options=one.options) for one in found]


def opened(ref: DocumentRef) -> Document:
    return open_document(ref, store(Path(ref.path).parent))


def text_of(ref: DocumentRef) -> str:
    return "".join(block.text for block in opened(ref).blocks())


def refused(ref: DocumentRef) -> str:
    with pytest.raises(DocumentError) as caught:
        opened(ref)
    assert "\n" not in caught.value.message
    return f"{caught.value.error_type}: {caught.value.message}"


@settings(deadline=None, max_examples=80)
@given(texts=TEXTS, bom=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_every_line_of_json_is_the_document_that_was_written(
    folder: Path, texts: list[str], bom: bool, end: str
) -> None:
    lines = [json.dumps({"text": text, "n": n}, ensure_ascii=n % 2 == 0) for n, text in enumerate(texts)]
    data = ("\ufeff" if bom else "") + end.join(lines)

    assert [text_of(ref) for ref in records(folder / "a.jsonl", data)] == texts


@settings(deadline=None, max_examples=80)
@given(texts=TEXTS, bom=st.booleans(), delimiter=st.sampled_from(",;\t|"))
def test_every_row_of_a_table_is_the_document_that_was_written(
    folder: Path, texts: list[str], bom: bool, delimiter: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "text", "by"], *([f"r{n}", text, "me"] for n, text in enumerate(texts))])
    refs = records(
        folder / "a.csv", ("\ufeff" if bom else "") + out.getvalue(), id_key="id", metadata=json.dumps(["by"])
    )

    assert [text_of(ref) for ref in refs] == texts
    assert [ref.doc_id for ref in refs] == [f"r{n}" for n in range(len(texts))]
    assert all(opened(ref).facts.metadata == {"by": "me"} for ref in refs)


def test_a_long_record_goes_on_behind_every_block(tmp_path: Path) -> None:
    [ref] = records(tmp_path / "a.jsonl", json.dumps({"body": "naïve 今 text. " * 5000}), text_key="body")
    blocks = list(opened(ref).blocks())

    assert len(blocks) > 5
    for number, block in enumerate(blocks):
        cursor = from_json(to_json(block.after))
        assert isinstance(cursor, dict)
        assert list(opened(ref).blocks(cursor)) == blocks[number + 1 :]


def test_ids_and_metadata_come_from_the_record(tmp_path: Path) -> None:
    lines = ['{"id": "x", "text": "a", "by": "me", "n": 3}', '{"id": 7, "text": "b"}', '{"text": "c"}']
    refs = records(tmp_path / "a.jsonl", "\n".join(lines), id_key="id", metadata='["by", "n"]')

    assert [ref.doc_id for ref in refs] == ["x", "7", "3"]
    assert opened(refs[0]).facts.metadata == {"by": "me", "n": "3"}
    assert len({opened(ref).facts.source_sha256 for ref in refs}) == 3


def test_half_a_character_becomes_a_replacement_and_is_counted(tmp_path: Path) -> None:
    [ref] = records(tmp_path / "a.jsonl", r'{"text": "a\ud800b"}')

    assert (text_of(ref), opened(ref).facts.decode_errors) == ("a\ufffdb", 1)


def test_a_bad_line_fails_alone_with_its_number(tmp_path: Path) -> None:
    lines = [
        '{"text": "good"}',
        "not json",
        "[1]",
        '{"body": "x"}',
        '{"text": 3}',
        '{"text": " "}',
        "[" * 100_000,
        '{"text": "\\ud"}',
        '{"text": NaN}',
        '{"text": "last"}',
    ]
    refs = records(tmp_path / "a.jsonl", "\n".join(lines))

    assert [ref.doc_id for ref in refs] == [str(n) for n in range(1, 11)]
    assert (text_of(refs[0]), text_of(refs[9])) == ("good", "last")
    reasons = [refused(ref) for ref in refs[1:9]]
    assert [reason.split(":")[0] for reason in reasons] == ["parse_error"] * 4 + ["empty"] + ["parse_error"] * 3
    assert all(f"line {n}: " in reason for n, reason in enumerate(reasons, start=2))


def test_a_bad_row_fails_alone_with_its_number(tmp_path: Path) -> None:
    refs = records(tmp_path / "a.csv", 'text,n\ngood,1\nshort\nlong,2,3\n"two\nlines",4\n"a" b,5\nlast,6\n')

    assert [ref.doc_id for ref in refs] == ["2", "3", "4", "5", "7", "8"]
    assert [text_of(refs[n]) for n in (0, 3, 5)] == ["good", "two\nlines", "last"]
    assert [
        refused(refs[n]).removeprefix("parse_error: ")[: len(start)]
        for n, start in ((1, "line 3: 1 cells"), (2, "line 4: 3 cells"), (4, "line 7: not a row"))
    ] == ["line 3: 1 cells", "line 4: 3 cells", "line 7: not a row"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", "a,b\n1,2\n", "parse_error: no column 'text' (there are a, b)"),
        ("a.csv", "text\n1\n".encode("utf-16"), "unknown_encoding"),
        ("a.csv", "", "empty"),
        ("a.csv", "text\n", "empty"),
        ("a.jsonl", "\n\n", "empty"),
        ("a.csv", b"%PDF-1.7 text", "unsupported_type"),
    ],
)
def test_a_file_without_records_says_why(tmp_path: Path, name: str, data: bytes | str, reason: str) -> None:
    ref = refer(tmp_path / name, data)

    assert refused(ref).startswith(reason)


def test_a_file_that_changed_after_its_records_were_listed_is_noticed(tmp_path: Path) -> None:
    [ref, _] = records(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b"}')
    moved = replace(ref, mtime_ns=ref.mtime_ns - 1)

    assert refused(moved).startswith("changed_during_read")


def test_a_table_in_another_encoding_is_read(tmp_path: Path) -> None:
    refs = records(tmp_path / "a.csv", "text;n\nGröße;1\nStraße;2\n".encode("cp1252"))

    assert [text_of(ref) for ref in refs] == ["Größe", "Straße"]
    assert opened(refs[0]).facts.encoding == "cp1252"


def test_a_file_that_is_one_document_has_no_members(tmp_path: Path) -> None:
    assert members("text", str(tmp_path / "a.txt"), {}) is None
