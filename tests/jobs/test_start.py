"""The first two commands of a newcomer: a job for a folder, and what this machine can do."""

from __future__ import annotations

import glob
import json
from pathlib import Path

import pytest

from jobs.spec import load_spec
from tests.jobs.project import prose, unspool
from tests.pipeline.readings import bpe_tensors, save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents of several kinds, among them hidden and unknown ones."""
    documents = tmp_path / "my documents [1]"
    (documents / "below" / ".git").mkdir(parents=True)
    for name in ("a.txt", "b.TXT", "below/c.md", "table.csv", "packed.jsonl.gz", "image.png", ".hidden.txt"):
        (documents / name).write_text(prose(2), "utf-8")
    (documents / "below" / ".git" / "d.txt").write_text("x", "utf-8")
    return documents


def test_a_job_for_a_folder_is_valid_and_names_every_kind_of_file_in_it(folder: Path, tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "first.yaml"
    job.parent.mkdir()

    said = unspool("init", str(folder), "--job", str(job))

    assert (said.code, said.out) == (0, "")
    spec = load_spec(job)
    assert [entry.path.rsplit("*", 1)[1] for entry in spec.inputs] == [".TXT", ".csv", ".jsonl.gz", ".md", ".txt"]
    matched = {path for entry in spec.inputs for path in glob.glob(entry.path, recursive=True)}
    assert {Path(path).name for path in matched} == {"a.txt", "b.TXT", "c.md", "table.csv", "packed.jsonl.gz"}
    assert spec.name == "my-documents--1"
    assert {task.type for task in spec.tasks} == {"embed", "summarize", "state"}


def test_the_job_of_init_plans_and_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = tmp_path / "letters"
    documents.mkdir()
    (documents / "one.txt").write_text(prose(3), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert unspool("init", "letters").code == 0

    planned = unspool("plan", "job.yaml", "--json")
    ran = unspool("run", "job.yaml", "-j", "0", "--quiet")

    assert [document["uri"] for document in json.loads(planned.out)["documents"]] == ["letters/one.txt"]
    assert ran.code == 0, ran.err
    assert (tmp_path / "out" / "letters" / "report.html").exists()


def test_init_never_writes_over_a_file(folder: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("mine", "utf-8")

    said = unspool("init", str(folder), "--job", str(job))

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert job.read_text("utf-8") == "mine"


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_init_of_no_documents_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()

    said = unspool("init", str(tmp_path / name), "--job", str(tmp_path / "job.yaml"))

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert not (tmp_path / "job.yaml").exists()


def test_doctor_names_what_decides_the_speed_and_is_json_on_request() -> None:
    said = unspool("doctor", "--json")

    found = {finding["what"]: finding for finding in json.loads(said.out)}
    assert said.code == 0
    assert found.keys() >= {"native kernels", "torch", "ray", "default model", "processors", "disk"}
    assert found["default model"]["level"] == "good"


def test_what_is_missing_comes_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.doctor._EXTRAS", {"pdf": ("no-such-package", "reads PDFs")})

    said = unspool("doctor")

    assert "- extra pdf: no-such-package is not installed" in said.out
    assert "-m pip install 'unspool[pdf]'" in said.out


def test_the_doctor_tells_and_draws_what_a_model_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import recall

    monkeypatch.setattr(recall, "QUICK", recall.Grid((1, 2), (16, 32), 1))
    model, picture = save_model(tmp_path / "bpe", bpe_tensors()), tmp_path / "recall.svg"
    said = unspool("doctor", "--recall", "-m", model, "--chart", str(picture), "--json")

    assert said.code == 0 and picture.read_text("utf-8").startswith("<?xml")
    assert {(cell["facts"], cell["distance"]) for cell in said.data["cells"]} == {(1, 16), (1, 32), (2, 16), (2, 32)}
    told = unspool("doctor", "--recall", "-m", model).out.splitlines()
    assert [line.split()[1] for line in told[1:7]] == ["state", "quoted", "read"] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--full"], "add --recall"), (["--recall", "--chart", "a.pdf"], "is drawn as one of .svg, .png")],
)
def test_a_doctor_that_is_asked_wrongly_says_so_at_once(arguments: list[str], said: str) -> None:
    found = unspool("doctor", *arguments)

    assert found.code == 2 and said in found.err
