"""RTF, OpenDocument and what converters make of documents: their texts, sections and pages, and files that are bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.formats import open_document
from tests.pipeline.samples import archive, docling, odt, on_page, read, refer, refusal, store

RTF = (
    rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0\fnil Arial;}}{\info{\title A  title}}\uc1\f0 \'cf\'f0\'e8\u8364? {\b bold}"
    rb"\u-10179?\u-8704? end.\par {\*\hidden secret}{\pict 010203}Next\line line.}"
)


def test_rtf_is_read_in_its_own_encoding_without_what_it_hides(tmp_path: Path) -> None:
    ref = refer(tmp_path / "a.rtf", RTF)
    document = open_document(ref, store(tmp_path))

    assert "".join(block.text for block in document.blocks()) == "При€ bold😀 end.\nNext\nline."
    assert document.facts.title == "A title"


def test_an_opendocument_text_has_headings_lists_tables_and_notes(tmp_path: Path) -> None:
    body = (
        '<text:h text:outline-level="1">One</text:h>'
        "<text:p>a<text:s text:c='2'/>b<text:tab/>c<text:line-break/>d &lt;e&gt;"
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>note</text:p></text:note-body>"
        "</text:note></text:p><office:annotation><text:p>comment</text:p></office:annotation>"
        '<text:h text:outline-level="2">Sub</text:h>'
        "<text:list><text:list-item><text:p>x</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>1</text:p></table:table-cell>"
        "<table:table-cell><text:p>2</text:p></table:table-cell></table:table-row></table:table>"
    )
    blocks = read(tmp_path / "a.odt", odt(body, "A  title"))
    text = "".join(block.text for block in blocks)

    assert text.split("\n") == [
        *["One", "", "a\xa0\xa0b c", "d <e>", "", "note", "", "Sub", "", "- x", "", "1\t2"],
    ]
    assert {block.section for block in blocks} == {"One", "One > Sub"}
    assert open_document(refer(tmp_path / "a.odt", odt(body, "A  title")), store(tmp_path)).facts.title == "A title"


def test_notes_of_an_opendocument_text_stand_behind_their_paragraph_and_tear_no_sentence(tmp_path: Path) -> None:
    def note(text: str) -> str:
        body = f"<text:note-body><text:p>{text}</text:p><text:p>{text}2</text:p></text:note-body>"
        return f"<text:note><text:note-citation>1</text:note-citation>{body}</text:note>"

    body = (
        f'<text:h text:outline-level="1">One{note("n")}</text:h>'
        f"<text:p>It rained{note('a')} and then <text:span>it{note('b')}</text:span> stopped.</text:p>"
        "<text:p>x</text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>1</text:p></table:table-cell>"
        f"<table:table-cell><text:p>2{note('c')}</text:p></table:table-cell></table:table-row></table:table>"
        f"<text:list><text:list-item><text:p>y{note('d')}</text:p></text:list-item></text:list>"
    )
    blocks = read(tmp_path / "a.odt", odt(body, "A title"))

    assert "".join(block.text for block in blocks).split("\n\n") == [
        *["One", "n", "n2", "It rained and then it stopped.", "a", "a2", "b", "b2", "x"],
        *["1\t2", "c", "c2", "- y", "d", "d2"],
    ]
    assert {block.section for block in blocks} == {"One"}


def test_what_docling_made_has_its_pages_and_headings_in_reading_order(tmp_path: Path) -> None:
    items = [
        on_page(1, "title", "The Paper"),
        on_page(1, "page_header", "running header"),
        on_page(1, "section_header", "Intro", level=1),
        on_page(1, "text", "First."),
        on_page(2, "list_item", "x"),
        on_page(2, "list_item", "y"),
        on_page(3, "section_header", "Methods", level=1),
        on_page(3, "table", "", data={"grid": [[{"text": "a"}, {"text": "b"}], [{"text": "1"}, {"text": "2\n3"}]]}),
    ]
    path = tmp_path / "a.json"
    blocks = read(path, docling(items))

    assert [(block.text.strip("\n"), block.section, block.page) for block in blocks] == [
        ("The Paper", "The Paper", 1),
        ("Intro\n\nFirst.", "The Paper > Intro", 1),
        ("- x\n- y", "The Paper > Intro", 2),
        ("Methods\n\na\tb\n1\t2 3", "The Paper > Methods", 3),
    ]
    facts = open_document(refer(path, docling(items)), store(tmp_path)).facts
    assert (facts.title, facts.pages) == ("The Paper", 1)


def test_references_that_run_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    document = json.loads(docling([on_page(1, "text", "One."), on_page(1, "text", "Two.")]))
    document["texts"][1]["children"] = [{"$ref": "#/texts/0"}, {"$ref": "#/texts/1"}, {"$ref": "#/texts/99"}]

    assert "".join(block.text for block in read(tmp_path / "a.json", json.dumps(document))) == "One.\n\nTwo."


def test_what_marker_made_has_its_pages_and_headings(tmp_path: Path) -> None:
    def block(kind: str, html: str, children: list[object] | None = None) -> dict[str, object]:
        return {"block_type": kind, "html": html, "children": children}

    pages = [
        block(
            "Page",
            "<content-ref src='/page/0/Text/1'></content-ref>",
            [block("SectionHeader", "<h1>One</h1>"), block("PageHeader", "<p>header</p>"), block("Text", "<p>a b</p>")],
        ),
        block("Page", "", [block("ListGroup", "<content-ref/>", [block("ListItem", "<ul><li>x</li></ul>")])]),
    ]
    found = read(tmp_path / "a.json", json.dumps({"block_type": "Document", "children": pages}))

    assert [(one.text, one.section, one.page) for one in found] == [("One\n\na b", "One", 1), ("\n\n- x", "One", 2)]


BAD: list[tuple[str, str, bytes | str, str]] = [
    ("no RTF", "a.rtf", "plain text", "parse_error"),
    ("RTF of nothing", "a.rtf", r"{\rtf1\ansi }", "empty"),
    ("RTF with raw binary data", "a.rtf", rb"{\rtf1 {\pict\bin5 }}}}} text}", "parse_error"),
    ("no archive", "a.odt", "plain text", "parse_error"),
    ("an archive of something else", "a.odt", archive({"a.txt": "x"}), "parse_error"),
    ("content that is no XML", "a.odt", archive({"content.xml": "<a>"}), "parse_error"),
    ("a document of entities", "a.odt", archive({"content.xml": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}), "bomb"),
    ("nothing in it", "a.odt", odt("<text:p/>"), "empty"),
    (
        "an encrypted one",
        "a.odt",
        archive({"META-INF/manifest.xml": "<manifest:encryption-data/>", "content.xml": "\0"}),
        "encrypted",
    ),
    ("no JSON", "a.json", '{"a": ', "parse_error"),
    ("JSON of something else", "a.json", '{"a": 1}', "unsupported_type"),
    ("a list", "a.json", "[1]", "unsupported_type"),
    ("JSON that is nested too deeply", "a.json", "[" * 100_000, "bomb|parse_error"),
    ("a document of wrong types", "a.json", '{"schema_name": "DoclingDocument", "body": 3}', "parse_error"),
    ("a document of nothing", "a.json", '{"schema_name": "DoclingDocument"}', "empty"),
]


@pytest.mark.parametrize(("name", "data", "error_type"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_file_costs_its_own_row_with_the_reason(
    tmp_path: Path, name: str, data: bytes | str, error_type: str
) -> None:
    assert refusal(tmp_path / name, data).error_type in error_type.split("|")
