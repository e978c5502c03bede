"""Looking is fast: what does not read documents loads neither torch nor ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.project import REPOSITORY, Project, prose

HEAVY = ("torch", "ray", "transformers")  # not pandas: pyarrow loads it where it is installed, by itself
COMMAND = """
import json, sys
from jobs import cli
sys.argv = ["unspool", *json.loads(sys.argv[1])]
try:
    cli.main()
except SystemExit as end:
    code = end.code
"""
REPORT = """
print("\\n" + json.dumps({"code": code, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def loaded_by(program: str, *arguments: str) -> dict[str, object]:
    """The exit code and the top-level modules that a program has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", program + REPORT, json.dumps(arguments)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def heavy(found: dict[str, object]) -> list[str]:
    names = found["loaded"]
    assert isinstance(names, list)
    return [name for name in HEAVY if name in names]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("light") / "project", a=prose(5))
    assert project.run().code == 0
    return project


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["schema"], ["--nope"]])
def test_a_command_that_needs_no_run_loads_neither_torch_nor_ray(arguments: list[str]) -> None:
    found = loaded_by(COMMAND, *arguments)

    assert found["code"] == (2 if arguments == ["--nope"] else 0)
    assert heavy(found) == []


def test_help_loads_what_draws_it_and_no_more() -> None:
    found = loaded_by(COMMAND, "--help")["loaded"]

    assert isinstance(found, list)
    drawing = {"typer", "click", "rich", "markdown_it", "mdurl", "pygments", "shellingham", "typing_extensions"}
    others = {name for name in set(found) - set(sys.stdlib_module_names) if not name.startswith("_")}
    assert others <= {"jobs", "annotated_doc", *drawing}


@pytest.mark.parametrize("command", ["plan", "run"])
def test_planning_a_job_and_running_a_finished_one_load_neither_torch_nor_ray(finished: Project, command: str) -> None:
    found = loaded_by(COMMAND, command, str(finished.job))

    assert found["code"] == 0
    assert heavy(found) == []


@pytest.mark.parametrize("command", ["status", "verify", "resume"])
def test_looking_at_a_finished_run_loads_neither_torch_nor_ray(finished: Project, command: str) -> None:
    found = loaded_by(COMMAND, command, str(finished.out))

    assert found["code"] == 0
    assert heavy(found) == []


def test_planning_a_job_that_never_ran_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(5))

    assert heavy(loaded_by(COMMAND, "plan", str(project.job))) == []


def test_a_job_that_cannot_start_is_refused_without_loading_torch_or_ray(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")

    found = loaded_by(COMMAND, "run", str(project.job))

    assert found["code"] == 2
    assert heavy(found) == []


@pytest.mark.parametrize("package", ["rwkv_runtime", "pipeline", "jobs", "jobs.run"])
def test_importing_a_package_loads_neither_torch_nor_ray(package: str) -> None:
    assert heavy(loaded_by(f"import json, sys, {package}\ncode = 0\n")) == []


def test_the_runtime_gives_the_names_it_promises_without_loading_torch_before_one_is_used() -> None:
    program = """
import json, sys, rwkv_runtime
code = [name for name in rwkv_runtime.__all__ if name not in dir(rwkv_runtime)]
assert "torch" not in sys.modules
rwkv_runtime.load
assert "torch" in sys.modules
"""

    assert loaded_by(program)["code"] == []


def test_a_model_on_a_cpu_is_loaded_without_triton() -> None:
    found = loaded_by("import json, sys, rwkv_runtime\nrwkv_runtime.load()\ncode = 0\n")["loaded"]

    assert isinstance(found, list)
    assert "triton" not in found
