"""Archives, mailboxes, compressed records and columns: each document of a file is read, and fails, on its own."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import record_store, text_store
from pipeline.documents import Block, DocumentRef
from pipeline.errors import DocumentError
from pipeline.formats import csv, jsonl, open_document, reader_for
from pipeline.values import from_json, to_json
from tests.pipeline.samples import (
    MAILBOX,
    MANY,
    PARAGRAPH,
    archive,
    docx,
    feather,
    mail,
    members_of,
    parquet,
    pdf,
    refer,
    store,
    word_paragraph,
    zstd,
)


def blocks_of(ref: DocumentRef) -> list[Block]:
    return list(open_document(ref, store(Path(ref.path).parent)).blocks())


def text_of(ref: DocumentRef) -> str:
    return "".join(block.text for block in blocks_of(ref))


def told(ref: DocumentRef) -> str:
    """The text of a document, or why there is none: one line."""
    try:
        return text_of(ref)
    except DocumentError as error:
        assert "\n" not in error.message
        return f"{error.error_type}: {error.message}"


def all_told(path: Path, data: bytes, **options: str) -> dict[str, str]:
    return {ref.uri.partition("#")[2]: told(ref) for ref in members_of(refer(path, data, options))}


@pytest.mark.parametrize("name", sorted(MANY))
def test_every_document_goes_on_behind_every_block_and_is_found_again_without_parsing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = members_of(refer(tmp_path / name, MANY[name]))
    found = [blocks_of(ref) for ref in refs]
    monkeypatch.setattr(text_store, "parse", None)
    monkeypatch.setattr(record_store, "unpack", None)

    assert len(refs) == 2 and found[0] != found[1]
    for ref, blocks in zip(refs, found, strict=True):
        assert len(blocks) > 2 and sum(len(block.text) for block in blocks) > 10_000
        for number in range(0, len(blocks), 3):
            cursor = from_json(to_json(blocks[number].after))
            assert isinstance(cursor, dict)
            assert list(open_document(ref, store(tmp_path)).blocks(cursor)) == blocks[number + 1 :]


@pytest.mark.parametrize("name", sorted(MANY))
def test_a_file_that_changed_since_its_documents_were_listed_is_not_read(tmp_path: Path, name: str) -> None:
    ref = members_of(refer(tmp_path / name, MANY[name]))[0]
    os.utime(ref.path, ns=(ref.mtime_ns + 1, ref.mtime_ns + 1))

    assert told(ref).startswith("changed_during_read: ")


@pytest.mark.parametrize("name", sorted(MANY))
@pytest.mark.parametrize("damage", ["half", "other"])
def test_a_damaged_file_says_so_and_what_was_in_front_of_the_damage_is_there(
    tmp_path: Path, name: str, damage: str
) -> None:
    data = MANY[name]
    bad = {"half": data[: len(data) // 2], "other": b"<html>no</html>"}[damage]
    found = [told(ref) for ref in members_of(refer(tmp_path / name, bad))]

    if name == "a.mbox" and damage == "half":
        assert len(found) == 1  # a mailbox ends where it ends
    else:
        assert found[-1].split(":")[0] == "parse_error"


@settings(deadline=None, max_examples=4)
@given(
    texts=st.lists(
        st.text(st.sampled_from("ab ,;\"'\n\r é今𝄞\u2028"), max_size=12).filter(str.strip), min_size=1, max_size=5
    ),
    name=st.sampled_from(["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.tsv.zst"]),
)
def test_compressed_records_are_those_of_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], name: str
) -> None:
    folder, plain = tmp_path_factory.mktemp("records"), name.rpartition(".")[0]
    lines = "".join(json.dumps({"text": text, "id": f"n{n}"}) + "\n" for n, text in enumerate(texts))
    rows = "".join('n{}\t"{}"\n'.format(n, text.replace('"', '""')) for n, text in enumerate(texts))
    data = (lines if "jsonl" in name else "id\ttext\n" + rows + "x\ty\tz\n").encode()
    packed = gzip.compress(data, mtime=0) if name.endswith("gz") else zstd(data)

    assert all_told(folder / name, packed, id_key="id") == all_told(folder / plain, data, id_key="id")


def test_the_suffix_in_front_decides_who_reads_what_is_compressed() -> None:
    assert {reader_for(f"a{s}.gz") for s in (*jsonl.SUFFIXES, *csv.SUFFIXES)} == {"compressed_records"}
    assert {reader_for(f"a{s}.zst") for s in (".txt", ".md", ".html", "")} == {"compressed"}
    assert (reader_for("jsonl.gz"), reader_for("v1.csv.GZ")) == ("compressed", "compressed_records")


class TestZip:
    def test_members_are_read_as_their_names_say_and_what_systems_add_is_passed_over(self, tmp_path: Path) -> None:
        data = archive(
            {
                "a.txt": "Caf\xe9".encode("cp1252"),
                "sub/b.md": "# T\n\nhi",
                "c.pdf": pdf([["Page one has enough text"]]),
                "d.docx": docx(word_paragraph("Words")),
                "sub/": "",
                ".DS_Store": "x",
                "__MACOSX/a.txt": "x",
                "sub/.git/x.txt": "x",
            }
        )

        found = all_told(tmp_path / "a.zip", data)

        assert {name: text.strip() for name, text in found.items()} == {
            "a.txt": "Café",
            "sub/b.md": "# T\n\nhi",
            "c.pdf": "Page one has enough text",
            "d.docx": "Words",
        }

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("../../x.txt", b"x", "path_outside_root"),
            ("/etc/passwd.txt", b"x", "path_outside_root"),
            ("C:\\x.txt", b"x", "path_outside_root"),
            ("a\\..\\x.txt", b"x", "path_outside_root"),
            ("in.zip", archive({"a.txt": "x"}), "nested_archive"),
            ("in.txt.gz", gzip.compress(b"x", mtime=0), "nested_archive"),
            ("in.jsonl", b'{"text": "x"}', "nested_archive"),
            ("in.exe", b"x", "unsupported_type"),
            ("no-suffix", b"x", "unsupported_type"),
            ("a.txt", b"%PDF-1.7", "unsupported_type"),
            ("a.txt", b"", "empty"),
            ("a.txt", b"a" + b"\0" * 99, "binary_not_text"),
            ("a.pdf", b"no", "parse_error"),
        ],
    )
    def test_a_bad_member_fails_alone(self, tmp_path: Path, name: str, data: bytes, reason: str) -> None:
        found = list(all_told(tmp_path / "a.zip", archive({"good.txt": "Good.", name: data})).values())

        assert (found[0], found[1].split(":")[0]) == ("Good.", reason)

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as made:
            link = zipfile.ZipInfo("link.txt")
            link.external_attr = 0o120777 << 16
            made.writestr(link, "/etc/passwd")

        assert all_told(tmp_path / "a.zip", out.getvalue())["link.txt"].startswith("special_file")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_members_of_one_name_are_two_documents(self, tmp_path: Path) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as made:
            made.writestr("a.txt", "one")
            made.writestr("a.txt", "two")

        assert all_told(tmp_path / "a.zip", out.getvalue()) == {"a.txt": "one", "a.txt~2": "two"}

    def test_overlapping_members_are_a_bomb(self, tmp_path: Path) -> None:
        data = bytearray(archive({"a.txt": "x" * 999, "b.txt": "y" * 999}))
        second = data.rindex(b"PK\x01\x02")
        data[second + 42 : second + 46] = (0).to_bytes(4, "little")

        assert [text.split(":")[0] for text in all_told(tmp_path / "a.zip", bytes(data)).values()] == ["bomb"]

    def test_a_member_that_unpacks_without_end_costs_every_document_of_the_archive_but_no_memory(
        self, tmp_path: Path
    ) -> None:
        found = all_told(tmp_path / "a.zip", archive({"a.txt": "good", "b.txt": b"0" * (8 << 20)}))

        assert [text.split(":")[0] for text in found.values()] == ["bomb"]

    def test_a_member_that_was_changed_fails_its_checksum_and_the_others_do_not(self, tmp_path: Path) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
            made.writestr("a.txt", "good text")
            made.writestr("b.txt", "some text")

        found = all_told(tmp_path / "a.zip", out.getvalue().replace(b"some text", b"same text", 1))

        assert found["a.txt"] == "good text"
        assert found["b.txt"].startswith("parse_error") and "CRC" in found["b.txt"]

    @pytest.mark.parametrize("data", [archive({}), archive({"sub/": "", ".x.txt": "x"})])
    def test_an_archive_without_documents_is_empty(self, tmp_path: Path, data: bytes) -> None:
        assert [text.split(":")[0] for text in all_told(tmp_path / "a.zip", data).values()] == ["empty"]


class TestMbox:
    def test_a_message_begins_behind_an_empty_line_and_quoted_lines_are_unquoted(self, tmp_path: Path) -> None:
        one = mail("Dear all,\nFrom here it goes on.\n\n>From the start.\n>>From two.\n")
        data = b"From x\n" + one + b"\nFrom y\r\n" + mail("Second").replace(b"\n", b"\r\n")

        found = all_told(tmp_path / "a.mbox", data)

        assert list(found) == ["1", str(one.count(b"\n") + 3)]
        first, second = found.values()
        assert "all,\nFrom here it goes on.\n\nFrom the start.\n>From two." in first
        assert second.endswith("Second")

    def test_a_message_is_what_the_same_mail_is_alone(self, tmp_path: Path) -> None:
        alone = mail(PARAGRAPH, html=f"<p>{PARAGRAPH}</p>", attachment=b"x")
        ref = members_of(refer(tmp_path / "a.mbox", b"From x\n" + alone + b"\n"))[0]

        assert text_of(ref) == text_of(refer(tmp_path / "a.eml", alone))

    def test_a_bad_message_fails_alone(self, tmp_path: Path) -> None:
        found = list(all_told(tmp_path / "a.mbox", MAILBOX + b"From z\nno headers at all\n").values())

        assert found[-1].startswith("parse_error: not a mail message")
        assert [text.startswith("Subject") for text in found[:-1]] == [True, True]


class TestColumns:
    TABLE = pa.table(
        {
            "text": pa.array(["one", None, " ", "four"], pa.large_string()),
            "key": [7, 8, 9, None],
            "more": [{"a": 1}, None, {"a": 2}, {"a": 3}],
            "day": pa.array([0, 1, 2, 3], pa.date32()),
        }
    )

    @pytest.mark.parametrize("write", [parquet, feather])
    def test_rows_are_documents_with_ids_and_metadata_of_any_type(self, tmp_path: Path, write: object) -> None:
        name, data = ("a.parquet", parquet(self.TABLE)) if write is parquet else ("a.arrow", feather(self.TABLE))
        refs = members_of(refer(tmp_path / name, data, {"id_key": "key", "metadata": '["more", "day"]'}))
        texts = {ref.uri.partition("#")[2]: told(ref) for ref in refs}

        assert list(texts) == ["7", "8", "9", "4"]
        assert (texts["7"], texts["4"]) == ("one", "four")
        assert texts["8"].startswith("parse_error: row 2: its text is null")
        assert texts["9"].startswith("empty: row 3")
        facts = open_document(refs[0], store(tmp_path)).facts
        assert facts.metadata == {"more": '{"a": 1}', "day": '"1970-01-01"'}

    @pytest.mark.parametrize(
        ("column", "reason"),
        [
            (pa.array([1, 2]), "its text is int"),
            (pa.array([["a"], ["b"]]), "its text is list"),
            (pa.array([b"\xff", b"ok"]), "not UTF-8"),
            (pa.array(["a", "a"]).dictionary_encode(), ""),
            (pa.array(["a", "a"], pa.string_view()), ""),
        ],
    )
    def test_the_text_is_of_any_type_that_is_text(self, tmp_path: Path, column: pa.Array, reason: str) -> None:
        first = next(iter(all_told(tmp_path / "a.arrow", feather(pa.table({"text": column}))).values()))

        assert reason in first if reason else first == "a"

    def test_a_table_without_the_column_or_without_rows_is_one_failure(self, tmp_path: Path) -> None:
        [missing] = all_told(tmp_path / "a.parquet", parquet(self.TABLE), text_key="body").values()
        [empty] = all_told(tmp_path / "b.parquet", parquet(self.TABLE.slice(0, 0))).values()

        assert "no column 'body' (there are text, key, more, day)" in missing
        assert empty.startswith("empty")

    def test_rows_in_front_of_a_damaged_page_are_read(self, tmp_path: Path) -> None:
        table = pa.table({"text": [f"{n} {PARAGRAPH}" for n in range(1500)]})
        whole = parquet(table, row_group_size=500, compression="none", use_dictionary=False, write_page_checksum=True)
        data = bytearray(whole)
        data[data.index(b"1200 The")] ^= 1
        refs = members_of(refer(tmp_path / "a.parquet", bytes(data)))

        assert len(refs) == 1500
        assert told(refs[499]).startswith("499 The")
        assert told(refs[1499]).startswith("parse_error: a damaged table")


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_damaged_unpacked_records_are_noticed_and_unpacked_anew(tmp_path: Path, damage: str) -> None:
    ref = members_of(refer(tmp_path / "a.parquet", MANY["a.parquet"]))[0]
    expected = text_of(ref)
    [path] = (tmp_path / "text").iterdir()
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data if damage == "flipped" else data[: len(data) // 2])

    assert told(ref).startswith("text_damaged")
    assert told(ref) == expected


def test_a_record_too_long_for_a_line_of_the_sandbox_comes_out_whole(tmp_path: Path) -> None:
    text = "今 \x01 " * 700_000
    [found] = all_told(tmp_path / "a.parquet", parquet(pa.table({"text": [text]}))).values()

    assert found == text
