"""The command line: data on stdout, people's text on stderr, exit codes, and options that mean what they say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import ExitCode
from tests.jobs.project import REPOSITORY, Project, Said, contents, finish, prose, start, unspool, wait_for_event

COMMANDS = ("run", "resume", "plan", "status", "verify", "schema")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", a=prose(4), b=prose(6, seed=1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run, to be looked at only."""
    project = Project(tmp_path_factory.mktemp("cli") / "project", a=prose(4), b=prose(6, seed=1))
    assert project.run().code == 0
    return project


def test_help_names_every_command() -> None:
    said = unspool("--help")

    assert (said.code, said.err) == (0, "")
    assert [name for name in COMMANDS if f"  {name} " not in said.out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_its_options(command: str) -> None:
    said = unspool(command, "--help")

    assert (said.code, said.err) == (0, "")
    assert f"Usage: unspool {command}" in said.out


def test_a_call_without_a_command_says_where_help_is() -> None:
    assert unspool() == Said(2, "", "error[USAGE] Missing command; see `unspool --help`\n")


@pytest.mark.parametrize("command", ["plan {job} --no-measure", "status {out}", "show {out} docs/a.txt", "eval"])
def test_a_reader_that_has_gone_ends_a_command_in_silence(finished: Project, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = command.format(job=finished.job, out=finished.out).split()
    with os.fdopen(writing) as out:
        said = subprocess.run(
            [sys.executable, "-m", "jobs.cli", *words], cwd=REPOSITORY, stdout=out, stderr=subprocess.PIPE, check=False
        )

    assert (said.returncode, said.stderr) == (0, b"")


def test_what_no_terminal_shows_is_neither_cut_nor_broken(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{'long' * 40}.txt"
    project.document(name, prose(1))

    monkeypatch.delenv("COLUMNS", raising=False)
    assert re.search(
        rf"^docs/{name} .*read \(new\)", unspool("plan", str(project.job), "--no-measure").out, re.MULTILINE
    )
    monkeypatch.setenv("COLUMNS", "60")
    lines = unspool("plan", str(project.job), "--no-measure").out.splitlines()
    assert max(map(len, lines)) <= 60
    assert "…" not in "".join(lines)


def test_a_run_says_what_it_made_on_stderr_and_nothing_on_stdout(project: Project) -> None:
    said = project.run()

    assert (said.code, said.out) == (0, "")
    assert "finished: 2 documents, 0 failed" in said.err
    for table in ("documents", "sentences", "summaries", "failures"):
        assert str(project.out / "output" / table) in said.err
    assert "coverage: 1.0" in said.err and "dimensions)" in said.err


def test_a_run_with_json_prints_one_value_on_stdout(project: Project) -> None:
    said = project.run("--json")

    assert said.data["run"] == str(project.out)
    assert (said.data["exit_code"], said.data["documents"], said.data["failed"]) == (0, 2, 0)
    assert 0 < said.data["tokens"] == said.data["tokens_fed"]


def test_a_quiet_run_says_nothing(project: Project) -> None:
    assert project.run("--quiet") == Said(0, "", "")


def test_a_quiet_run_still_says_what_is_wrong(project: Project) -> None:
    said = project.run("--quiet", "--set", "name=")

    assert (said.code, said.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("command", ["status", "verify"])
def test_looking_at_a_run_with_json_prints_one_value_on_stdout(finished: Project, command: str) -> None:
    said = unspool(command, str(finished.out), "--json")

    assert (said.code, said.err) == (0, "")
    assert said.data["run"] == str(finished.out)


def test_the_schema_accepts_the_job_files_that_the_command_accepts(finished: Project) -> None:
    schema = unspool("schema").data

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(json.loads(finished.job.read_text("utf-8"))) <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("option", ["-n", "--dry-run"])
def test_a_dry_run_is_a_plan_and_writes_nothing(project: Project, option: str) -> None:
    before = contents(project.folder)

    said = unspool("run", str(project.job), option, "--json")

    assert said == unspool("plan", str(project.job), "--json")
    assert contents(project.folder) == before


def test_the_output_given_on_the_command_line_is_relative_to_where_the_user_stands(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert project.run("-o", "elsewhere").code == 0

    assert (tmp_path / "elsewhere" / "run.json").exists()
    assert not project.out.exists()


def test_the_model_given_on_the_command_line_is_relative_to_where_the_user_stands(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_model()
    monkeypatch.chdir(project.folder / "models")

    assert project.run("-m", "tiny.pth").code == 0
    said = project.run("-o", "other", "-m", "none.pth")

    assert (said.code, f"{project.folder}/models/none.pth" in said.err) == (7, True)


def test_a_folder_that_happens_to_be_called_default_does_not_hide_the_shipped_model(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "default").mkdir()
    monkeypatch.chdir(project.folder)

    assert unspool("plan", str(project.job), "-m", "default").code == 0


def test_a_limit_reads_only_the_first_documents(project: Project) -> None:
    assert project.run("--limit", "1", "--json").data["documents"] == 1


def test_set_changes_options_of_the_job_in_the_order_given(project: Project) -> None:
    project.run("--set", "tasks.gist.max_sentences=9", "--set", "tasks[1].max_sentences=1", "--set", "name=other")

    spec = json.loads((project.out / "run.json").read_bytes().splitlines()[0])["spec"]
    assert (spec["tasks"][1]["max_sentences"], spec["name"]) == (1, "other")


def test_a_short_option_stands_above_the_job_file_and_above_set(project: Project) -> None:
    said = project.run("--set", "limit=2", "--limit", "1", "--json")

    assert said.data["documents"] == 1


def test_fail_fast_stops_at_the_first_document_that_fails(project: Project) -> None:
    project.document("aa.txt", b"%PDF-1.7 not text, and the largest of all: read first " * 100)

    said = project.run("--fail-fast")

    assert (said.code, said.err.count("error[")) == (8, 1)
    assert said.err.splitlines()[-1].startswith("error[RUN-ABORTED] docs/aa.txt: looks like a PDF file")
    assert project.run("--quiet").code == 3


def test_without_a_terminal_no_escape_sequences_are_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    outputs = [
        unspool("--help"),
        unspool("plan", str(project.job)),
        unspool("run", str(project.job)),
        unspool("status", str(project.out)),
        unspool("run", "--nope"),
    ]

    assert not any("\x1b" in said.out + said.err for said in outputs)


def test_watching_a_finished_run_ends(finished: Project) -> None:
    said = unspool("status", str(finished.out), "--watch")

    assert said.code == 0
    assert said.out.count("finished") == 1


def test_what_nobody_foresaw_is_one_line_and_a_traceback_in_a_file(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("one\ntwo\x1b[2J")

    monkeypatch.setattr("jobs.status.status_of", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    said = unspool("status", str(finished.out))

    [file] = tmp_path.glob("unspool-traceback-*.txt")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith("error[BUG] ZeroDivisionError: one\\x0atwo\\x1b[2J")
    assert str(file) in said.err
    assert "Traceback (most recent call last)" in file.read_text("utf-8")


def test_an_interrupt_outside_of_a_run_is_no_traceback(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.status.status_of", interrupted)

    assert unspool("status", str(finished.out)) == Said(130, "", "")


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "schema"], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()

    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 0


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arguments=st.lists(
        st.sampled_from(
            [*COMMANDS, "--json", "-q", "--set", "-j", "--limit", "-n", "-o", "x=", "[", "0", "é\x1b", "-"]
        ),
        max_size=5,
    )
)
def test_no_arguments_make_the_command_fail_in_a_way_that_was_not_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    said = unspool(*arguments)

    assert said.code in (0, 2, 6), said.err
    assert "Traceback" not in said.err and "error[BUG]" not in said.err


def test_a_second_signal_stops_at_once_and_leaves_a_run_that_can_go_on(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(200))
    process = start("run", str(project.job), "--quiet")
    wait_for_event(project.out, "worker_ready", process)

    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # another one: two of the same may arrive as one

    assert finish(process).code in (ExitCode.SIGINT, ExitCode.SIGTERM)
    assert unspool("status", str(project.out), "--json").data["state"] == "stopped"
    assert {document["action"] for document in unspool("plan", str(project.job), "--json").data["documents"]} <= {
        "read",
        "resume",
    }
