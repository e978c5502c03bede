"""A bad document alone among twenty good ones changes no byte of theirs. All cases: `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.bad_company import Bad, Company, cases

SAMPLE = ("t10b.txt", "t21-grows.txt", "d05a.pdf", "h05a.docx", "h11a.jsonl", "fifo.txt")
"""Refused by its bytes, while it is read, by its parser, for its size; one record of three; no file at all."""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return Company(tmp_path_factory.mktemp("company"))


@pytest.mark.parametrize("file", SAMPLE)
def test_a_bad_document_among_twenty_good_ones_changes_no_byte_of_theirs(company: Company, file: str) -> None:
    [bad] = [bad for bad in cases() if bad.file == file]

    assert company.joined_by(bad) == ""


def test_one_that_changes_a_letter_of_another_is_noticed(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.touch()
        good = path.with_name("good-0.txt")
        good.write_text(good.read_text("utf-8").replace("a", "o", 1), "utf-8")

    found = Company(tmp_path).joined_by(Bad("empty.txt", make, {"empty.txt": "empty"}))

    assert found == "other documents have other rows"
