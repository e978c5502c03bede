"""A document that has grown is continued from its boundary: only what is new is read, and its rows are the same."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.growth import read_on
from jobs.run import RunOptions, RunResult, resume_run
from tests.jobs.project import Project, prose, unspool

WINDOW = 64
DOCUMENTS = 6
HALF_A_CHARACTER = "Straße 今天天气很好。"


def long_text(number: int) -> str:
    """About 700 tokens with headings, characters of several bytes, and paragraphs; no two alike."""
    sections = (f"# Part {n}\n\n{HALF_A_CHARACTER} {prose(9, 100 * number + n)}\n\n" for n in range(5))
    return f"Text number {number} begins. " + "".join(sections)


def cut_points(data: bytes, seed: int) -> list[int]:
    """Behind a sentence, in one, in a character, in a heading, before a blank line, and anywhere."""
    half, heading = data.rindex("今".encode()) + 1, data.rindex(b"# Part") + 4
    draw = random.Random(seed)
    known = [data.rindex(b". ") + 2, data.rindex(b". ") + 9, half, heading, data.rindex(b"\n\n", 0, -9)]
    return [*known, *(draw.randrange(len(data) // 2, len(data)) for _ in range(DOCUMENTS - len(known)))]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any], RunResult]:
    """A run over beginnings of texts, continued once they are whole; the texts' names and what was cut of each."""
    project = Project(tmp_path_factory.mktemp("grown") / "project")
    project.write_job(model={"source": str(project.write_model())})
    texts = {f"{n}.{'md' if n % 2 else 'txt'}": long_text(n).encode() for n in range(DOCUMENTS)}
    cuts = {name: cut_points(data, 7)[place] for place, (name, data) in enumerate(texts.items())}
    for name, data in texts.items():
        project.document(name, data[: cuts[name]])
    assert project.run().code == 0
    before = {name: row["tokens"] for name, row in documents(project).items()}
    for name, data in texts.items():
        project.document(name, data)
    result = resume_run(project.out, RunOptions(progress="none"), refresh=True)
    assert result.exit_code == 0
    return project, {"before": before}, result


def documents(project: Project) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(project.out / "output" / "documents").to_pylist()
    return {row["source_uri"].removeprefix("docs/"): row for row in rows}


def records(project: Project, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_bytes().splitlines()[0]) for path in sorted((project.out / "ledger").glob("*.json"))]
    return [record for record in found if record["t"] == kind]


def test_its_tables_are_to_the_byte_those_of_a_run_over_the_whole_file(
    grown: tuple[Project, dict[str, Any], RunResult],
) -> None:
    project, _, _ = grown
    fresh = project.folder / "fresh"
    assert project.run("-o", str(fresh)).code == 0

    for path in sorted((fresh / "output").rglob("*.parquet")):
        assert path.read_bytes() == (project.out / path.relative_to(fresh)).read_bytes(), path.name
    for path in sorted((fresh / "states").glob("*.end.arrow")):
        assert path.read_bytes() == (project.out / "states" / path.name).read_bytes(), path.name
    assert unspool("verify", str(project.out)).code == 0


def test_it_costs_the_new_tokens_a_window_and_a_passage(grown: tuple[Project, dict[str, Any], RunResult]) -> None:
    project, facts, result = grown
    after = {name: row["tokens"] for name, row in documents(project).items()}
    new = sum(after[name] - facts["before"][name] for name in after)
    passage = 90  # the longest between two blank lines, in tokens, with what the tokenizer holds back

    assert result.tokens_fed <= new + DOCUMENTS * (WINDOW + passage)
    assert result.tokens_fed < sum(after.values()) / 2


def test_the_record_names_the_parts_that_were_there(grown: tuple[Project, dict[str, Any], RunResult]) -> None:
    project, _, _ = grown
    first, second = ({doc["doc_id"]: doc for doc in one["documents"]} for one in _halves(project))

    for doc_id, document in second.items():
        names = [part["name"] for part in first[doc_id]["parts"]]
        kept = first[doc_id]["parts"][: names.index(f"{doc_id}.standing.arrow")]
        assert kept and document["parts"][: len(kept)] == kept


def _halves(project: Project) -> list[dict[str, Any]]:
    """What was committed before and after the documents grew."""
    epochs = [[one for one in records(project, "done") if one["epoch"] == epoch] for epoch in (1, 2)]
    return [{"documents": [doc for one in found for doc in one["documents"]]} for found in epochs]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project", log=prose(40, 1))
    project.write_job(model={"source": str(project.write_model())})
    assert project.run().code == 0
    return project


def refresh(project: Project) -> Any:
    return unspool("resume", str(project.out), "--refresh-inputs", "--no-progress")


def test_a_log_that_grows_again_and_again_is_continued_each_time_and_it_is_said(project: Project) -> None:
    text = prose(40, 1)
    for time in range(2):
        text += f"\n\n{prose(9, 2 + time)}"
        project.document("log.txt", text)

        assert "1 document has grown and is continued, the first is docs/log.txt" in refresh(project).err

    fresh = project.folder / "fresh"
    project.run("-o", str(fresh))
    for path in sorted((fresh / "output").rglob("*.parquet")):
        assert path.read_bytes() == (project.out / path.relative_to(fresh)).read_bytes(), path.name


@pytest.mark.parametrize("change", ["in front", "at its end", "cut", "other language", "damaged"])
def test_one_that_changed_in_another_way_is_read_anew(project: Project, change: str) -> None:
    text = prose(40, 1)
    texts = {"in front": "A" + text + "More.", "at its end": text[:-9] + "x" * 99, "cut": text[:900]}
    project.document("log.txt", texts.get(change, text + " More."))
    if change == "damaged":
        for path in (project.out / "parts" / "states").iterdir():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    if change == "other language":
        project.document("log.txt", text + "\n\n" + "der die und das ist nicht ein eine den mit " * 100)

    said = refresh(project)

    assert "continued" not in said.err
    assert "read again" in said.err, said.err
    assert unspool("verify", str(project.out)).code == 0


def test_a_crash_between_the_checkpoint_and_the_record_costs_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: Any) -> bool:
        assert read_on(*arguments)
        raise RuntimeError("power is lost")

    project.document("log.txt", prose(40, 1) + "\n\nMore of it.")
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr("jobs.refresh.read_on", crash)
        resume_run(project.out, RunOptions(progress="none"), refresh=True)

    assert "has grown and is continued" in refresh(project).err
    assert unspool("verify", str(project.out)).code == 0


def test_records_appended_to_a_file_are_read_and_those_that_were_there_are_not_read_again(tmp_path: Path) -> None:
    lines = [json.dumps({"text": prose(3, number)}) + "\n" for number in range(5)]
    project = Project(tmp_path / "project")
    project.write_job(model={"source": str(project.write_model())})
    project.document("r.jsonl", "".join(lines[:3]))
    assert project.run().code == 0
    before = documents(project)
    project.document("r.jsonl", "".join(lines))

    said = refresh(project)

    assert (said.code, "2 new file(s)" in said.err, "read again" in said.err) == (0, True, False), said.err
    assert {name: documents(project)[name] for name in before} == before
