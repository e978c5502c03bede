"""Documents that take their worker down, among good ones: they are given up with the cause, the others lose no byte."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs.project import Project, contents, events, finish, prose, start

FAULTS = "documents=segfault:docs/segfault.txt,hang:docs/hang.txt,memory:docs/memory.txt"
WHY = {
    "docs/segfault.txt": ("worker_crashed", "because it crashed (Segmentation fault)"),
    "docs/hang.txt": ("worker_hung", "because it stopped answering"),
    "docs/memory.txt": ("worker_memory", "because there was no memory left"),
}


def good_documents(folder: Path) -> Project:
    project = Project(folder, first=prose(60, 1), second=prose(40, 2), third=prose(20, 3))
    project.write_job(
        model={"source": str(project.write_model()), "dtype": "fp32"},
        on_error={"stall_timeout": "8s", "max_failed": 1.0, "retries": 1},  # each costs a worker's start
        run={"workers": 2, "window": 64, "lanes": 2},
    )
    return project


def rows_of_good_documents(project: Project, table: str) -> list[dict[str, object]]:
    read = pq.read_table(project.out / "output" / table).to_pylist()
    bad = {row["doc_id"] for row in pq.read_table(project.out / "output" / "failures").to_pylist()}
    return [row for row in read if row["doc_id"] not in bad]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_poison_documents_are_given_up_with_their_cause_and_the_others_lose_no_byte(tmp_path: Path) -> None:
    undisturbed, project = good_documents(tmp_path / "good"), good_documents(tmp_path / "poisoned")
    assert undisturbed.run("-j", "0").code == 0
    for number, uri in enumerate(WHY):
        project.document(Path(uri).name, prose(80, 10 + number))

    said = finish(start("run", str(project.job), "--no-progress", faults=FAULTS), timeout=500)

    assert said.code == 3, said.err
    failures = pq.read_table(project.out / "output" / "failures").to_pylist()
    assert {row["source_uri"] for row in failures} == WHY.keys()
    for row in failures:
        kind, why = WHY[row["source_uri"]]
        assert (row["error_type"], row["retryable"]) == (kind, True)
        assert row["message"] == f"the worker reading it was lost 2 times, the last time {why}"
    lost = Counter(doc for event in events(project.out) if event["event"] == "worker_lost" for doc in event["doc_ids"])
    assert [lost[row["doc_id"]] for row in failures] == [2, 2, 2]
    for table in ("documents", "sentences", "summaries"):
        assert rows_of_good_documents(project, table) == rows_of_good_documents(undisturbed, table)
    states = contents(undisturbed.out / "states")
    assert len(states) == 9 and states.items() <= contents(project.out / "states").items()
    stacks = [path.read_text() for path in (project.out / "quarantine").glob("worker-*.txt")]
    assert stacks and all("poison.py" in stack for stack in stacks)
