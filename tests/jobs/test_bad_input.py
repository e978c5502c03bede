"""Bad input gets one clear line and the right exit code: through the real command, one case a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.run_directory import RunDirectory
from pipeline.durable import Disk, seal, unseal
from tests.jobs.project import TASKS, Project, contents, finish, prose, start, unspool

JOB = "{job}"
OUT = "{out}"
FOLDER = "{folder}"


@dataclass(frozen=True)
class Case:
    """What is wrong (`spoil` makes it so), what is called, and what must come of it."""

    name: str
    code: int
    error: str
    says: Sequence[str]
    spoil: Callable[[Project], Any] = lambda project: None
    call: Sequence[str] = ("run", JOB)

    def arguments(self, project: Project) -> list[str]:
        return [text.format(job=project.job, out=project.out, folder=project.folder) for text in self.call]


def job(**changes: Any) -> Callable[[Project], None]:
    return lambda project: project.write_job(**changes)


def text(content: str | bytes) -> Callable[[Project], Any]:
    """The job file holds this."""
    return lambda project: project.job.write_bytes(content.encode() if isinstance(content, str) else content)


def damage(name: str, old: bytes, new: bytes) -> Callable[[Project], None]:
    """A finished run, one file of which has changed."""

    def spoil(project: Project) -> None:
        assert project.run().code == 0
        path = project.out / name
        before = path.read_bytes()
        assert old in before
        path.write_bytes(before.replace(old, new, 1))

    return spoil


def finished_then(**changes: Any) -> Callable[[Project], None]:
    """A finished run whose job file says something else now."""

    def spoil(project: Project) -> None:
        assert project.run().code == 0
        project.write_job(**changes)

    return spoil


def strangers(project: Project) -> None:
    project.out.mkdir()
    (project.out / "thesis.txt").write_text("Do not touch.\n", "utf-8")


def truncated_model(project: Project) -> None:
    path = project.write_model()
    path.write_bytes(path.read_bytes()[:-5000])
    project.write_job(model={"source": "models/tiny.pth"})


def truncated_safetensors(project: Project) -> None:
    shipped = Path(__file__).parents[2] / "rwkv_runtime/default/model.safetensors"
    (project.folder / "half.safetensors").write_bytes(shipped.read_bytes()[:1_000_000])
    project.write_job(model={"source": "half.safetensors"})


def model_without(tensor: str) -> Callable[[Project], None]:
    def spoil(project: Project) -> None:
        project.write_model(leave_out=tensor)
        project.write_job(model={"source": "models/tiny.pth"})

    return spoil


def no_model(project: Project) -> None:
    (project.folder / "notes.pth").write_text("not weights at all\n", "utf-8")
    project.write_job(model={"source": "notes.pth"})


def other_model(project: Project) -> None:
    assert project.run().code == 0
    project.write_model()
    project.write_job(model={"source": "models/tiny.pth"})


GIST_OF_SEVEN = [TASKS[0], {**TASKS[1], "max_sentences": 7}, TASKS[2]]
NO_TASKS = "version: 1\nname: x\ninputs: [{path: docs/*}]\noutput: {path: out}\n"
UNKNOWN_KEY = NO_TASKS + "tasks: [{name: v, type: embed}]\ncheckpoint: {evry: 3}\n"

USAGE = [
    Case("an option that is not there", 2, "USAGE", ["--nope"], call=("run", JOB, "--nope")),
    Case("a command that is not there", 2, "USAGE", ["rum"], call=("rum", JOB)),
    Case("no job file named", 2, "USAGE", ["JOB.yaml"], call=("run",)),
    Case("an option without its value", 2, "USAGE", ["--limit"], call=("run", JOB, "--limit")),
    Case("workers that are no number", 2, "USAGE", ["--workers", "integer"], call=("run", JOB, "-j", "many")),
    Case("workers below zero", 2, "SPEC-BAD-VALUE", ["run.workers", "-1"], call=("run", JOB, "-j", "-1")),
    Case("a limit of nothing", 2, "SPEC-BAD-VALUE", ["limit", "at least 1"], call=("plan", JOB, "--limit", "0")),
    Case("--set without a value", 2, "SPEC-SET", ["dotted.path=value"], call=("run", JOB, "--set", "tasks")),
    Case("--set of nothing", 2, "SPEC-SET", ["dotted.path=value"], call=("run", JOB, "--set", "=3")),
    Case(
        "--set of an unknown key",
        2,
        "SPEC-UNKNOWN-KEY",
        ["--set tasks.gist.max_sentence=3", "did you mean `max_sentences`?"],
        call=("run", JOB, "--set", "tasks.gist.max_sentence=3"),
    ),
    Case(
        "--set of an unknown task",
        2,
        "SPEC-SET",
        ["did you mean `gist`?"],
        call=("run", JOB, "--set", "tasks.gits.max_sentences=3"),
    ),
]

JOB_FILE = [
    Case("no such job file", 2, "SPEC-FILE", ["missing.yaml", "No such file"], call=("run", "{folder}/missing.yaml")),
    Case("a folder for a job file", 2, "SPEC-FILE", ["{folder}", "is a folder"], call=("run", FOLDER)),
    Case("an empty job file", 2, "YAML-EMPTY", ["job.yaml"], text("")),
    Case("a job file that is not YAML", 2, "YAML-SYNTAX", ["job.yaml:3:1"], text("version: 1\nname: [\n")),
    Case("a job file that is not UTF-8", 2, "YAML-ENCODING", ["job.yaml:1:10"], text(b"name: caf\xe9\n")),
    Case(
        "an unknown key",
        2,
        "SPEC-UNKNOWN-KEY",
        ["job.yaml:6:14", "checkpoint.evry", "did you mean `every`?"],
        text(UNKNOWN_KEY),
    ),
    Case("a key that is missing", 2, "SPEC-MISSING-KEY", ["job.yaml", "tasks is missing"], text(NO_TASKS)),
    Case("a version that is not there yet", 2, "SPEC-BAD-VALUE", ["version"], job(version=2)),
    Case("a policy that there is not", 2, "SPEC-BAD-VALUE", ["policy"], job(policy="forget")),
    Case("a variable that is not set", 2, "SPEC-VARIABLE", ["NO_SUCH_NAME"], job(name="${NO_SUCH_NAME}")),
]
INPUTS = [
    Case("an input that is missing", 2, "INPUT-MISSING", ["docs/z.txt"], job(inputs=[{"path": "docs/z.txt"}])),
    Case("a pattern that matches nothing", 2, "INPUT-EMPTY", ["*.rst"], job(inputs=[{"path": "docs/*.rst"}])),
    Case(
        "a pattern all of whose files are excluded",
        2,
        "INPUT-EMPTY",
        ["1 files that it matches are excluded"],
        job(inputs=[{"path": "docs/*", "exclude": ["*.txt"]}]),
    ),
    Case("a folder as an input", 2, "INPUT-FOLDER", ["**/*"], job(inputs=[{"path": "docs"}])),
    Case("inputs that lie in the output", 2, "INPUT-IN-OUTPUT", ["docs/a.txt"], job(output={"path": "docs"})),
]
MODELS = [
    Case("no such model", 7, "MODEL", ["models/none.pth"], job(model={"source": "models/none.pth"})),
    Case("no such model on the command line", 7, "MODEL", ["none.pth"], call=("run", JOB, "-m", "none.pth")),
    Case("a model of an unknown kind", 7, "MODEL", [".safetensors"], job(model={"source": "docs/a.txt"})),
    Case("a folder without a model", 7, "MODEL", ["docs"], job(model={"source": "docs"})),
    Case("a file that is no model", 7, "MODEL", ["notes.pth"], no_model),
    Case("a truncated .pth file", 7, "MODEL", ["tiny.pth", "damaged or incomplete"], truncated_model),
    Case("a truncated .safetensors file", 7, "MODEL", ["half.safetensors"], truncated_safetensors),
    Case("a tensor that is missing", 7, "MODEL", ["blocks.0.att.key.weight"], model_without("blocks.0.att.key.weight")),
]
RUNS = [
    Case(
        "a run of another job",
        4,
        "RUN-OTHER-SPEC",
        ["{out}", "tasks[1].max_sentences: 3 → 7", "output.path"],
        finished_then(tasks=GIST_OF_SEVEN),
    ),
    Case(
        "a plan over a run of another job",
        4,
        "RUN-OTHER-SPEC",
        ["max_sentences: 3 → 7"],
        finished_then(tasks=GIST_OF_SEVEN),
        call=("plan", JOB),
    ),
    Case("a run of another model", 4, "RUN-OTHER-SPEC", ["model:"], other_model),
    Case(
        "a run where none is wanted", 2, "RUN-EXISTS", ["{out}"], finished_then(output={"path": "out", "mode": "error"})
    ),
    Case("an output folder with other things", 6, "RUN-NOT-A-RUN", ["thesis.txt"], strangers),
    Case("an output that is a file", 6, "RUN-STORAGE", ["job.yaml", "not a folder"], job(output={"path": "job.yaml"})),
    Case("an output below a file", 6, "RUN-STORAGE", ["job.yaml"], job(output={"path": "job.yaml/out"})),
    Case("resuming what is no run", 6, "RUN-NOT-A-RUN", ["run.json"], call=("resume", "{folder}/docs")),
    Case("resuming nothing", 6, "RUN-NOT-A-RUN", ["no run directory"], call=("resume", OUT)),
    Case("the status of nothing", 6, "RUN-NOT-A-RUN", ["no run directory"], call=("status", OUT)),
    Case("the status of a file", 6, "RUN-NOT-A-RUN", ["a file"], call=("status", JOB)),
    Case("verifying nothing", 6, "RUN-NOT-A-RUN", ["no run directory"], call=("verify", OUT)),
    *(
        Case(
            f"{call[0]} over a damaged run.json",
            6,
            "RUN-DAMAGED",
            ["run.json"],
            damage("run.json", b"small", b"smell"),
            call,
        )
        for call in (("run", JOB), ("plan", JOB), ("resume", OUT), ("status", OUT), ("verify", OUT))
    ),
    *(
        Case(
            f"{call[0]} over a ledger with a damaged record in the middle",
            6,
            "RUN-LEDGER-DAMAGED",
            ["00000002.json"],
            damage("ledger/00000002.json", b'"t"', b'"T"'),
            call,
        )
        for call in (("run", JOB), ("plan", JOB), ("resume", OUT), ("status", OUT))
    ),
    Case(
        "a damaged list of inputs",
        6,
        "RUN-MANIFEST-DAMAGED",
        ["manifest-000001.jsonl"],
        damage("inputs/manifest-000001.jsonl", b"a.txt", b"b.txt"),
    ),
]
CASES = [*USAGE, *JOB_FILE, *INPUTS, *MODELS, *RUNS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_gets_one_line_and_the_right_exit_code(tmp_path: Path, case: Case) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    case.spoil(project)
    before = contents(project.folder)

    said = unspool(*case.arguments(project))

    lines = said.err.splitlines()
    assert (said.code, said.out, len(lines)) == (case.code, "", 1), said.err
    assert lines[0].startswith(f"error[{case.error}] ")
    assert [word for word in case.says if word.format(out=project.out, folder=project.folder) not in lines[0]] == []
    if case.code == 2:
        assert contents(project.folder) == before


def test_a_run_that_another_process_works_on_is_left_alone(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    assert project.run().code == 0
    before = contents(project.out)

    with RunDirectory.open(project.out, Disk()).lock():
        said = project.run()

    assert (said.code, said.err.splitlines()[0].startswith("error[RUN-BUSY]")) == (5, True)
    assert f"process {os.getpid()}" in said.err
    assert {**contents(project.out), "LOCK": before["LOCK"]} == before


def test_a_run_of_a_newer_format_is_refused_with_how_to_go_on(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    assert project.run().code == 0
    path = project.out / "run.json"
    path.write_bytes(seal(unseal(path.read_bytes()).replace(b'"major":1', b'"major":2')))

    said = unspool("status", str(project.out))

    assert (said.code, said.err.count("\n")) == (4, 1)
    assert said.err.startswith("error[RUN-OTHER-VERSION]") and "upgrade unspool" in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    project.folder.chmod(0o500)
    try:
        said = project.run()
    finally:
        project.folder.chmod(0o700)

    assert (said.code, said.err.count("\n")) == (6, 1)
    assert said.err.startswith("error[RUN-STORAGE]") and "cannot write here" in said.err


FULL_FOR_GOOD = "commit.before_link=raise:ENOSPC@3;commit.before_link=raise:ENOSPC@4"  # the reserve does not help


@pytest.mark.parametrize("point", ["publish.before_rename=raise:EROFS", FULL_FOR_GOOD])
def test_a_disk_that_fails_is_said_in_one_line_and_the_run_goes_on_afterwards(tmp_path: Path, point: str) -> None:
    project = Project(tmp_path / "project", a=prose(30))

    said = project.run(faults=point)

    assert (said.code, said.err.count("\n")) == (6, 1), said.err
    assert said.err.startswith("error[RUN-")
    assert project.run().code == 0


@pytest.mark.parametrize(
    ("content", "stage", "error_type", "offset", "says"),
    [
        (b"", "open", "empty", None, "the file is empty"),
        (b" \n\t\n", "open", "empty", None, "white space"),
        (bytes(range(256)) * 9, "decode", "binary_not_text", None, "control characters"),
        (b"%PDF-1.7\n", "open", "unsupported_type", None, "a PDF file"),
        (b"\xff\xfe", "open", "empty", None, "empty"),
        (b"ab" + b"\0" * 99, "decode", "binary_not_text", None, "NUL"),
    ],
)
def test_a_document_that_is_no_text_is_a_row_in_failures_and_the_others_are_read(
    tmp_path: Path, content: bytes, stage: str, error_type: str, offset: int | None, says: str
) -> None:
    project = Project(tmp_path / "project", a=prose(3), b=content, c=prose(3, seed=1))

    said = project.run()

    assert said.code == 3
    assert "Traceback" not in said.err and "error[" not in said.err
    [failure] = rows(project, "failures")
    assert (failure["source_uri"], failure["stage"], failure["error_type"]) == ("docs/b.txt", stage, error_type)
    assert (failure["byte_offset"], failure["retryable"]) == (offset, False)
    assert says in failure["message"]
    documents = {row["source_uri"]: (row["status"], row["coverage"]) for row in rows(project, "documents")}
    assert documents == {"docs/a.txt": ("ok", 1.0), "docs/b.txt": ("failed", 0.0), "docs/c.txt": ("ok", 1.0)}
    assert {row["doc_id"] for row in rows(project, "sentences")}.isdisjoint({failure["doc_id"]})


def test_a_document_that_vanishes_after_it_was_listed_is_a_row_in_failures(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(3), b=prose(3, seed=1))
    assert project.run(faults="publish.before_rename=raise:ENOSPC").code == 6
    (project.folder / "docs" / "b.txt").unlink()

    assert project.run().code == 3

    assert [row["error_type"] for row in rows(project, "failures")] == ["missing"]


def test_names_and_texts_from_outside_cannot_steer_the_terminal(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    project.document("evil\x1b[2J\u202e.txt", b"")

    outputs = [
        unspool("run", f"{project.folder}/no\x1b[2J\nfile.yaml"),
        unspool("plan", str(project.job)),
        project.run(),
        unspool("status", str(project.out)),
        unspool("resume", f"{project.folder}/\x1b]0;title\x07"),
    ]

    for said in outputs:
        assert not set("\x1b\x07\u202e") & set(said.out + said.err)


@pytest.mark.parametrize(("content", "code"), [("Good text.", 0), ("", 3)])
def test_a_process_of_its_own_ends_with_the_same_exit_code(tmp_path: Path, content: str, code: int) -> None:
    project = Project(tmp_path / "project", a=content)

    said = finish(start("run", str(project.job), "--quiet"))

    assert (said.code, said.out, said.err) == (code, "", "")


def rows(project: Project, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(project.out / "output" / table).to_pylist()
    return found
