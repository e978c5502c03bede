"""What is read out of documents that must be parsed, and the reason when nothing can be."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from pipeline.errors import DocumentError
from pipeline.extraction import About, Stretch
from pipeline.formats import html as html_format
from pipeline.formats import open_document
from pipeline.formats import pdf as pdf_format
from pipeline.formats.pdf import clean
from tests.pipeline.samples import (
    PAGE,
    PARAGRAPH,
    archive,
    docx,
    epub,
    flate_bomb,
    mail,
    pdf,
    read,
    refer,
    refusal,
    store,
    word_paragraph,
)

TWICE = "/Filter[/FlateDecode/FlateDecode]"


def sections(path: Path, data: bytes | str) -> list[tuple[str | None, str]]:
    return [(block.section, block.text.strip()) for block in read(path, data)]


STORY = "<p>" + "The harbour keeps what the river brings, and nobody asked why it did so. " * 6 + "</p>"
SITE = (
    "<title>Rain</title><nav><a href=/>Home</a><a href=/b>About us</a></nav><article><h1>Rain</h1>"
    f"{STORY}<h2>Later</h2>{STORY}</article><footer>All rights reserved</footer>"
).encode()


def shown(data: bytes, options: Mapping[str, str]) -> tuple[list[Stretch], About]:
    *found, about = html_format.extract(io.BytesIO(data), options)
    assert isinstance(about, About)
    return [one for one in found if isinstance(one, Stretch)], about


class TestHtmlWithoutBoilerplate:
    def test_what_stands_around_the_text_is_left_out_if_the_job_says_so(self) -> None:
        pytest.importorskip("trafilatura", exc_type=ImportError)
        kept, _ = shown(SITE, {})
        dropped, about = shown(SITE, {"html_boilerplate": "drop"})

        assert "All rights reserved" in "".join(one.text for one in kept)
        text = "".join(one.text for one in dropped)
        assert not any(words in text for words in ("Home", "About us", "All rights reserved"))
        assert [one.section for one in dropped if "harbour" in one.text] == ["Rain", "Rain > Later"]
        assert (about.title, about.metadata) == ("Rain", {})

    def test_a_page_without_a_main_text_is_read_whole_and_it_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nothing_found = ModuleType("trafilatura")
        nothing_found.extract = lambda html, **options: None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "trafilatura", nothing_found)
        found, about = shown(b"<nav>Home</nav>", {"html_boilerplate": "drop"})

        assert "".join(one.text for one in found) == "Home"
        assert about.metadata == {"boilerplate": "kept: no main text was found"}

    def test_without_the_package_the_page_is_refused_with_the_line_that_installs_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "trafilatura", None)
        with pytest.raises(DocumentError, match=r"pip install 'unspool\[web\]'"):
            shown(SITE, {"html_boilerplate": "drop"})
        assert shown(SITE, {})[0]


class TestHtml:
    def test_a_page_is_read_as_a_browser_shows_it(self, tmp_path: Path) -> None:
        assert sections(tmp_path / "a.html", PAGE) == [
            (None, "Home"),
            ("One", "One\n\nFirst bold words."),
            ("One > One.Two", "One.Two\n\n- a\n- b\n\nx\ty\n1\t2"),
            ("Two", "Two\n\n  kept\n    as it is\n\nLine\nbreak"),
        ]

    @pytest.mark.parametrize(
        ("data", "encoding"),
        [
            ("<p>Grüße".encode(), "utf-8"),
            ("<p>Grüße".encode("utf-16"), "utf-16-le"),
            ('<meta charset="koi8-r"><p>Привет'.encode("koi8-r"), "koi8-r"),
            ('<meta charset="koi8-r"><p>Привет'.encode(), "utf-8"),
            (b"<meta charset=klingon><p>na\xefve", "cp1252"),
        ],
    )
    def test_the_encoding_is_that_of_the_bytes_before_that_of_the_page(
        self, tmp_path: Path, data: bytes, encoding: str
    ) -> None:
        facts = open_document(refer(tmp_path / "a.html", data), store(tmp_path)).facts

        assert (facts.encoding, facts.decode_errors) == (encoding, 0)

    def test_nesting_without_end_costs_no_stack(self, tmp_path: Path) -> None:
        assert read(tmp_path / "a.html", "<div>" * 20_000 + "deep")[0].text == "deep"

    @pytest.mark.parametrize("junk", ["<!--" * 20_000, "<a " * 8_000, "<p><![CDATA[" * 5_000, "&#x110000;" * 9_000])
    def test_what_makes_other_parsers_slow_is_done_at_once(self, tmp_path: Path, junk: str) -> None:
        assert "text" in "".join(block.text for block in read(tmp_path / "a.html", "<p>text</p>" + junk))


class TestEpub:
    def test_chapters_are_read_in_the_order_of_the_spine(self, tmp_path: Path) -> None:
        book = epub(["<h1>B</h1><p>two</p>", "<p>no heading</p>", "<h1>A</h1><p>one</p>"], spine=[2, 0, 1])

        assert sections(tmp_path / "a.epub", book) == [("A", "A\n\none"), ("B", "B\n\ntwo\n\nno heading")]

    def test_its_facts_are_those_of_the_package(self, tmp_path: Path) -> None:
        facts = open_document(refer(tmp_path / "a.epub", epub(["<p>text</p>"])), store(tmp_path)).facts

        assert (facts.title, facts.metadata) == ("A Book", {"creator": "Somebody"})

    def test_encrypted_fonts_do_not_keep_a_book_from_being_read(self, tmp_path: Path) -> None:
        book = epub(["<p>text</p>"], encrypted=["OPS/fonts/a.otf"])

        assert sections(tmp_path / "a.epub", book) == [(None, "text")]


def test_a_word_document_has_headings_lists_and_tables(tmp_path: Path) -> None:
    cells = "".join(f"<w:tc>{word_paragraph(text)}</w:tc>" for text in ("a", "b"))
    body = (
        word_paragraph("One", "Heading1")
        + word_paragraph("Plain.")
        + word_paragraph("Deeper", "Heading2")
        + f"<w:tbl><w:tr>{cells}</w:tr><w:tr>{cells}</w:tr></w:tbl>"
    )

    assert sections(tmp_path / "a.docx", docx(body)) == [
        ("One", "One\n\nPlain."),
        ("One > Deeper", "Deeper\n\na\tb\na\tb"),
    ]


class TestPagesOfAPdfThatIsNotParsed:
    def test_they_are_counted_across_reads_and_taken_from_what_a_linear_file_says(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pdf"
        for start in range(0, 40, 3):  # wherever a name lies across the end of a read
            path.write_bytes(b" " * ((1 << 20) - start) + b"/Type /Page /Type/Pages /Type/Page\n")
            assert pdf_format.count_pages(str(path)) == 2
        path.write_bytes(b"%PDF-1.5\n1 0 obj<</Linearized 1/L 9/N 41/T 7>>endobj /Type/Page ")
        assert pdf_format.count_pages(str(path)) == 41

    def test_what_cannot_be_seen_or_read_has_none_and_nothing_is_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo.pdf")
        (tmp_path / "packed.pdf").write_bytes(b"%PDF-1.5 stream")

        assert [pdf_format.count_pages(str(tmp_path / name)) for name in ("fifo.pdf", "packed.pdf", "none.pdf")] == [
            None
        ] * 3


class TestPdf:
    def test_every_page_is_its_own_stretch(self, tmp_path: Path) -> None:
        pages = [["First page of text,", "two lines."], [], ["The third page."]]
        blocks = read(tmp_path / "a.pdf", pdf(pages))
        facts = open_document(refer(tmp_path / "a.pdf", pdf(pages)), store(tmp_path)).facts

        assert [(block.page, block.text) for block in blocks] == [
            (1, "First page of text,\ntwo lines.\n\n"),
            (3, "The third page.\n\n"),
        ]
        assert (facts.pages, facts.metadata) == (3, {"pages_without_text": "2"})

    @pytest.mark.parametrize("engine", ["pypdf", "pypdfium2"])
    def test_a_line_end_stands_behind_a_page_whose_sentence_goes_on_and_a_blank_line_behind_the_others(
        self, engine: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pdf_format, "_engine", lambda: engine)
        pages = [["It is read by the"], ["model, to its end."], ["of no page before, 12"], ["13"], ["the end"]]
        found = [one for one in pdf_format.extract(io.BytesIO(pdf(pages)), {}) if isinstance(one, Stretch)]

        assert [len(one.text) - len(one.text.rstrip("\n")) for one in found] == [1, 2, 2, 2, 2]

    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            ("an e\ufb03cient \ufb01le", "an efficient file"),
            ("hyphen-\nation goes on", "hyphenation\n goes on"),
            ("soft\xad\r\nened", "softened\n"),
            ("Train\ufffeing in the copy\ufffe\ufb01ght", "Training in the copyfight"),
            ("Metop\ufffeSG, Form S\ufffe3, 1990\ufffe1991, a \ufffeb", "Metop-SG, Form S-3, 1990-1991, a -b"),
            ("Jean-\nPaul", "Jean-Paul\n"),
            ("an X-\nray and MGM\ufffebranded games", "an X-ray\n and MGM-branded games"),
            ("a list -\nof things", "a list -\nof things"),
            ("1990-\n1991", "1990-\n1991"),
            ("nul\0s and  \ntrailing", "nuls and\ntrailing"),
        ],
    )
    def test_words_are_put_together_again(self, raw: str, text: str) -> None:
        assert clean(raw) == text.strip()

    @pytest.mark.parametrize("engine", ["pypdf", "pypdfium2"])
    def test_either_engine_reads_the_same_words(self, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pdf_format, "_engine", lambda: engine)
        pages = [["First page of text,", "two lines."], [], ["The third page."]]
        found = list(pdf_format.extract(io.BytesIO(pdf(pages)), {}))

        assert [(one.page, one.text.split()) for one in found if isinstance(one, Stretch)] == [
            (1, ["First", "page", "of", "text,", "two", "lines."]),
            (3, ["The", "third", "page."]),
        ]

    @pytest.mark.parametrize(
        ("data", "error_type"),
        [
            (b"%PDF-1.7\n1 0 obj\n<</Type/Cat", "parse_error"),
            (pdf([[]], flate_bomb(2, 300), TWICE), "bomb|no_text_layer"),
            (pdf([[]], b"BT /F1 1 Tf " + b"(A)Tj" * 1_100_000, ""), "bomb"),
            (pdf([[], []]), "no_text_layer"),
        ],
    )
    def test_pypdf_refuses_with_the_same_reasons(
        self, data: bytes, error_type: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pdf_format, "_engine", lambda: "pypdf")
        with pytest.raises(DocumentError) as caught:
            list(pdf_format.extract(io.BytesIO(data), {}))

        assert caught.value.error_type in error_type.split("|")


class TestMail:
    def test_a_message_is_its_headers_its_text_and_the_names_of_what_is_attached(self, tmp_path: Path) -> None:
        message = mail("The text.\n", "<p>The <b>page</b>.</p>", b"\x89PNG")
        [block] = read(tmp_path / "a.eml", message)

        assert block.text.splitlines()[0] == "Subject: Grüße"
        assert block.text.endswith("\n\nThe text.\n\nAttachment: a.png")

    def test_a_page_stands_in_for_a_text_that_is_not_there(self, tmp_path: Path) -> None:
        data = b"Subject: x\nContent-Type: text/html; charset=koi8-r\n\n<p>" + "Привет".encode("koi8-r")

        assert read(tmp_path / "a.eml", data)[0].text == "Subject: x\n\nПривет"
        assert read(tmp_path / "a.eml", mail(" \n", "<p>The page."))[0].text.endswith("+0100\n\nThe page.")

    def test_a_message_without_a_body_is_its_headers(self, tmp_path: Path) -> None:
        assert read(tmp_path / "a.eml", b"Subject: x\nFrom: a@example.org\n\n")[0].text.split("\n")[0] == "Subject: x"


class TestCompressed:
    @pytest.mark.parametrize(
        "pack", [gzip.compress, lambda data: pa.Codec("zstd").compress(data, asbytes=True)], ids=["gzip", "zstd"]
    )
    def test_a_text_is_the_same_as_unpacked(self, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
        suffix = ".gz" if pack is gzip.compress else ".zst"
        text = "# One\n\nnaïve\n# Two\n" * 9000

        assert "".join(block.text for block in read(tmp_path / f"a.txt{suffix}", pack(text.encode("cp1252")))) == text
        blocks = read(tmp_path / f"a.md{suffix}", pack(codecs.BOM_UTF8 + text.encode()))
        assert ("".join(block.text for block in blocks), blocks[0].section) == (text, "One")
        assert read(tmp_path / f"a.html{suffix}", pack(PAGE.encode()))[0].text.strip() == "Home"


LONG = gzip.compress(PARAGRAPH.encode() * 3000)
ENTITIES = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><x>&b;</x>'
SECRET = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><container>&a;</container>'
ZEROS = b"0" * (60 << 20)
BAD: list[tuple[str, str, bytes | str, str]] = [
    ("nothing in a page", "a.html", "", "empty"),
    ("a page that shows nothing", "a.html", "<html><body><script>x</script> \n</body></html>", "empty"),
    ("a PDF named as a page", "a.html", pdf([["text"]]), "unsupported_type"),
    ("a page in UTF-16 that does not say so", "a.html", "<p>text</p>".encode("utf-16-le"), "binary_not_text"),
    ("no PDF", "a.pdf", b"plain text, really", "parse_error"),
    ("a page named as a PDF", "a.pdf", PAGE, "parse_error"),
    ("nothing in a PDF", "a.pdf", b"", "empty"),
    ("half a PDF", "a.pdf", b"%PDF-1.7\n1 0 obj\n<</Type/Cat", "parse_error"),
    ("a PDF without pages", "a.pdf", pdf([]), "empty|parse_error"),
    ("a PDF of pictures", "a.pdf", pdf([[], []]), "no_text_layer"),
    (
        "a PDF that unpacks without end",
        "a.pdf",
        pdf([[]], flate_bomb(2, 300), "/Filter[/FlateDecode/FlateDecode]"),
        "*",
    ),
    ("no zip archive", "a.epub", b"plain text", "parse_error"),
    ("half an archive", "a.epub", epub(["<p>text</p>"])[:300], "parse_error"),
    ("a book without a container", "a.epub", archive({"a": "b"}), "parse_error"),
    ("a book without a package", "a.epub", archive({"META-INF/container.xml": "<container/>"}), "parse_error"),
    ("a book without chapters", "a.epub", epub([]), "parse_error"),
    ("a book with a chapter missing", "a.epub", epub(["<p>a</p>"]).replace(b"c 0.xhtml", b"c 9.xhtml"), "parse_error"),
    ("a book of encrypted chapters", "a.epub", epub(["", "<p>a"], encrypted=["OPS/text/c%201.xhtml"]), "encrypted"),
    ("a book of entities", "a.epub", archive({"META-INF/container.xml": ENTITIES}), "bomb"),
    ("a book that asks for a file", "a.epub", archive({"META-INF/container.xml": SECRET}), "bomb"),
    ("a book that leads elsewhere", "a.epub", archive({"../../etc/passwd": "x", "/etc/x": "y"}), "parse_error"),
    ("an encrypted Word document", "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "encrypted"),
    ("a Word document without its text", "a.docx", archive({"word/styles.xml": "<x/>"}), "parse_error"),
    ("a Word document of entities", "a.docx", archive({"word/document.xml": ENTITIES}), "bomb"),
    (
        "an archive of 1,000 times its size",
        "a.docx",
        archive({"word/document.xml": ZEROS}),
        "bomb",
    ),
    ("an archive of too many members", "a.epub", archive({f"{n}": "" for n in range(10_001)}), "bomb"),
    ("no mail", "a.eml", "just some text\n\nand more", "parse_error"),
    ("no gzip data", "a.txt.gz", "plain text", "parse_error"),
    ("half of gzip data", "a.txt.gz", LONG[: len(LONG) // 2], "parse_error"),
    ("gzip data with junk behind", "a.txt.gz", LONG + b"junk", "parse_error"),
    ("gzip data that was changed", "a.txt.gz", LONG[:-8] + b"\0\0\0\0" + LONG[-4:], "parse_error"),
    ("a gzip bomb", "a.txt.gz", gzip.compress(b"0" * (80 << 20)), "bomb"),
    ("an archive in an archive", "a.zip.gz", gzip.compress(archive({"a.txt": "x"})), "nested_archive"),
    ("a raw deflate stream", "a.txt.gz", zlib.compress(b"text"), "parse_error"),
]


@pytest.mark.parametrize(("name", "data", "error_type"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_file_costs_its_own_row_with_the_reason(
    tmp_path: Path, name: str, data: bytes | str, error_type: str
) -> None:
    error = refusal(tmp_path / name, data)

    if error_type != "*":
        assert error.error_type in error_type.split("|"), error.message
    assert error.stage in {"open", "decode", "parse"}
    assert error.error_type not in {"internal_error", "parse_timeout"}
