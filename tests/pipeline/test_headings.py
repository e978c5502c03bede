"""Headings and the sections that they open."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.headings import HeadingPath
from tests.pipeline.samples import read


@given(headings=st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["A", "A (2)", "B"])), max_size=12))
def test_no_heading_stays_in_the_section_before_it(headings: list[tuple[int, str]]) -> None:
    path = HeadingPath()
    for level, title in headings:
        following = path.entering(level, title)
        assert following.section != path.section
        assert (following.section or "").split(" > ")[-1].startswith(title)
        path = following


def test_equal_headings_in_a_row_are_numbered_and_others_are_not() -> None:
    path, found = HeadingPath(), []
    for level, title in [(1, "A"), (2, "B"), (2, "B"), (2, "B"), (1, "A"), (2, "B"), (1, "A")]:
        path = path.entering(level, title)
        found.append(path.section)

    assert found == ["A", "A > B", "A > B (2)", "A > B (3)", "A", "A > B", "A"]


def test_equal_chapters_are_sections_of_their_own(tmp_path: Path) -> None:
    page = "<h2>Notes</h2><p>One.</p><h2>Notes</h2><p>Two.</p>"

    assert [block.section for block in read(tmp_path / "a.html", page)] == ["Notes", "Notes (2)"]
