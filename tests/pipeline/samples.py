"""Small documents of every format that must be parsed, made here, so that what is in them is known."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest

from pipeline.documents import Block, DocumentRef
from pipeline.durable import Disk
from pipeline.errors import DocumentError
from pipeline.formats import members, open_document, reader_for
from pipeline.sandbox import Limits
from pipeline.text_store import TextStore

PARAGRAPH = "The naïve harbour keeps what the river brings. Nobody asked why! "
PAGE = (
    "<!DOCTYPE html><html><head><title>A  page</title><style>p {}</style></head><body><nav>Home</nav>"
    "<h1>One</h1><p>First <b>bold</b>\n words.</p><script>evil()</script><p hidden>unseen</p>"
    "<h2>One.Two</h2><ul><li>a</li><li>b</li></ul><table><tr><th>x</th><th><p>y</p></th></tr><tr><td>1</td><td>2</td></tr>"
    "</table><h1>Two</h1><pre>  kept\n    as it is</pre><p>Line<br>break</p></body></html>"
)
_CONTAINER = '<container xmlns="urn:c"><rootfiles><rootfile full-path="OPS/a.opf"/></rootfiles></container>'
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def store(folder: Path, **limits: float) -> TextStore:
    """A text store that pulls no plug."""
    return TextStore(folder / "text", Disk(flush=lambda descriptor: None), Limits(**limits))  # type: ignore[arg-type]


def refer(path: Path, data: bytes | str, options: Mapping[str, str] | None = None) -> DocumentRef:
    """Write a document and refer to it with the reader that its suffix names."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    status = path.stat()
    reader = reader_for(path.name) or ""
    return DocumentRef("d0", path.name, str(path), status.st_size, status.st_mtime_ns, reader, options or {})


def read(path: Path, data: bytes | str) -> list[Block]:
    return list(open_document(refer(path, data), store(path.parent)).blocks())


def refusal(path: Path, data: bytes | str, **limits: float) -> DocumentError:
    """What a document is refused with, in one line."""
    with pytest.raises(DocumentError) as caught:
        list(open_document(refer(path, data), store(path.parent, **limits)).blocks())
    assert "\n" not in caught.value.message
    return caught.value


def archive(members: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            # Without a time of its own a member takes the clock's, and no two archives would be the same bytes.
            made.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def epub(chapters: Sequence[str], spine: Sequence[int] | None = None, encrypted: Sequence[str] = ()) -> bytes:
    """A book of these chapters (bodies of HTML), named in the manifest in order, read in the order of the spine.

    It says of the members `encrypted` that they are.
    """
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in (range(len(chapters)) if spine is None else spine))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
        "<dc:title>A Book</dc:title><dc:creator>Somebody</dc:creator></metadata>"
        f"<manifest>{items}</manifest><spine>{order}</spine></package>"
    )
    page = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{}</body></html>'
    texts = {f"OPS/text/c {n}.xhtml": page.format(body) for n, body in enumerate(chapters)}
    listed = "".join(f'<e:CipherReference xmlns:e="urn:e" URI="{name}"/>' for name in encrypted)
    secrets = {"META-INF/encryption.xml": f"<encryption>{listed}</encryption>"} if encrypted else {}
    return archive({"META-INF/container.xml": _CONTAINER, "OPS/a.opf": package, **texts, **secrets})


def docx(body: str) -> bytes:
    """A Word document whose body is this XML."""
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/word/document.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    )
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{_RELATIONS}/officeDocument" Target="word/document.xml"/></Relationships>'
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/></w:style>' for n in (1, 2)
    )
    return archive(
        {
            "[Content_Types].xml": types,
            "_rels/.rels": relations,
            "word/document.xml": f"<w:document {_WORD}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f"<w:styles {_WORD}>{styles}</w:styles>",
        }
    )


def word_paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def pdf(pages: Sequence[Sequence[str]], content: bytes | None = None, filters: str = "") -> bytes:
    """A PDF file with these lines on its pages; `content`, with its filters, replaces that of every page."""
    objects: list[bytes] = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for lines in pages:
        drawn = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
        data = content if content is not None else f"BT /F1 12 Tf 72 720 Td {drawn}ET".encode("latin-1")
        objects.append(b"<</Length %d%s>>stream\n%s\nendstream" % (len(data), filters.encode(), data))
        stream = len(objects)
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % stream
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(kids), len(kids))
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + head + table + tail


def mail(text: str, html: str | None = None, attachment: bytes | None = None) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Grüße", "a@example.org", "b@example.org"
    message["Date"] = "Wed, 20 Jul 2016 17:35:02 +0100"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    if attachment is not None:
        message.add_attachment(attachment, maintype="image", subtype="png", filename="a.png")
    return message.as_bytes()


def odt(body: str, title: str = "", **members: str) -> bytes:
    """An OpenDocument text whose body is this XML."""
    names = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text", "table")
    )
    content = f"<office:document-content{names}><office:body><office:text>{body}</office:text></office:body>"
    meta = f'<m xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></m>'
    return archive({"content.xml": f"{content}</office:document-content>", "meta.xml": meta, **members})


def docling(items: Sequence[Mapping[str, Any]]) -> bytes:
    """What docling makes of a document with these texts, in this order."""
    texts = [{"self_ref": f"#/texts/{n}", "content_layer": "body", **item} for n, item in enumerate(items)]
    body = {"children": [{"$ref": f"#/texts/{n}"} for n in range(len(items))]}
    document = {"schema_name": "DoclingDocument", "version": "1.5.0", "body": body, "texts": texts, "pages": {"1": {}}}
    return json.dumps(document).encode()


def on_page(page: int, label: str, text: str, **more: Any) -> dict[str, Any]:
    return {"label": label, "text": text, "prov": [{"page_no": page, "charspan": [0, len(text)]}], **more}


def flate_bomb(times: int, mib: int) -> bytes:
    data = b" " * (mib << 20)
    for _ in range(times):
        data = zlib.compress(data, 9)
    return data


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def feather(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pf.write_feather(table, out, compression="zstd")
    return out.getvalue()


def members_of(ref: DocumentRef) -> list[DocumentRef]:
    """References to the documents of a file, as a run makes them; behind them the file, if not all could be listed."""
    found: list[DocumentRef] = []
    try:
        for number, one in enumerate(members(ref.reader, ref.path, ref.options) or ()):
            uri = f"{ref.uri}#{one.name}"
            found.append(replace(ref, doc_id=f"d{number}", uri=uri, size=one.size, options=one.options))
    except DocumentError:
        found.append(ref)
    return found or [ref]


LONG = "".join(f"<h2>Part {n}</h2>" + f"<p>{PARAGRAPH * 20}</p>" * 8 for n in range(12))
SAMPLES: Mapping[str, bytes] = {
    "a.html": f"<html><body>{LONG}</body></html>".encode(),
    "a.epub": epub([LONG, "<h1>Last</h1><p>End.</p>"]),
    "a.docx": docx(
        "".join(word_paragraph(f"Part {n}", "Heading1") + word_paragraph(PARAGRAPH * 50) * 3 for n in range(9))
    ),
    "a.pdf": pdf([[f"Page {n} says so.", *["and says it again, at some length"] * 40] for n in range(1, 60)]),
    "a.eml": mail(PARAGRAPH * 2000),
    "a.txt.gz": gzip.compress((PARAGRAPH * 3000).encode("utf-16")),
    "a.md.gz": gzip.compress("".join(f"# Part {n}\n\n{PARAGRAPH * 200}\n" for n in range(9)).encode()),
    "a.rtf": b"{\\rtf1\\ansi\\ansicpg1252 " + (PARAGRAPH * 1500).encode("cp1252") + b"\\par}",
    "a.odt": odt(
        "".join(f'<text:h text:outline-level="1">Part {n}</text:h><text:p>{PARAGRAPH * 100}</text:p>' for n in range(9))
    ),
    "a.json": docling([on_page(n, "text", f"On page {n}. {PARAGRAPH}") for n in range(1, 30)]),
}
MAILBOX: Final = b"".join(
    b"From a@example.org Wed Jul 20 17:35:02 2016\n" + mail(f"Message {n}. {PARAGRAPH * 300}") + b"\n" for n in range(2)
)
MANY: Final[Mapping[str, bytes]] = {
    "a.zip": archive({"a.txt": PARAGRAPH * 900, "sub/b.html": SAMPLES["a.html"]}),
    "a.mbox": MAILBOX,
    "a.jsonl.gz": gzip.compress(
        b"".join(json.dumps({"text": f"{n} {PARAGRAPH * 900}"}).encode() + b"\n" for n in "ab")
    ),
    "a.csv.zst": zstd(f"n,text\n1,{PARAGRAPH * 900}\n2,{PARAGRAPH * 901}\n".encode()),
    "a.parquet": parquet(pa.table({"text": [PARAGRAPH * 900, PARAGRAPH * 901]})),
    "a.feather": feather(pa.table({"text": [PARAGRAPH * 900, PARAGRAPH * 901]})),
}
"""Two documents a file, in every format of many documents that is listed or unpacked in the sandbox."""
