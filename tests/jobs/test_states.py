"""`unspool state`: kept states are listed, inspected, compared, handed out and checked, and never change."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import rwkv_runtime
from rwkv_runtime.state import State
from rwkv_runtime.state_file import compare, read_state_file
from tests.jobs.project import TASKS, Project, contents, prose, unspool


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run over two documents, to be looked at only."""
    project = Project(tmp_path_factory.mktemp("states") / "project", a=prose(20), b=prose(9, seed=1))
    project.write_job(model={"source": str(project.write_model())}, tasks=[TASKS[0], TASKS[2]])
    assert project.run().code == 0
    return project


@pytest.fixture
def copied(project: Project, tmp_path: Path) -> Path:
    """A copy of its run directory, to be spoiled."""
    return Path(shutil.copytree(project.out, tmp_path / "run", symlinks=True))


def kept(project: Project, name: str, kind: str = "end") -> Path:
    listed = unspool("state", "ls", str(project.out), "--json").data
    [found] = [Path(one["path"]) for one in listed if (one["uri"], one["kind"]) == (f"docs/{name}.txt", kind)]
    return found


def test_every_kept_state_of_a_run_is_listed_with_its_tokens_and_hash(project: Project) -> None:
    listed = unspool("state", "ls", str(project.out), "--json").data

    assert {(one["uri"], one["kind"]) for one in listed} >= {("docs/a.txt", "end"), ("docs/b.txt", "boundary")}
    assert {Path(one["path"]).name for one in listed} == {path.name for path in (project.out / "states").iterdir()}
    for one in listed:
        assert hashlib.sha256(Path(one["path"]).read_bytes()).hexdigest() == one["sha256"]
    tokens = {(one["uri"], one["kind"]): one["tokens"] for one in listed}
    assert tokens["docs/a.txt", "end"] > tokens["docs/a.txt", "boundary"] >= 0
    lines = [line.split("\t") for line in unspool("state", "ls", str(project.out)).out.splitlines()]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        (one["uri"], one["kind"], one["path"]) for one in listed
    ]


def test_what_a_file_holds_is_what_the_runtime_reads_from_it(project: Project) -> None:
    path = kept(project, "a")
    model = rwkv_runtime.load(str(project.folder / "models" / "tiny.pth"))
    state = State.from_arrow(path, model)

    said = unspool("state", "inspect", str(path), "--json").data

    assert (said["generation"], said["tokens_seen"]) == (state.generation, state.tokens_seen)
    assert said["model_fingerprint"] == model.fingerprint
    assert said["tensors"] == {name: list(tensor.shape) for name, tensor in state.tensors.items()}
    read = read_state_file(path)
    assert all(np.array_equal(read.tensors[name], tensor.numpy()) for name, tensor in state.tensors.items())


def test_the_difference_of_two_states_is_that_of_their_tensors(project: Project) -> None:
    one, other = kept(project, "a"), kept(project, "b")

    said = {row["name"]: row for row in unspool("state", "diff", str(one), str(other), "--json").data}

    first, second = read_state_file(one).tensors, read_state_file(other).tensors
    assert said.keys() == first.keys()
    for name, row in said.items():
        apart = np.abs(first[name] - second[name])
        assert row["largest"] == pytest.approx(float(apart.max()))
        assert apart[row["layer"]].max() == apart.max()
    assert {row.layer for row in compare(read_state_file(one), read_state_file(one))} == {None}
    assert unspool("state", "diff", str(one), str(one)).out.count("the same") == len(first)


def test_states_of_different_models_are_not_compared(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other.arrow"
    rwkv_runtime.load("default").initial_state().to_arrow(other)

    said = unspool("state", "diff", str(kept(project, "a")), str(other))

    assert (said.code, said.out, said.err.count("\n")) == (4, "", 1)


def test_an_exported_state_is_the_kept_one_to_the_byte_and_nothing_is_overwritten(
    project: Project, tmp_path: Path
) -> None:
    target = tmp_path / "a.arrow"
    assert unspool("state", "export", str(project.out), "docs/a.txt", "-o", str(target)).code == 0

    assert target.read_bytes() == kept(project, "a").read_bytes()
    assert unspool("state", "verify", str(target)).code == 0
    assert unspool("state", "export", str(project.out), "docs/a.txt", "-o", str(target)).code == 2
    missing = unspool("state", "export", str(project.out), "docs/a.txt", "--kind", "middle", "-o", str(target))
    assert (missing.code, "it has boundary, end" in missing.err) == (2, True)
    assert "kept none" in unspool("state", "export", str(project.out), "nobody", "-o", str(target)).err


def test_a_damaged_state_is_found_alone_and_in_its_run(project: Project, copied: Path) -> None:
    path = copied / "states" / kept(project, "a").name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)

    for target in (path, copied):
        said = unspool("state", "verify", str(target))
        assert (said.code, said.err.count("\n")) == (6, 1)
    assert unspool("state", "verify", str(project.out)).code == 0
    assert unspool("state", "inspect", str(path)).code == 6
    assert unspool("state", "inspect", str(copied / "nowhere.arrow")).code == 2


def test_what_the_ledger_does_not_name_is_left_over_and_can_be_removed(copied: Path) -> None:
    before = contents(copied / "states")
    stranger = copied / "states" / "d0.end.arrow"
    stranger.write_bytes(b"left over")

    assert unspool("state", "verify", str(copied)).code == 6
    assert unspool("state", "gc", str(copied), "-n", "--json").data["left_over"] == [stranger.name]
    assert stranger.exists()
    assert unspool("state", "gc", str(copied), "--json").data["removed"] == [stranger.name]

    assert contents(copied / "states") == before


@pytest.mark.parametrize("question", ["Who keeps the old box of letters?", "?", "今天 \x1b[2J"])
def test_asking_a_state_changes_no_file_of_its_run(project: Project, question: str) -> None:
    before = contents(project.out)

    asked = unspool("ask", str(kept(project, "a")), question, "--json")
    behind = unspool(
        "ask",
        str(project.folder / "docs" / "b.txt"),
        question,
        "--state",
        str(kept(project, "a")),
        "-m",
        str(project.folder / "models" / "tiny.pth"),
    )

    assert (asked.code, behind.code) == (0, 0), (asked.err, behind.err)
    assert asked.data["state_sha256"]
    assert contents(project.out) == before
