"""Files of many documents: every record is found again where it lies, and a bad one fails alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.documents import Document, DocumentRef
from pipeline.errors import DocumentError
from pipeline.formats import csv as csv_format
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


def _table(data: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(data), sink)
    return sink.getvalue()


_CUT = b'{"id": 3, "text": "a"}\n{"id": 4, "te\n{"id": 2, "text": "b"}\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", _CUT),
        ("a.jsonl.gz", gzip.compress(_CUT)),
        ("a.csv", b"id,text\n3,a\n,x\n2,b\n"),
        ("a.csv.gz", gzip.compress(b"id,text\n3,a\n,x\n2,b\n")),
        ("a.parquet", _table([{"id": "3", "text": "a"}, {"id": None, "text": "x"}, {"id": "2", "text": "b"}])),
    ],
)
def test_a_record_whose_id_cannot_be_read_says_that_its_name_is_its_place(
    tmp_path: Path, name: str, data: bytes
) -> None:
    ref = refer(tmp_path / name, data, {"id_key": "id"})
    found = list(members(ref.reader, ref.path, ref.options) or ())

    assert [one.name for one in found] == ["3", "3" if "csv" in name else "2", "2"]
    assert [one.is_placed for one in found] == [False, True, False]


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


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b'{"by": "me"}\n{"by": "me", "text": ""}\n'),
        ("a.jsonl.gz", gzip.compress(b'{"by": "me"}\n{"by": "me", "text": ""}\n')),
        ("a.csv", b"by,text\nme,\nme, \n"),
        ("a.parquet", _table([{"by": "me", "text": None}, {"by": "me", "text": " "}])),
    ],
)
def test_what_could_be_read_of_a_bad_record_is_not_lost(tmp_path: Path, name: str, data: bytes) -> None:
    for ref in records(tmp_path / name, data, metadata='["by"]'):
        with pytest.raises(DocumentError) as caught:
            opened(ref)
        assert caught.value.metadata == {"by": "me"}


def test_a_bad_row_fails_alone_with_its_number(tmp_path: Path) -> None:
    refs = records(tmp_path / "a.csv", 'text,n\ngood,1\nshort\nlong,2,3\n"two\nlines",4\n"a" b,5\nlast,6\n')

    assert [ref.doc_id for ref in refs] == ["2", "3", "4", "5", "7", "8"]
    assert [text_of(refs[n]) for n in (0, 3, 5)] == ["good", "two\nlines", "last"]
    assert [
        refused(refs[n]).removeprefix("parse_error: ")[: len(start)]
        for n, start in ((1, "line 3: 1 cells"), (2, "line 4: 3 cells"), (4, "line 7: not a row"))
    ] == ["line 3: 1 cells", "line 4: 3 cells", "line 7: not a row"]


@settings(deadline=None, max_examples=80)
@given(texts=TEXTS, end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_lines_of_a_table_may_end_as_on_any_system(folder: Path, texts: list[str], end: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "n"], *([text, "1"] for text in texts)])
    refs = records(folder / "a.csv", out.getvalue())

    assert [text_of(ref) for ref in refs] == texts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_end_that_no_quotes_hold_ends_a_row_and_what_stands_behind_it_is_not_lost(
    tmp_path: Path, end: str
) -> None:
    refs = records(tmp_path / "a.csv", f"id,text{end}1,a{end}2,Plain\rwith bare CR{end}3,c{end}")

    assert [ref.doc_id for ref in refs] == ["2", "3", "4", "5"]
    assert [text_of(refs[n]) for n in (0, 1, 3)] == ["a", "Plain", "c"]
    assert refused(refs[2]) == "parse_error: line 4: 1 cells where the header has 2; correct the row"


class ReadInPieces(io.BytesIO):
    """A file that gives at most so many bytes of a line at once, as one with longer lines than are read does."""

    most = 1

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(min(self.most, size) if size and size > 0 else self.most)


@pytest.mark.parametrize("most", range(1, 8))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_that_is_cut_where_the_file_is_read_is_put_together_again(end: str, most: int) -> None:
    file = ReadInPieces(end.join(["n,text", "1,ab", "2,cde", "3,f"]).encode())
    file.most = most
    rows = list(csv_format.Table(file, "utf-8", 0, {}).rows())

    assert [(row.cells[1], row.line) for row in rows] == [("ab", 2), ("cde", 3), ("f", 4)]


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('id;"a long, long\nname, really";text', "text"),
        ('"a, b,\r\nand, c";"said ""so""";text', "text"),
        ('id;x;"the\n text"', "the text"),
    ],
)
def test_names_of_columns_may_have_line_ends_and_other_delimiters(tmp_path: Path, header: str, key: str) -> None:
    [ref] = records(tmp_path / "a.csv", f"{header}\n1;2;3\n", text_key=key)

    assert text_of(ref) == "3"
    assert "no column 'none'" in refused(refer(tmp_path / "a.csv", f"{header}\n1;2;3\n", {"text_key": "none"}))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", "a,b\n1,2\n", "parse_error: no column 'text' (there are a, b)"),
        ("a.csv", "text\n1\n".encode("utf-16"), "unknown_encoding"),
        ("a.csv", "", "empty"),
        ("a.csv", "text\n", "empty"),
        ("a.csv", '"id,text\n1,a\n2,b\n', "parse_error: no column 'text' (there are id,text 1,a 2,b "),
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
