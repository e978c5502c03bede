"""Markdown files: text as it is written, sections by their heading paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.formats.markdown import Outline, open_document
from tests.pipeline.readings import document


def sections_of(folder: Path, text: str) -> list[tuple[str | None, str]]:
    """The sections in order, each with all of its text."""
    found: list[tuple[str | None, str]] = []
    for block in open_document(document(folder / "a.md", text)).blocks():
        if found and found[-1][0] == block.section:
            found[-1] = (block.section, found[-1][1] + block.text)
        else:
            found.append((block.section, block.text))
    return found


def names_of(folder: Path, text: str) -> list[str | None]:
    return [name for name, _ in sections_of(folder, text)]


def test_a_section_begins_with_its_heading_and_is_named_by_the_path_to_it(tmp_path: Path) -> None:
    text = "before\n# 1 Intro\na\n## 1.1 Aim\nb\n### Deep\nc\n## 1.2 Scope\nd\n# 2 End\n"

    assert sections_of(tmp_path, text) == [
        (None, "before\n"),
        ("1 Intro", "# 1 Intro\na\n"),
        ("1 Intro > 1.1 Aim", "## 1.1 Aim\nb\n"),
        ("1 Intro > 1.1 Aim > Deep", "### Deep\nc\n"),
        ("1 Intro > 1.2 Scope", "## 1.2 Scope\nd\n"),
        ("2 End", "# 2 End\n"),
    ]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# Title", "Title"),
        ("   ###### Title ##  ", "Title"),
        ("#\tTitle", "Title"),
        ("# Title #1", "Title #1"),
        ("# C#", "C#"),
        ("# *Title* `code`", "*Title* `code`"),
        ("# Sending Keys {#old-keys-send}", "Sending Keys"),
        ("# Sending {#a .b} ##", "Sending"),
        ("# The set {a, b}", "The set {a, b}"),
        ("#Title", None),
        ("####### Title", None),
        ("    # Title", None),
        ("\\# Title", None),
        ("> # Title", None),
        ("text # Title", None),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_what_is_a_heading(line: str, title: str | None, ending: str) -> None:
    assert Outline().after(line + ending).section == title


def test_headings_in_fenced_code_are_code(tmp_path: Path) -> None:
    assert names_of(tmp_path, "# A\n```python\n# no\n```\n# B\n") == ["A", "B"]


@pytest.mark.parametrize(
    ("opening", "inside", "closing"),
    [("```", "~~~", "```"), ("~~~~", "~~~", "~~~~~"), ("````", "```", "````"), ("  ```", "    ```", " ```  ")],
)
def test_a_fence_is_closed_only_by_one_of_its_kind_that_is_as_long(
    tmp_path: Path, opening: str, inside: str, closing: str
) -> None:
    text = f"{opening}\n# no\n{inside}\n# no\n{closing}\n# Yes\n"

    assert names_of(tmp_path, text) == [None, "Yes"]


def test_a_fence_with_words_behind_it_does_not_close_one(tmp_path: Path) -> None:
    assert names_of(tmp_path, "```\n# no\n``` python\n# no\n```\n# Yes\n") == [None, "Yes"]


def test_an_open_fence_goes_on_to_the_end(tmp_path: Path) -> None:
    assert names_of(tmp_path, "# A\n```\n" + "# no\n" * 3000) == ["A"]


def test_underlined_headings_are_text(tmp_path: Path) -> None:
    assert names_of(tmp_path, "Title\n=====\n\ntext\n\nOther\n-----\n") == [None]


def test_a_deeper_heading_may_skip_levels_and_an_empty_one_ends_a_section(tmp_path: Path) -> None:
    assert names_of(tmp_path, "### C\na\n## B\nb\n#### D\nc\n# A\nd\n") == ["C", "B", "B > D", "A"]


def test_the_title_is_the_first_heading(tmp_path: Path) -> None:
    assert open_document(document(tmp_path / "a.md", "text\n\n## Sub ##\n# Top\n")).facts.title == "Sub"
    assert open_document(document(tmp_path / "b.md", "no heading\n")).facts.title is None


def test_a_line_without_end_is_given_out_in_parts_and_is_a_heading_only_by_its_beginning(tmp_path: Path) -> None:
    text = "# A\n" + "x" * 200_000 + " # no heading\n# B\n"
    document_ = open_document(document(tmp_path / "a.md", text))
    blocks = list(document_.blocks())

    assert max(len(block.text) for block in blocks) < 100_000
    assert names_of(tmp_path, text) == ["A", "B"]


def test_a_part_of_a_long_line_that_looks_like_a_heading_is_none(tmp_path: Path) -> None:
    text = "x" * 65_536 + "# no heading\n# Yes\n"

    assert names_of(tmp_path, text) == [None, "Yes"]
