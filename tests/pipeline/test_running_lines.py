"""Running heads and feet go, and nothing else does."""

from __future__ import annotations

import io
from pathlib import Path

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf.constants import PageLabelStyle

from pipeline.extraction import About, Stretch
from pipeline.formats import open_document
from pipeline.formats import pdf as pdf_format
from pipeline.running_lines import NEIGHBOURS, without_running_lines
from tests.pipeline.samples import pdf, refer, store

WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima")


def body(number: int) -> str:
    return "\n".join(
        f"{WORDS[(number * 5 + line) % 12]} {WORDS[(number + 7 * line) % 12]} {'x' * number}" for line in range(4)
    )


@given(pages=st.integers(3, 14), two_lines=st.booleans())
def test_what_runs_through_the_pages_is_left_out_and_all_else_is_there(pages: int, two_lines: bool) -> None:
    head = "Annual report 2019\nDraft {n}\n" if two_lines else "Annual report 2019\n\n"
    whole = [f"{head.format(n=n)}{body(n)}\n\nPage {n} of {pages}" for n in range(1, pages + 1)]

    assert [page.strip() for page in without_running_lines(whole)] == [body(n) for n in range(1, pages + 1)]


def test_heads_that_differ_on_left_and_right_pages_and_change_with_the_chapter_go_too() -> None:
    heads = [("The Book" if n % 2 else f"Chapter {1 + n // 10}") for n in range(20)]
    whole = [f"{head}\n{body(n)}" for n, head in enumerate(heads)]

    assert list(without_running_lines(whole)) == [body(n) for n in range(20)]


@given(st.lists(st.text(alphabet="ab1\n ", max_size=20), max_size=3 * NEIGHBOURS))
def test_pages_stay_as_many_and_only_lose_lines_at_their_edges(pages: list[str]) -> None:
    found = list(without_running_lines(pages))

    assert len(found) == len(pages)
    assert all(kept in "\n".join(page.splitlines()) for kept, page in zip(found, pages, strict=True))


def test_a_short_document_and_lines_that_stand_elsewhere_stay() -> None:
    assert list(without_running_lines(["Title\na", "Title\nb"])) == ["Title\na", "Title\nb"]
    middle = [f"{body(n)}\nthe same line\n{body(n + 20)}" for n in range(6)]
    assert list(without_running_lines(middle)) == middle


@pytest.mark.parametrize("engine", ["pypdf", "pypdfium2"])
class TestPdf:
    @pytest.fixture(autouse=True)
    def chosen(self, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pdf_format, "_engine", lambda: engine)

    def test_the_option_leaves_out_heads_and_feet(self) -> None:
        pages = pdf([["The Report", *body(n).splitlines(), f"- {n} -"] for n in range(6)])
        kept, dropped = (
            "".join(one.text for one in pdf_format.extract(io.BytesIO(pages), options) if isinstance(one, Stretch))
            for options in ({}, {"pdf_headers": "drop"})
        )

        assert kept.count("The Report") == 6 and "- 3 -" in kept
        assert dropped.split() == " ".join(body(n) for n in range(6)).split()

    def test_what_is_printed_on_the_pages_is_told_where_it_is_not_their_number(self) -> None:
        writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([[f"Text of page {n}."] for n in range(4)])))
        writer.set_page_label(0, 1, style=PageLabelStyle.LOWERCASE_ROMAN)
        writer.set_page_label(2, 3, style=PageLabelStyle.DECIMAL, prefix="A-")
        out = io.BytesIO()
        writer.write(out)

        assert about(out.getvalue()).metadata == {"page_labels": '["i", "ii", "A-1", "A-2"]'}
        assert about(pdf([["Plain text on a page."]])).metadata == {}


def about(data: bytes) -> About:
    *_, last = pdf_format.extract(io.BytesIO(data), {})
    assert isinstance(last, About)
    return last


def test_texts_with_and_without_them_are_kept_apart(tmp_path: Path) -> None:
    data = pdf([["The Report", body(n)] for n in range(6)])
    ids = {
        open_document(refer(tmp_path / "a.pdf", data, options), store(tmp_path)).facts.text_id
        for options in ({}, {"pdf_headers": "drop"})
    }

    assert len(ids) == 2
