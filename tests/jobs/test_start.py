"""The first two commands of a newcomer: a job for a folder, and what this machine can do."""

from __future__ import annotations

import glob
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from jobs import doctor
from jobs.spec import load_spec
from tests.jobs.project import REPOSITORY, prose, unspool
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
    assert {task.type for task in spec.tasks} == {"embed", "summarize", "extract", "state"}


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


@pytest.mark.parametrize(
    ("name", "content", "text", "identity"),
    [
        ("a.csv", "id,title,body\n1,One,Rain falls.\n2,Two,Lamps burn.\n", "body", "id"),
        ("b.csv", "nr;Titel;Inhalt\n1;Eins;Regen fällt auf den Hafen.\n", "Inhalt", None),
        ("c.csv", "key,text\nx,One.\nx,Two.\n", "text", None),
        ("d.jsonl", '{"uuid": 1, "note": "Rain falls."}\n{"uuid": 2, "note": "Lamps"}\n', "note", "uuid"),
        ("e.jsonl", "no JSON at all\n", "text", None),
        ("f.csv", "text\n" + '"a ""quoted"", long\nrecord"\n' * 9000, "text", None),
        ("g.csv", "", "text", None),
    ],
)
def test_init_guesses_the_columns_of_a_file_of_records(
    tmp_path: Path, name: str, content: str, text: str, identity: str | None
) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / name).write_text(content, "utf-8")

    assert unspool("init", str(tmp_path / "table"), "--job", str(tmp_path / "job.yaml")).code == 0

    [entry] = load_spec(tmp_path / "job.yaml").inputs
    assert (entry.text_key, entry.id_key) == (text, identity)


def test_an_editor_finds_the_schema_that_the_job_file_names(folder: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    assert unspool("init", str(folder), "--job", str(job)).code == 0

    [name] = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", job.read_text("utf-8"), re.MULTILINE)
    schema = json.loads((job.parent / name).read_text("utf-8"))

    assert schema == json.loads(unspool("schema").out)
    jsonschema.validate(yaml.safe_load(job.read_text("utf-8")), schema)


def test_what_init_says_to_call_can_be_called(folder: Path, tmp_path: Path) -> None:
    said = unspool("init", str(folder), "--job", str(tmp_path / "ä b.yaml"))

    assert f"unspool plan '{tmp_path / 'ä b.yaml'}'" in said.err


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


def test_doctor_tells_a_damaged_model_in_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwkv_runtime.identity.DEFAULT_FINGERPRINT", "0" * 64)

    said = unspool("doctor", "--json")

    found = {finding["what"]: finding for finding in json.loads(said.out)}["default model"]
    assert found["level"] == "broken" and "install the package again" in found.values()
    assert any("this version ships 000000000000" in str(value) for value in found.values())


def test_doctor_knows_every_extra_and_the_package_that_it_brings() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]

    assert doctor._EXTRAS.keys() == extras.keys() - {"test"}
    for name, (package, _) in doctor._EXTRAS.items():
        wanted = {re.split(r"[<>=\[; ]", one)[0].replace("_", "-") for one in extras[name]}
        assert package.replace("_", "-") in wanted, name


def test_the_shell_completes_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_UNSPOOL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "unspool stat")
    monkeypatch.setenv("COMP_CWORD", "1")

    said = unspool()

    assert (said.code, said.out.split(), said.err) == (0, ["status", "state"], "")


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
    ways = ["state", "by section", "primed anew", "quoted", "read again"]
    assert [re.split(" {2,}", line.strip())[1] for line in told[1:11]] == [*ways, *ways]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--full"], "add --recall"), (["--recall", "--chart", "a.pdf"], "is drawn as one of .svg, .png")],
)
def test_a_doctor_that_is_asked_wrongly_says_so_at_once(arguments: list[str], said: str) -> None:
    found = unspool("doctor", *arguments)

    assert found.code == 2 and said in found.err
