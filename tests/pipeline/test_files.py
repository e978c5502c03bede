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


RUSSIAN = (
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. Всё смешалось в доме "
    "Облонских. Жена узнала, что муж был в связи с бывшею в их доме француженкою-гувернанткой, и объявила мужу, что не "
    "может жить с ним в одном доме."
)
ENCODINGS = {
    "utf-8": "Grüße, 世界! 𝄞",
    "utf-16-le": "Grüße, 世界! 𝄞",
    "utf-16-be": "Grüße, 世界! 𝄞",
    "utf-32-le": "Grüße, 世界! 𝄞",
    "cp1252": "Grüße – “so”",
    "koi8-r": "Привет, мир",
    "shift_jis": "日本語 ﾃｽﾄ abc",
    "gb18030": "汉字 𝄞 é",
    "euc_kr": "한국어 abc",
    "big5": "漢字 abc",
}


class TestOtherEncodings:
    @settings(deadline=None, max_examples=150)
    @given(
        encoding=st.sampled_from(sorted(ENCODINGS)),
        picks=st.lists(st.integers(0, 10), min_size=1, max_size=40),
        junk=st.none() | st.tuples(st.integers(0, 40), st.sampled_from([b"\xff", b"\x81", b"\xc3", b"\xf0\x9f"])),
        block=st.integers(4, 9),
    )
    def test_the_blocks_joined_are_the_decoded_file_and_every_end_of_one_is_a_place_to_go_on(
        self, path: Path, encoding: str, picks: list[int], junk: tuple[int, bytes] | None, block: int
    ) -> None:
        letters = ENCODINGS[encoding]
        data = b"ab" * 4 + "".join(letters[pick % len(letters)] for pick in picks).encode(encoding)
        if junk is not None:
            data = data[: 8 + junk[0]] + junk[1] + data[8 + junk[0] :]
        path.write_bytes(data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "BLOCK_BYTES", block)
            patch.setattr(files, "_CONTROL_SHARE", 1)
            facts = inspect_text_file(str(path), encoding)
            blocks = list(read_text_blocks(str(path), facts, facts.text_start))
            rests = [list(read_text_blocks(str(path), facts, end)) for _, end in blocks]

        expected = data[facts.text_start :].decode(facts.encoding, "replace")
        assert "".join(piece for piece, _ in blocks) == expected == facts.sample
        assert rests == [blocks[index + 1 :] for index in range(len(blocks))]
        try:
            data[facts.text_start :].decode(facts.encoding)
            assert facts.decode_errors == 0
        except UnicodeDecodeError:
            assert facts.decode_errors == expected.count("\ufffd") > 0

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
    def test_a_byte_order_mark_decides_whatever_the_option_says(self, tmp_path: Path, encoding: str) -> None:
        text = "Grüße, 世界!\n" * 50
        (tmp_path / "a.txt").write_bytes(("\ufeff" + text).encode(encoding))
        facts = inspect_text_file(str(tmp_path / "a.txt"), "latin-1")

        assert (facts.encoding, facts.decode_errors, facts.sample) == (encoding, 0, text)

    @pytest.mark.parametrize(
        ("data", "encoding", "errors"),
        [
            ("Straße".encode("latin-1"), "cp1252", 0),
            ("naïve café".encode("latin-1"), "cp1252", 0),
            ("naïve café. ".encode("latin-1") * 99, "cp1252", 0),
            ("“quoted”".encode("cp1252"), "cp1252", 0),
            (b"one \x81 two", "cp1252", 1),
            (RUSSIAN.encode("koi8-r"), "koi8-r", 0),
            ("これは日本語の文章です。文字コードを調べます。".encode("shift_jis"), "cp932", 0),
            ("Größe und Maß, schöne Grüße. ".encode() * 9 + b"\xff and on", "utf-8", 1),
            (b"abc" + "𝄞".encode()[:3], "utf-8", 1),
            (b"CESU " + b"\xed\xa0\xb4\xed\xb4\x9e", "utf-8", 6),
            ("▶hello".encode(), "utf-8", 0),
        ],
    )
    def test_the_likeliest_encoding_is_chosen_and_errors_are_counted(
        self, tmp_path: Path, data: bytes, encoding: str, errors: int
    ) -> None:
        (tmp_path / "a.txt").write_bytes(data)
        facts = inspect_text_file(str(tmp_path / "a.txt"))

        assert (facts.encoding, facts.decode_errors) == (encoding, errors)
        assert facts.sample == data.decode(encoding, "replace")

    def test_it_is_judged_by_the_bytes_where_it_stops_being_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"plain words\n" * 20_000 + RUSSIAN.encode("cp1251"))

        assert inspect_text_file(str(tmp_path / "a.txt")).encoding == "cp1251"

    def test_bytes_of_a_program_are_no_text_in_any_encoding(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(bytes(range(1, 256)) * 50)

        assert refusal(tmp_path / "a.txt").error_type == "binary_not_text"

    @pytest.mark.parametrize("encoding", ["utf-7", "iso2022_jp", "hz", "rot13", "klingon"])
    def test_an_encoding_that_cannot_be_read_from_the_middle_is_refused(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "a.txt").write_bytes(b"text")
        with pytest.raises(DocumentError, match="convert the file") as caught:
            inspect_text_file(str(tmp_path / "a.txt"), encoding)

        assert (caught.value.stage, caught.value.error_type) == ("decode", "unknown_encoding")


class TestOtherKinds:
    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (b"%PDF-1.7\n%\xe2\xe3", "a PDF file"),
            ("text".encode("utf-16-le"), None),
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
        "data",
        [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b" \n\t\r\n", codecs.BOM_UTF8 + b"\n" * 50, "\u2003".encode()],
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
