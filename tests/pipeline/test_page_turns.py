"""Sentences that go on over the end of a page: which do, and what is never joined."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.page_turns import with_turns

LINES = st.sampled_from(["The seller shall", "deliver the goods.", "12", "page 3 of 9", "Source: ACME", "", "(a) one"])
PAGES = st.lists(st.lists(LINES, max_size=4).map("\n".join).map(str.strip), max_size=12)


def goes_on(page: str, following: str) -> bool:
    """Whether the first of two pages, with others of no such look around them, goes on."""
    return list(with_turns(["Alpha one.", page, following, "Omega two."]))[1][1]


@given(pages=PAGES)
def test_the_pages_are_what_they_were_and_the_last_one_goes_nowhere(pages: list[str]) -> None:
    found = list(with_turns(pages))

    assert [page for page, _ in found] == pages
    assert not found or not found[-1][1]


@given(pages=PAGES)
def test_a_page_goes_on_by_itself_and_its_neighbours(pages: list[str]) -> None:
    for place, (_, turns) in enumerate(with_turns(pages)):
        assert list(with_turns(pages[max(place - 2, 0) : place + 2]))[min(place, 2)][1] == turns


def test_one_page_is_read_ahead() -> None:
    read: list[int] = []

    def pages() -> Iterator[str]:
        for number in range(9):
            read.append(number)
            yield f"page {number}"

    assert [len(read) for _ in with_turns(pages())] == [2, 3, 4, 5, 6, 7, 8, 9, 9]


@pytest.mark.parametrize(
    ("last", "first"),
    [
        ("The seller shall deliver the goods to the buyer within thirty days", "of the order, at its own cost."),
        ("in Berlin,", "or wherever the parties agree."),
        (
            "authorized to enter into any agreements on behalf of the",
            "COMPANY. The COMPANY expressly retains",
        ),
        ("the rights granted to", "Ginkgo under this Agreement survive."),
        ("reorganization under Section 368 of the Code of 1986", "for federal income tax purposes."),
        ("a rating of any “nationally recognized statistical rating", "organization”, as that term is defined"),
    ],
)
def test_a_sentence_goes_on_where_both_lines_say_so(last: str, first: str) -> None:
    assert goes_on(f"It begins here.\n{last}", f"{first}\nIt ends here.")


@pytest.mark.parametrize(
    ("last", "first"),
    [
        ("The seller shall deliver the goods.", "of course it may refuse."),
        ("He said “yes.”", "and left."),
        ("as the court found.12", "which it did not."),
        ("The seller shall do as follows:", "deliver the goods"),
        ("The seller shall deliver the goods to the", "12"),
        ("12", "the goods to the buyer."),
        ("- 12 -", "the goods to the buyer."),
        ("Page 4 of 85", "the goods to the buyer."),
        ("xii", "the goods to the buyer."),
        ("DEFINITIONS", "the goods to the buyer."),
        ("Definitions", "The goods are what is sold."),
        ("Figure 3", "the goods to the buyer."),
        ("100 µm", "the goods to the buyer."),
        ("The seller shall deliver; and", "b) take back the goods."),
        ("The seller shall deliver; and", "ii. take back the goods."),
        ("The seller shall deliver; and", "1.64.4 take back the goods."),
        ("Apples   12   14", "pears   3   7"),
        ("Apples\t12", "pears\t3"),
        ("Collusion . . . . . . . . . . . . . . . 12 and so forth and on", "a Outreach . . . . . . . 13"),
        ("found in the archive of the ministry", "https://example.org/archive"),
        ("The seller shall deliver the goods to the", "CONFIDENTIAL TREATMENT REQUESTED"),
    ],
)
def test_what_may_be_the_end_of_a_sentence_or_no_text_is_not_joined(last: str, first: str) -> None:
    assert not goes_on(f"It begins here.\n{last}", f"{first}\nIt ends here.")


def test_a_head_or_foot_that_stands_on_other_pages_too_is_not_joined() -> None:
    feet = [f"word {'x' * number}\nand more of it\nfiled with the commission, page {number}" for number in range(6)]
    heads = [f"which was filed with the commission\nand more of it\nthe goods {'x' * number}" for number in range(6)]

    assert not any(turns for _, turns in with_turns(feet))
    assert not any(turns for _, turns in with_turns(heads[1:]))


def test_a_page_with_notes_below_its_text_is_not_joined() -> None:
    page = "The bot was run by specialists.42 It had\n42See the indictment of the agency, and the report on it and"

    assert not goes_on(page, "operators in another town.")
    assert goes_on(page.replace("specialists.42", "specialists."), "operators in another town.")
