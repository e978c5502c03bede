"""Documents as they come in the wild: a quarter of them broken. Each is made here, so that what is wrong is known.

The names and numbers of the cases are those of the matrix that they are taken from: T texts, D PDFs, H containers.
Knows nothing of how they are run: that is test_bad_documents.py.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pypdf

from pipeline.files import TextFileFacts, inspect_text_file
from tests.jobs.project import prose
from tests.pipeline.samples import (
    PAGE,
    archive,
    docx,
    epub,
    feather,
    flate_bomb,
    mail,
    parquet,
    pdf,
    word_paragraph,
    zstd,
)

OK = "ok"
TEXT = prose(4)
PASSWORD = "open-sesame-4711"
GERMAN = "Über die Brücke zog früh der müde Bär. Er hörte das Käuzchen und grüßte die Häscher.\n" * 6


@dataclass(frozen=True)
class Case:
    """A file and what must come of it: `ok`, or the reason (several where engines differ).

    `says` are words of the message in `failures`; `facts` columns of `documents`, and `text` words of the sentences.
    """

    name: str
    file: str
    data: bytes | Callable[[], bytes]
    end: str = OK
    says: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    text: str = ""
    inputs: Mapping[str, object] = field(default_factory=dict)
    """What the job says of this file alone."""

    def write(self, path: Path) -> None:
        """Make the file."""
        path.write_bytes(self.data if isinstance(self.data, bytes) else self.data())


@contextmanager
def in_the_wild() -> Iterator[None]:
    """The password is told, and one of the files grows a little whenever somebody has looked at it."""

    def growing(path: str, encoding: str | None = None) -> TextFileFacts:
        facts = inspect_text_file(path, encoding)
        if path.endswith("-grows.txt"):
            with open(path, "ab") as file:
                file.write(b"One more line.\n")
        return facts

    told = mock.patch.dict(os.environ, {"UNSPOOL_TEST_PASSWORD": PASSWORD})
    with told, mock.patch("pipeline.formats.text.inspect_text_file", growing):
        yield


def pdf_of(body: str, *more: bytes) -> bytes:
    """A PDF of one page with this text, with `more` objects in front of its first."""
    return pdf([[body, "and a second line of text"]]).replace(b"%PDF-1.7\n", b"%PDF-1.7\n" + b"\n".join(more), 1)


def patched(old: bytes, new: bytes, pages: int = 2) -> bytes:
    """A sound PDF, one thing of which is replaced; the places of the objects behind it are then wrong."""
    sound = pdf([[f"Page {number} says so.", "and says it again"] for number in range(pages)])
    assert old in sound
    return sound.replace(old, new, 1)


def encrypted(user: str, owner: str, algorithm: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([["Locked away but plain to read."]])))
    writer.encrypt(user, owner, algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def unknown_handler() -> bytes:
    locked = encrypted("secret", "owner", "RC4-128")
    return locked.replace(b"/Standard", b"/Adobe.X")


def many_pages(count: int) -> bytes:
    """One page, named so often."""
    named = patched(b"/Kids[5 0 R", b"/Kids[" + b"5 0 R " * (count - 1))
    return named.replace(b"/Count 2", b"/Count %d" % count, 1)


def nested_forms() -> bytes:
    """A form that draws itself twice, and so on."""
    form = b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 90 0 R>>>>/Length 11>>"
    return pdf_of("Text beside it.", b"90 0 obj\n" + form + b"stream\n/F Do /F Do\nendstream\nendobj\n").replace(
        b"/Font<<", b"/XObject<</F 90 0 R>>/Font<<", 1
    )


def no_meaning() -> bytes:
    """A font whose letters stand in Unicode's private use area."""
    ranges = b"1 begincodespacerange\n<00> <ff>\nendcodespacerange\n1 beginbfrange\n<20> <7e> <e020>\nendbfrange\n"
    cmap = b"begincmap\n" + ranges + b"endcmap"
    objects = b"90 0 obj\n<</Length %d>>stream\n%s\nendstream\nendobj\n" % (len(cmap), cmap)
    return pdf_of("Nothing that anybody can read.", objects).replace(
        b"/BaseFont/Helvetica", b"/BaseFont/Helvetica/ToUnicode 90 0 R", 1
    )


def huge_unicode_map() -> bytes:
    """A map of letters that claims four billion of them, in a few bytes."""
    cmap = b"beginbfrange\n<00000000> <ffffffff> <0000>\nendbfrange\n" * 50
    objects = b"90 0 obj\n<</Length %d>>stream\n%s\nendstream\nendobj\n" % (len(cmap), cmap)
    return pdf_of("Text all the same.", objects).replace(
        b"/BaseFont/Helvetica", b"/BaseFont/Helvetica/ToUnicode 90 0 R", 1
    )


def shared_stream(pages: int, mib: int) -> bytes:
    """Pages that all draw one stream of many small operators."""
    data = zlib.compress(b"BT /F1 9 Tf " + b"1 0 0 1 9 9 cm " * (mib << 16), 1)
    return pdf([[]] * pages, data, "/Filter/FlateDecode")


def lzw_bomb() -> bytes:
    """LZW that repeats one letter: every code stands for one letter more than the last."""
    bits, width = ["100000000", f"{0x20:09b}"], 9
    for code in range(258, 4094):
        width = max(width, (code).bit_length())
        bits.append(f"{code:0{width}b}")
    joined = "".join(bits) * 12
    return int(joined.ljust(-len(joined) % 8 + len(joined), "0"), 2).to_bytes((len(joined) + 7) // 8, "big")


def flagged_encrypted() -> bytes:
    """A Word document that says that its members are encrypted."""
    data = bytearray(docx(word_paragraph(TEXT)))
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(head)
        while place >= 0:
            data[place + flags] |= 1
            place = data.find(head, place + 4)
    return bytes(data)


def overlapping() -> bytes:
    """An archive whose directory names one member a thousand times (CVE-2024-0450)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", b"0" * (1 << 20))
        made.filelist.extend([made.filelist[0]] * 1000)
    return out.getvalue()


def leaving(names: Mapping[str, str]) -> bytes:
    return archive({"META-INF/container.xml": "<container/>", **names})


def chapter_elsewhere() -> bytes:
    """A book whose spine leads out of the book."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(epub(["<p>text</p>"]))) as book, zipfile.ZipFile(out, "w") as made:
        for name in book.namelist():
            made.writestr(name, book.read(name).replace(b"text/c%200.xhtml", b"../../../../etc/passwd"))
    return out.getvalue()


def lines(*records: object) -> bytes:
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in records).encode()


def linked_member() -> bytes:
    """An archive with a symbolic link in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        link = zipfile.ZipInfo("a.txt")
        link.external_attr = 0o120777 << 16
        made.writestr(link, "/etc/passwd")
    return out.getvalue()


ROWS = pa.table({"text": ["One.", "Two."], "n": [1, 2]})
NUMBERS = pa.table({"text": [1, 2]})
NAUGHTY = ("\u202eright to left\u202c ", "zero\u200bwidth ", "line\u2028separator ", "e\u0301 and é ", "👩‍👩‍👧 family ")
ENTITIES = "<!DOCTYPE x [" + "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9)) + "]><x>&e8;</x>"
ELSEWHERE = '<!DOCTYPE x [<!ENTITY e SYSTEM "{}">]><container>&e;</container>'
SEQUENCES = (b"\xc0\xaf", b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xfe", b"\xe2\x82")

TEXTS = [
    Case("T1 nothing at all", "t01.txt", b"", "empty"),
    Case("T2 white space", "t02a.txt", b" \n\t\r\n", "empty"),
    Case("T2 a byte order mark alone", "t02b.txt", codecs.BOM_UTF8, "empty"),
    Case("T3 a byte order mark", "t03.txt", codecs.BOM_UTF8 + b"First words.", facts={"encoding": "utf-8-sig"}),
    Case("T4 UTF-16 with a mark", "t04a.txt", GERMAN.encode("utf-16"), facts={"encoding": "utf-16-le"}, text="Über"),
    Case(
        "T4 UTF-16 BE with a mark",
        "t04b.txt",
        codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"),
        facts={"encoding": "utf-16-be"},
        text="Käuzchen",
    ),
    Case("T4 UTF-32 with a mark", "t04c.txt", GERMAN.encode("utf-32"), facts={"encoding": "utf-32-le"}, text="Über"),
    Case("T5 UTF-16 without a mark", "t05.txt", TEXT.encode("utf-16-le"), "binary_not_text", says="UTF-16"),
    Case("T6 cp1252", "t06.txt", GERMAN.encode("cp1252"), facts={"encoding": "cp1252"}, text="müde Bär"),
    Case(
        "T7 two encodings in one file",
        "t07.txt",
        (GERMAN * 4).encode() + "Käuzchen".encode("cp1252"),
        facts={"encoding": "utf-8", "decode_errors": 1},
        text="Käuzchen",
    ),
    Case("T8 half a character at the end", "t08a.txt", TEXT.encode() + "€".encode()[:2], facts={"decode_errors": 1}),
    Case("T8 a character across two blocks", "t08b.txt", b"x" * 16_383 + "€ and more".encode(), text="€ and more"),
    Case(
        "T9 overlong forms, surrogates, beyond Unicode",
        "t09.txt",
        (GERMAN * 8).encode() + b" ".join(SEQUENCES),
        facts={"encoding": "utf-8"},
    ),
    Case("T10 a few NULs", "t10a.txt", TEXT.encode() + b"a\0b.", text="a\0b."),
    Case("T10 mostly NULs", "t10b.txt", b"ab" + b"\0" * 99, "binary_not_text", says="NUL"),
    Case(
        "T11 half a surrogate pair in JSON", "t11.jsonl#1", b'{"text": "half \\ud800 pair."}', text="half \ufffd pair."
    ),
    Case("T12 one line without end", "t12.txt", b"word " * 6_000, text="word word"),
    Case("T13 blank lines, marks and one letter", "t13.txt", b"\n" * 20_000 + ("a" * 4000 + "\u0301" * 4000).encode()),
    Case(
        "T14 bidi, joiners, separators, both normal forms", "t14.txt", "".join(NAUGHTY).encode(), text="e\u0301 and é"
    ),
    Case("T15 every kind of line end", "t15.txt", "One.\rTwo.\r\nThree.\nFour.\x85Five.".encode(), text="Five."),
    Case(
        "T16 escapes for terminals", "t16.txt", b"Red \x1b[31mwords\x1b[0m and \x1b]8;;http://x\x07a link\x1b]8;;\x07."
    ),
    Case("T17 naughty strings", "t17.txt", b"<script>alert(1)</script> '; DROP TABLE x; -- %s %n ${HOME} ../../etc"),
    Case("T18 names of special tokens", "t18.txt", b"Then <|endoftext|> was said, and <s> too.", text="<|endoftext|>"),
    Case("T19 more than one page may be", "t19.html", lambda: b"<p>" + b"x" * (64 << 20), "too_large"),
    Case(
        "T19 more than the job allows",
        "t19b.txt",
        b"Words. " * 200,
        "too_large",
        says="1,400 bytes, and inputs.max_bytes is 1,024",
        inputs={"max_bytes": "1KiB"},
    ),
    Case("T19 as much as the job allows", "t19c.txt", b"Words. " * 100, text="Words.", inputs={"max_bytes": 700}),
    Case(
        "T19 a record of more than the job allows",
        "t19d.jsonl#1",
        lines({"text": "long " * 300}, {"text": "Short."}),
        "too_large",
        inputs={"max_bytes": "1KiB"},
    ),
    Case("T19 its neighbour", "t19d.jsonl#2", b"", text="Short."),
    Case("T20 a PDF called a text", "t20a.txt", pdf([["text"]]), "unsupported_type", says="a PDF"),
    Case("T20 a zip archive called a text", "t20b.txt", archive({"a": "b"}), "unsupported_type", says="zip"),
    Case("T20 a program called a text", "t20c.txt", b"\x7fELF\x02\x01\x01" + b"\0" * 90, "unsupported_type"),
    Case("T20 gzip data called Markdown", "t20d.md", gzip.compress(TEXT.encode()), "unsupported_type", says="gzip"),
    Case("T21 a file that grows while it is read", "t21-grows.txt", TEXT.encode(), "changed_during_read"),
    Case("T22 the same text twice", "t22a.txt", b"The same words.", text="The same words."),
    Case("T22 the same text twice, again", "t22b.txt", b"The same words."),
]
PDFS = [
    Case("D1 nothing at all", "d01a.pdf", b"", "empty"),
    Case("D1 no PDF", "d01b.pdf", b"plain text, really", "parse_error"),
    Case("D1 a page called a PDF", "d01c.pdf", PAGE.encode(), "parse_error"),
    Case("D2 half a PDF", "d02.pdf", lambda: patched(b"1 0 obj", b"1 0 obj", 40)[:3000], "parse_error"),
    Case("D3 junk in front and behind", "d03.pdf", b"junk\n" * 9 + pdf_of("Between junk.") + b"\njunk", text="Between"),
    Case("D4 a table of places that is wrong", "d04a.pdf", patched(b"xref\n0 ", b"xref\n7 "), text="Page 1 says so."),
    Case("D4 a start that is nowhere", "d04b.pdf", patched(b"startxref\n", b"startxref\n9"), text="Page 1 says so."),
    Case("D4 a table that leads to itself", "d04c.pdf", patched(b"trailer<<", b"trailer<</Prev 9 "), text="Page 1"),
    Case("D4 five megabytes of spaces", "d04d.pdf", b"%PDF-1.7\n" + b" " * 5_000_000, "parse_error"),
    Case(
        "D5 a page tree that leads to itself", "d05a.pdf", patched(b"/Kids[5 0 R", b"/Kids[2 0 R"), "parse_error|bomb"
    ),
    Case("D5 a page named 100,000 times", "d05b.pdf", lambda: many_pages(100_000), "bomb"),
    Case("D6 no pages", "d06.pdf", pdf([]), "empty|parse_error"),
    Case("D7 pictures alone", "d07.pdf", pdf([[], [], []]), "no_text_layer", says="OCR"),
    Case(
        "D8 some pages without text",
        "d08.pdf",
        pdf([["The first page has text enough."], [], ["The third too, and it ends here."]]),
        facts={"pages": 3, "metadata": {"pages_without_text": "2"}},
    ),
    Case("D9 encrypted, open to everyone (AES-256)", "d09a.pdf", lambda: encrypted("", "o", "AES-256"), text="Locked"),
    Case("D9 encrypted, open to everyone (AES-128)", "d09b.pdf", lambda: encrypted("", "o", "AES-128"), text="Locked"),
    Case("D9 encrypted, open to everyone (RC4)", "d09c.pdf", lambda: encrypted("", "o", "RC4-128"), text="Locked"),
    Case("D10 encrypted with a password", "d10.pdf", lambda: encrypted("p", "o", "AES-256"), "encrypted"),
    Case(
        "D10 encrypted, the password is known",
        "d10b.pdf",
        lambda: encrypted(PASSWORD, "o", "AES-256"),
        text="Locked",
        inputs={"pdf": {"password_env": "UNSPOOL_TEST_PASSWORD"}},
    ),
    Case(
        "D10 encrypted with another password",
        "d10c.pdf",
        lambda: encrypted("p", "o", "AES-128"),
        "bad_password",
        says="UNSPOOL_TEST_PASSWORD does not open it",
        inputs={"pdf": {"password_env": "UNSPOOL_TEST_PASSWORD"}},
    ),
    Case(
        "D10 encrypted, the password is nowhere",
        "d10d.pdf",
        lambda: encrypted("p", "o", "RC4-128"),
        "encrypted",
        says="UNSPOOL_NO_SUCH that is to hold the password is not set",
        inputs={"pdf": {"password_env": "UNSPOOL_NO_SUCH"}},
    ),
    Case("D11 encrypted by an unknown handler", "d11.pdf", unknown_handler, "encrypted"),
    Case(
        "D12 80 MiB in 80 kB",
        "d12a.pdf",
        lambda: pdf([[]], flate_bomb(1, 80), "/Filter/FlateDecode"),
        "bomb|no_text_layer",
    ),
    Case(
        "D12 80 MiB in a few hundred bytes",
        "d12b.pdf",
        lambda: pdf([[]], flate_bomb(3, 80), "/Filter[/FlateDecode/FlateDecode/FlateDecode]"),
        "bomb|no_text_layer",
    ),
    Case("D12 LZW", "d12c.pdf", lambda: pdf([[]], lzw_bomb(), "/Filter/LZWDecode"), "bomb|no_text_layer"),
    Case(
        "D12 run lengths in hex",
        "d12d.pdf",
        lambda: pdf([[]], (b"\x81 " * 400_000).hex().encode() + b">", "/Filter[/ASCIIHexDecode/RunLengthDecode]"),
        "bomb|no_text_layer",
    ),
    Case("D13 one heavy stream on all pages", "d13.pdf", lambda: shared_stream(60, 70), "parse_timeout"),
    Case(
        "D14 a million operators",
        "d14.pdf",
        lambda: pdf([[]], b"q Q " * 1_100_000 + b"BT /F1 12 Tf 72 720 Td (Text behind them.) Tj ET"),
        f"{OK}|bomb|parse_timeout|parse_memory",
        text="Text behind them.",
    ),
    Case("D15 a map of four billion letters", "d15a.pdf", huge_unicode_map, text="Text all the same."),
    Case("D15 forms that draw themselves", "d15b.pdf", nested_forms, text="Text beside it."),
    Case(
        "D15 outlines that lead to themselves",
        "d15c.pdf",
        pdf_of("Fine.", b"").replace(b"/Type/Catalog", b"/Type/Catalog/Outlines<</First 1 0 R/Last 1 0 R/Count 9>>", 1),
        text="Fine.",
    ),
    Case(
        "D16 many pages",
        "d16.pdf",
        lambda: pdf([[f"Page {n} of many, in one line."] for n in range(120)]),
        facts={"pages": 120},
        text="Page 119 of many",
    ),
    Case(
        "D17 scripts and attachments",
        "d17.pdf",
        pdf_of("Harmless text.").replace(
            b"/Type/Catalog", b"/Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>", 1
        ),
        text="Harmless text.",
    ),
    Case(
        "D18 letters without a meaning",
        "d18.pdf",
        no_meaning,
        facts={"metadata": {"text_quality": "low: 55 of 56 characters have no meaning"}},
    ),
    Case("D19 a font that is a number", "d19.pdf", patched(b"/Font<</F1 3 0 R>>", b"/Font 17"), "ok|parse_error"),
    Case(
        "D20 a thousand warnings",
        "d20.pdf",
        lambda: patched(b"trailer<<", b"trailer<<" + b"/A 1" * 2000),
        text="Page 1",
    ),
    Case(
        "D21 a PDF that is an archive too", "d21a.pdf", pdf_of("Both at once.") + archive({"a.txt": "x"}), text="Both"
    ),
    Case("D21 an archive that is a PDF too", "d21b.docx", pdf_of("Both at once.") + archive({"a": "x"}), "parse_error"),
    *(
        Case("D22 one of many small ones", f"d22-{n}.pdf", pdf_of(f"Small one {n}."), text=f"Small one {n}")
        for n in "abc"
    ),
]
CONTAINERS = [
    Case("H1 comments that never end", "h01a.html", b"<p>text before</p>" + b"<!--" * 20_000, text="text before"),
    Case("H1 tags that never end", "h01b.html", b"<p>text before</p>" + b"<a " * 8_000, text="text before"),
    Case("H2 200,000 tags in each other", "h02.html", b"<div>" * 200_000 + b"deep", "parse_timeout|ok"),
    Case("H3 what nobody sees", "h03a.html", PAGE.encode(), text="First bold words."),
    Case(
        "H3 a charset that is not true",
        "h03b.html",
        '<meta charset="koi8-r"><p>Grüße'.encode(),
        facts={"encoding": "utf-8"},
        text="Grüße",
    ),
    Case("H4 a billion laughs", "h04a.epub", archive({"META-INF/container.xml": ENTITIES}), "bomb"),
    Case(
        "H4 an entity in a file",
        "h04b.epub",
        archive({"META-INF/container.xml": ELSEWHERE.format("file:///etc/passwd")}),
        "bomb",
    ),
    Case(
        "H4 an entity in the net",
        "h04c.docx",
        archive({"word/document.xml": ELSEWHERE.format("http://10.0.0.1/")}),
        "bomb",
    ),
    Case(
        "H5 a thousand times its size", "h05a.docx", lambda: archive({"word/document.xml": b"0" * (60 << 20)}), "bomb"
    ),
    Case("H5 members that overlap", "h05b.docx", overlapping, "bomb|parse_error"),
    Case("H5 too many members", "h05c.epub", lambda: archive({f"{n}": "" for n in range(10_001)}), "bomb"),
    Case("H6 an archive in an archive", "h06a.zip.gz", gzip.compress(archive({"a.txt": "x"})), "nested_archive"),
    Case("H6 gzip in gzip", "h06b.txt.gz", gzip.compress(gzip.compress(TEXT.encode())), "unsupported_type"),
    Case(
        "H7 names that lead elsewhere",
        "h07a.epub",
        leaving({"../../etc/x": "x", "/etc/y": "y", "C:\\z": "z", "n\0ul": "n"}),
        "parse_error",
    ),
    Case("H7 a chapter that lies elsewhere", "h07b.epub", chapter_elsewhere, "parse_error", says="passwd"),
    Case("H8 an encrypted Word document", "h08a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "encrypted"),
    Case("H8 encrypted members", "h08b.docx", flagged_encrypted, "encrypted"),
    Case("H9 a Word document without its text", "h09a.docx", archive({"word/styles.xml": "<x/>"}), "parse_error"),
    Case("H9 no archive", "h09b.docx", b"plain text", "parse_error"),
    Case("H9 half an archive", "h09c.docx", docx(word_paragraph(TEXT))[:400], "parse_error"),
    Case("H10 a book without a spine", "h10a.epub", epub([]), "parse_error"),
    Case(
        "H10 a book with pictures from the net",
        "h10b.epub",
        epub(['<p>Text only.</p><img src="http://10.0.0.1/x.png"/>']),
        text="Text only.",
    ),
    Case(
        "H11 a record that is not JSON",
        "h11a.jsonl#2",
        lines({"text": "One."}, "{oops", {"text": "Three."}),
        "parse_error",
    ),
    Case("H11 its neighbour", "h11a.jsonl#3", b"", text="Three."),
    Case("H11 an array", "h11b.jsonl#1", lines([1, 2]), "parse_error", says="not an object"),
    Case("H11 a key twice", "h11c.jsonl#1", b'{"text": "First.", "text": "Last."}', text="Last."),
    Case("H11 a number that is none", "h11d.jsonl#1", b'{"text": "Fine.", "score": NaN}', text="Fine."),
    Case("H11 no text in it", "h11e.jsonl#1", lines({"body": "x"}), "parse_error", says="text_key"),
    Case("H11 a text that is a number", "h11f.jsonl#1", lines({"text": 7}), "parse_error"),
    Case("H11 nesting without end", "h11g.jsonl#1", b'{"text": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "parse_error"),
    Case("H12 a cell of 200 kB", "h12a.csv#2", b'text\n"' + b"long " * 2_000 + b'"\n', text="long long"),
    Case("H12 a row that is too long", "h12b.csv#3", b"text,a\nFine.,1\nx,1,2\n", "parse_error", says="line 3"),
    Case("H12 its neighbour", "h12b.csv#2", b"", text="Fine."),
    Case("H12 no such column", "h12c.csv", b"body\nx\n", "parse_error", says="text_key"),
    Case("H6 an archive in an archive of documents", "h06c.zip#a.zip", archive({"a.zip": "PK"}), "nested_archive"),
    Case("H7 a member that lies elsewhere", "h07c.zip#../../x.txt", archive({"../../x.txt": "x"}), "path_outside_root"),
    Case("H7 a link as a member", "h07d.zip#a.txt", linked_member, "special_file"),
    Case("H13 half of a Parquet file", "h13a.parquet", lambda: parquet(ROWS)[:200], "parse_error"),
    Case("H13 a Parquet file without its end", "h13b.parquet", lambda: parquet(ROWS)[:-8] + b"\0" * 8, "parse_error"),
    Case("H13 a Parquet file without rows", "h13c.parquet", lambda: parquet(ROWS.slice(0, 0)), "empty"),
    Case("H13 a Parquet file without the column", "h13d.parquet", lambda: parquet(ROWS.drop(["text"])), "parse_error"),
    Case("H13 numbers as texts", "h13e.parquet#1", lambda: parquet(NUMBERS), "parse_error"),
    Case("H13 half of an Arrow file", "h13f.arrow", lambda: feather(ROWS)[:200], "parse_error"),
    Case("H13 a row of a Parquet file", "h13g.parquet#2", lambda: parquet(ROWS), text="Two."),
    Case("H14 half of zstd data", "h14e.txt.zst", lambda: zstd(prose(400).encode())[:2000], "parse_error"),
    Case("H14 half of gzip data", "h14a.txt.gz", gzip.compress(prose(400).encode())[:2000], "parse_error"),
    Case("H14 a gzip bomb", "h14b.txt.gz", lambda: gzip.compress(b"0" * (80 << 20)), "bomb"),
    Case("H14 junk behind gzip data", "h14c.txt.gz", gzip.compress(TEXT.encode()) + b"junk", "parse_error"),
    Case("H14 gzip data in two members", "h14d.txt.gz", gzip.compress(b"One. ") + gzip.compress(b"Two."), text="Two."),
    Case("a mail without a text", "m01.eml", mail("", None, b"\x89PNG"), text="Attachment"),
]
CASES = [*TEXTS, *PDFS, *CONTAINERS]
