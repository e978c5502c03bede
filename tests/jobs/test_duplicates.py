"""Documents of the same content are read once, and nobody can tell from the output."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq

from tests.jobs.project import Project, events, prose, unspool

TEXT = prose(12)


def project(folder: Path, **more: str) -> Project:
    made = Project(folder / "project", a=TEXT, b=prose(12, seed=1), c=TEXT, **more)
    made.document("d.md", TEXT)
    return made


def read_again(run: Path) -> list[str]:
    """The documents that a worker has read, in order."""
    return [event["doc_id"] for event in events(run) if event["event"] == "document_done"]


def ids(made: Project) -> dict[str, str]:
    rows = pq.read_table(made.out / "output" / "documents").to_pylist()
    return {row["source_uri"]: row["doc_id"] for row in rows}


def test_the_output_is_what_reading_every_document_gives(tmp_path: Path) -> None:
    once, each = project(tmp_path / "once"), project(tmp_path / "each")
    with mock.patch("jobs.run.settle", lambda *anything: set()):
        assert each.run().code == 0

    assert once.run().code == 0

    assert once.output() == each.output()
    assert unspool("verify", str(once.out)).code == 0
    assert {path.name for path in (once.out / "states").iterdir()} == {
        path.name for path in (each.out / "states").iterdir()
    }
    named = ids(once)
    assert named["docs/c.txt"] not in read_again(once.out)
    assert {named["docs/a.txt"], named["docs/d.md"]} <= set(read_again(once.out))  # another format: another document


def test_twins_of_a_document_that_fails_fail_themselves(tmp_path: Path) -> None:
    made = Project(tmp_path / "project", good=TEXT)
    for name in ("a.pdf", "b.pdf", "c.pdf"):
        made.document(name, b"no PDF at all")

    assert made.run().code == 3

    failures = pq.read_table(made.out / "output" / "failures").to_pylist()
    assert [row["source_uri"] for row in failures] == ["docs/a.pdf", "docs/b.pdf", "docs/c.pdf"]
    assert unspool("verify", str(made.out)).code == 0


def test_a_run_that_was_stopped_before_the_copies_makes_them_when_it_goes_on(tmp_path: Path) -> None:
    made, other = project(tmp_path / "one"), project(tmp_path / "other")
    assert other.run().code == 0
    calls: list[int] = []

    def stop(*anything: object) -> set[str]:
        from jobs.duplicates import settle

        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return settle(*anything)  # type: ignore[arg-type]

    with mock.patch("jobs.run.settle", stop):
        assert made.run().code == 6

    assert made.run().code == 0
    assert made.output() == other.output()
    assert ids(made)["docs/c.txt"] not in read_again(made.out)


def test_a_twin_that_has_changed_meanwhile_is_read_itself(tmp_path: Path) -> None:
    made = project(tmp_path)
    changed = TEXT.replace("captain", "CAPTAIN")

    def change(*anything: object) -> set[str]:
        from jobs.duplicates import settle

        waiting = settle(*anything)  # type: ignore[arg-type]
        if waiting:
            made.document("c.txt", changed)
        return waiting

    with mock.patch("jobs.run.settle", change):
        assert made.run().code in (0, 3)

    rows = pq.read_table(made.out / "output" / "documents").to_pylist()
    found = {row["source_uri"]: row["source_sha256"] for row in rows}
    assert found["docs/a.txt"] != found["docs/c.txt"]
    assert ids(made)["docs/c.txt"] in read_again(made.out)


def test_damaged_rows_are_not_copied(tmp_path: Path) -> None:
    made = project(tmp_path)
    assert made.run().code == 0
    expected = made.output()
    for part in (made.out / "parts").rglob("*.parquet"):
        part.write_bytes(part.read_bytes()[:-9])
    (made.out / "output" / "dataset.json").write_text("{}", "utf-8")

    codes = [made.run().code for _ in range(3)]

    assert codes[-1] == 0
    assert made.output() == expected


def test_one_document_that_stands_in_for_many_is_a_row_of_each(tmp_path: Path) -> None:
    made = Project(tmp_path / "project", **{f"d{n}": TEXT for n in range(9)})

    assert made.run().code == 0

    documents = pq.read_table(made.out / "output" / "documents").to_pylist()
    sentences = pq.read_table(made.out / "output" / "sentences", columns=["id", "doc_id"]).to_pylist()
    assert len(read_again(made.out)) == 1
    assert len({row["source_sha256"] for row in documents}) == 1 and len(documents) == 9
    assert all(row["id"].startswith(row["doc_id"] + "#s") for row in sentences)
    assert unspool("verify", str(made.out)).code == 0
    assert unspool("plan", str(made.job)).code == 0
