"""One vocabulary: what is written to the logs of a run is what WATCHING.md says, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from jobs.events import METRICS, VOCABULARY, EventLog
from pipeline.outcome import Outcome
from pipeline.work import LaneReport, Progress
from tests.jobs.project import REPOSITORY, Project, events, prose

PAGE = (REPOSITORY / "WATCHING.md").read_text("utf-8")
ALWAYS = {"ts", "level", "event", "run_id"}


def table(heading: str) -> dict[str, list[str]]:
    """The rows of a table of the page: the other cells by the name in the first."""
    lines = [line for line in PAGE.split(heading)[1].split("\n## ")[0].splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells}


def log(folder: Path) -> EventLog:
    return EventLog(folder / "events.jsonl", folder / "metrics.jsonl", "run")


def test_the_page_lists_every_event_with_its_fields_and_nothing_else() -> None:
    listed = {name: (means, set(fields.split(", "))) for name, (means, fields) in table("## events.jsonl").items()}

    assert listed == {name: (kind.means, set(kind.fields)) for name, kind in VOCABULARY.items()}


def test_the_page_lists_every_metric() -> None:
    assert {name: cells[0] for name, cells in table("## metrics.jsonl").items()} == dict(METRICS)


def test_every_event_that_the_source_notes_is_in_the_vocabulary() -> None:
    noted: set[str] = set()
    for path in (REPOSITORY / "jobs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".note"):
                noted |= {str(one.value) for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)}

    assert noted == set(VOCABULARY)


def test_an_event_that_is_not_in_the_vocabulary_or_has_other_fields_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        log(tmp_path).note("document_lost", doc_id="d1")
    with pytest.raises(ValueError, match="vocabulary"):
        log(tmp_path).note("run_started", epoch=1)


def test_the_events_of_a_run_with_a_failure_have_the_fields_of_the_vocabulary(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(20), empty="")
    project.write_job(model={"source": str(project.write_model())})
    assert project.run().code == 3

    found = events(project.out)

    assert {"run_started", "worker_ready", "document_done", "document_failed", "run_finished"} <= {
        one["event"] for one in found
    }
    for one in found:
        assert one.keys() - ALWAYS == VOCABULARY[one["event"]].fields, one


def test_a_sample_counts_what_has_happened_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("jobs.events.time.monotonic", lambda: float(next(clock)))
    written = log(tmp_path)
    lanes = (LaneReport("d1", 500, 900), LaneReport("d2", 100, 200))

    written.moved(0, Progress((), lanes, 600, 1, 7 << 20))
    written.finished(Outcome("d1", 1, 1, "failed", "", (), 0, 0, 0.0))
    written.finished(Outcome("d2", 1, 1, "ok", "", (), 100, 100, 1.0))
    written.moved(0, Progress((), lanes[:1], 400, 2, 8 << 20))

    last = json.loads((tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    assert last.keys() - {"ts", "worker"} == set(METRICS)
    assert (last["unspool_tokens_read_total"], last["unspool_tokens_per_second"]) == (1000, 40.0)
    assert (last["unspool_documents_done_total"], last["unspool_documents_failed_total"]) == (1, 1)
    assert (last["unspool_checkpoints_total"], last["unspool_lanes_active"]) == (3, 1)
    assert re.fullmatch(r"\d+", str(last["unspool_rss_peak_bytes"]))
