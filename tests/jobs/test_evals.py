"""`unspool eval`: what it prints, keeps and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.jobs.project import REPOSITORY, unspool

ITEMS = REPOSITORY / "tests" / "pipeline" / "eval_items"


def test_an_eval_prints_one_json_value_and_keeps_it_as_a_line_and_as_a_page(tmp_path: Path) -> None:
    out, page = tmp_path / "quality.jsonl", tmp_path / "page.md"
    arguments = ["eval", "pubmed", "--data", str(ITEMS), "--limit", "6", "--out", str(out), "--markdown", str(page)]

    said = [unspool(*arguments, "--json"), unspool(*arguments)]

    assert [one.code for one in said] == [0, 0]
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert len(lines) == 2
    assert {**lines[0], "seconds": 0} == {**lines[1], "seconds": 0} == {**said[0].data, "seconds": 0}
    assert lines[0]["rows"][0]["system"] == "unspool"
    systems = [row["system"] for row in lines[0]["rows"]]
    assert [system for system in systems if f"| {system} |" not in page.read_text("utf-8")] == []
    assert [system for system in systems if system[:5] not in said[1].out] == []


@pytest.mark.parametrize("option", ["--out", "--markdown"])
@pytest.mark.parametrize(("place", "says"), [("none/x", "none does not exist; make it"), (".", "is a folder")])
def test_where_a_result_cannot_be_written_nothing_is_measured(
    tmp_path: Path, option: str, place: str, says: str
) -> None:
    said = unspool("eval", "pubmed", "--data", str(ITEMS / "none"), option, str(tmp_path / place))

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert says in said.err


def test_without_a_name_the_evals_are_listed() -> None:
    said = unspool("eval")

    assert said.code == 0
    assert re.search(r"^sts +Semantic textual similarity", said.out, re.MULTILINE)
    listed = unspool("eval", "--json").data
    assert all(one["measures"] and one["needs"] for one in listed)
    assert [one["name"] for one in listed] == [line.split()[0] for line in said.out.splitlines()]
    assert unspool("eval", "nosuch").code == 2


def test_data_that_is_no_json_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "labelled").mkdir()
    (tmp_path / "labelled" / "stsb-en.jsonl").write_text('{"a": 1\n', "utf-8")
    (tmp_path / "labelled" / "wikitext2-valid.txt").write_text("x", "utf-8")

    said = unspool("eval", "sts", "--data", str(tmp_path))

    assert said.code == 2
    assert "stsb-en.jsonl:1" in said.err
