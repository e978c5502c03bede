"""Text files: read whole whatever the blocks are, and refused with the reason and the place where they are no text."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import files
from pipeline.errors import DocumentError
from pipeline.files import BLOCK_BYTES, inspect_text_file, read_text_blocks

CHARACTERS = st.sampled_from(["a", "\n", " ", "é", "€", "𝄞", "\ufeff", "e\u0301", "\r\n", "\U0010ffff", "漢"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "file.txt"


def blocks_of(path: Path) -> list[tuple[str, int]]:
    facts = inspect_text_file(str(path))
    return list(read_text_blocks(str(path), facts, facts.text_start))


def refusal(path: Path) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        inspect_text_file(str(path))
    assert "\n" not in caught.value.message
    return caught.value


class TestText:
    @settings(deadline=None, max_examples=120)
    @given(
        text=st.lists(CHARACTERS, min_size=1, max_size=40).map("".join).filter(lambda text: text.strip(" \r\n\ufeff")),
        block=st.integers(4, 9),
        scan=st.integers(1, 9),
        bom=st.booleans(),
    )
    @example(text="𝄞𝄞𝄞", block=5, scan=1, bom=True)
    def test_the_blocks_joined_are_the_text_wherever_characters_fall(
        self, path: Path, text: str, block: int, scan: int, bom: bool
    ) -> None:
        data = (codecs.BOM_UTF8 if bom else b"") + text.encode()
        path.write_bytes(data)
        start = 3 if data.startswith(codecs.BOM_UTF8) else 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "BLOCK_BYTES", block)
            patch.setattr(files, "_SCAN_BYTES", scan)
            facts = inspect_text_file(str(path))
            blocks = list(read_text_blocks(str(path), facts, facts.text_start))
            rests = [list(read_text_blocks(str(path), facts, end)) for _, end in blocks]

        assert (facts.text_start, facts.size, facts.sha256) == (start, len(data), hashlib.sha256(data).hexdigest())
        assert "".join(piece for piece, _ in blocks) == data[start:].decode() == facts.sample
        assert blocks[-1][1] == len(data)
        assert all(data[:end].decode() and len(piece.encode()) <= block for piece, end in blocks)
        assert rests == [blocks[index + 1 :] for index in range(len(blocks))]

    @pytest.mark.parametrize("shift", range(5))
    def test_a_character_across_the_end_of_a_block_goes_into_the_next(self, tmp_path: Path, shift: int) -> None:
        text = "a" * (BLOCK_BYTES - shift) + "𝄞" + "b" * BLOCK_BYTES
        (tmp_path / "a.txt").write_bytes(text.encode())
        blocks = blocks_of(tmp_path / "a.txt")

        assert "".join(piece for piece, _ in blocks) == text
        assert all(len(piece.encode()) <= BLOCK_BYTES for piece, _ in blocks)

    def test_only_the_first_byte_order_mark_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + "\ufeffa".encode())

        assert blocks_of(tmp_path / "a.txt") == [("\ufeffa", 7)]

    def test_line_endings_and_control_characters_are_kept(self, tmp_path: Path) -> None:
        text = "a\r\nb\rc\n\x0c\x1b[31m\x00d"
        (tmp_path / "a.txt").write_bytes((text * 5).encode())

        assert blocks_of(tmp_path / "a.txt")[0][0] == text * 5

    def test_the_sample_is_short_however_long_the_file_is(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"0123456789" * 300_000)

        assert inspect_text_file(str(tmp_path / "a.txt")).sample == "0123456789" * 2000


class TestNotUtf8:
    @settings(deadline=None, max_examples=120)
    @given(
        before=st.lists(CHARACTERS, max_size=30).map("".join),
        bad=st.sampled_from([b"\xff", b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x28\xa1"]),
        after=st.sampled_from([b"", b" and on", "é".encode()]),
        scan=st.integers(1, 9),
    )
    def test_the_first_bad_byte_is_named_exactly(
        self, path: Path, before: str, bad: bytes, after: bytes, scan: int
    ) -> None:
        data = b"text " + before.encode() + bad + after
        path.write_bytes(data)
        with pytest.raises(UnicodeDecodeError) as expected:
            data.decode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "_SCAN_BYTES", scan)
            error = refusal(path)

        assert (error.stage, error.error_type, error.retryable) == ("decode", "not_utf8", False)
        assert error.byte_offset == expected.value.start
        assert f"at byte {error.byte_offset:,};" in error.message

    @pytest.mark.parametrize("kept", [1, 2, 3])
    def test_a_file_that_ends_within_a_character(self, tmp_path: Path, kept: int) -> None:
        (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + b"abc" + "𝄞".encode()[:kept])
        error = refusal(tmp_path / "a.txt")

        assert (error.error_type, error.byte_offset) == ("not_utf8", 6)
        assert "unexpected end of data" in error.message

    def test_latin_1_is_named_with_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes("Straße".encode("latin-1"))

        assert "iconv" in refusal(tmp_path / "a.txt").message


class TestOtherKinds:
    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (b"%PDF-1.7\n%\xe2\xe3", "a PDF file"),
            ("text".encode("utf-16"), "UTF-16 text"),
            ("text".encode("utf-16-le"), None),
            (codecs.BOM_UTF16_BE + "text".encode("utf-16-be"), "UTF-16 text"),
            ("text".encode("utf-32"), "UTF-32 text"),
            (codecs.BOM_UTF32_BE + "text".encode("utf-32-be"), "UTF-32 text"),
            (gzip.compress(b"text", mtime=0), "gzip data"),
            (b"\x7fELF\x02\x01", "a program"),
            (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        ],
    )
    def test_are_called_by_their_names(self, tmp_path: Path, data: bytes, what: str | None) -> None:
        (tmp_path / "a.txt").write_bytes(data)
        error = refusal(tmp_path / "a.txt")

        if what is None:  # no mark in front: half of the bytes are NUL
            assert (error.stage, error.error_type) == ("decode", "binary_not_text")
        else:
            assert (error.stage, error.error_type) == ("open", "unsupported_type")
            assert f"looks like {what}," in error.message

    def test_a_zip_archive(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.txt", "w") as archive:
            archive.writestr("word/document.xml", "<w/>")

        assert "zip archive" in refusal(tmp_path / "a.txt").message

    @pytest.mark.parametrize(("nuls", "refused"), [(9, False), (10, False), (11, True), (100, True)])
    def test_a_tenth_of_nul_bytes_is_the_limit(self, tmp_path: Path, nuls: int, refused: bool) -> None:
        (tmp_path / "a.txt").write_bytes(b"a" * (100 - nuls) + b"\0" * nuls)
        if refused:
            assert refusal(tmp_path / "a.txt").error_type == "binary_not_text"
        else:
            assert len(blocks_of(tmp_path / "a.txt")[0][0]) == 100

    @pytest.mark.parametrize(
        "data", [b"", codecs.BOM_UTF8, b" \n\t\r\n", codecs.BOM_UTF8 + b"\n" * 50, "\u2003".encode()]
    )
    def test_nothing_but_white_space_is_empty(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.txt").write_bytes(data)
        error = refusal(tmp_path / "a.txt")

        assert (error.stage, error.error_type, error.retryable) == ("open", "empty", False)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "a.txt").error_type == "missing"

    def test_a_file_in_what_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"text")

        assert refusal(tmp_path / "file" / "a.txt").error_type == "io_error"

    def test_a_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path).error_type == "special_file"

    def test_a_fifo_is_refused_without_waiting_for_a_writer(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.txt")

        assert refusal(tmp_path / "a.txt").error_type == "special_file"

    def test_a_device(self) -> None:
        assert refusal(Path("/dev/null")).error_type == "special_file"

    def test_a_socket(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("a.txt")

            assert refusal(Path("a.txt")).stage == "open"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"text")
        (tmp_path / "a.txt").chmod(0)

        assert refusal(tmp_path / "a.txt").error_type == "permission"

    def test_a_lack_of_permission_is_told_from_other_errors(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)

        assert refusal(tmp_path / "a.txt").error_type == "permission"


class TestChanges:
    """Between the look at the whole file and its last block."""

    @pytest.fixture
    def begun(self, tmp_path: Path) -> tuple[Path, Iterator[tuple[str, int]]]:
        path = tmp_path / "a.txt"
        path.write_bytes(b"0123456789abcde\n" * 4 * (BLOCK_BYTES // 16))
        blocks = read_text_blocks(str(path), inspect_text_file(str(path)), 0)
        next(blocks)
        return path, blocks

    def assert_noticed(self, blocks: Iterator[tuple[str, int]]) -> None:
        with pytest.raises(DocumentError) as caught:
            list(blocks)
        assert (caught.value.stage, caught.value.error_type) == ("read", "changed_during_read")
        assert caught.value.retryable

    def test_a_file_that_grows_is_noticed(self, begun: tuple[Path, Iterator[tuple[str, int]]]) -> None:
        path, blocks = begun
        with path.open("ab") as file:
            file.write(b"more")
        self.assert_noticed(blocks)

    def test_a_file_that_shrinks_is_noticed(self, begun: tuple[Path, Iterator[tuple[str, int]]]) -> None:
        path, blocks = begun
        os.truncate(path, 2 * BLOCK_BYTES + 5)
        self.assert_noticed(blocks)

    def test_a_file_written_over_with_other_bytes_is_noticed(
        self, begun: tuple[Path, Iterator[tuple[str, int]]]
    ) -> None:
        path, blocks = begun
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\xff" * size)
        self.assert_noticed(blocks)

    def test_a_file_that_changed_before_its_first_block_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(b"one text")
        facts = inspect_text_file(str(path))
        path.write_bytes(b"another text")
        self.assert_noticed(read_text_blocks(str(path), facts, 0))

    def test_a_file_removed_after_the_look_is_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(b"text")
        facts = inspect_text_file(str(path))
        path.unlink()
        with pytest.raises(DocumentError, match="gone"):
            list(read_text_blocks(str(path), facts, 0))
