"""Finished tables on an object store: the bytes that lie here, whole or not there, whatever happens to the wire."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import object_store
from pipeline.object_store import Store, StoreError
from tests.jobs.buckets import SECRET, Bucket, bucket
from tests.jobs.project import Project, prose, unspool

MANIFEST, OWNER = "_MANIFEST.json", "_RUN.json"


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with bucket() as found:
        yield found


@pytest.fixture
def box(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store, "_RETRIES", 0)
    server.wire.left = float("inf")
    return server


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A job that has been read, with its tables on the disk alone."""
    project = Project(tmp_path_factory.mktemp("published") / "project", a=prose(6))
    project.write_job(model={"source": str(project.write_model()), "dtype": "fp32"})
    assert project.run().code == 0
    return project


def publishing(finished: Project, folder: Path, to: str) -> Project:
    """A copy of the finished job that is told to publish."""
    shutil.copytree(finished.folder, folder / "project")
    made = Project.__new__(Project)
    made.folder = folder / "project"
    made.job.write_text(
        finished.job.read_text("utf-8")
        .replace(str(finished.folder), str(made.folder))
        .replace('"path": "out"', f'"path": "out", "publish": "{to}"'),
        "utf-8",
    )
    return made


def local(project: Project) -> dict[str, bytes]:
    output = project.out / "output"
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_what_is_published_is_what_lies_here_and_publishing_again_writes_nothing(
    finished: Project, tmp_path: Path, box: Bucket
) -> None:
    project = publishing(finished, tmp_path, "s3://box/tables")

    assert project.run().code == 0
    found = box.contents("tables/")
    del found[OWNER]
    assert found == local(project)
    assert not any(SECRET.encode() in path.read_bytes() for path in project.folder.rglob("*") if path.is_file())

    box.wire.left = 4096  # for questions, but not for the tables
    assert project.run().code == 0


def test_an_upload_that_breaks_off_anywhere_shows_no_half_and_goes_on(
    finished: Project, tmp_path: Path, box: Bucket
) -> None:
    project = publishing(finished, tmp_path, "s3://box/broken")
    here, sent = local(project), 0

    for left in (3_000, 12_000, 20_000):
        box.wire.left = left
        said = project.run()
        assert (said.code, said.err.startswith("resuming")) == (6, True), said.err
        assert "s3://box/broken" in said.err.splitlines()[-1]
        found = box.contents("broken/")
        found.pop(OWNER, None)
        assert MANIFEST not in found
        assert found.items() <= here.items()
        assert len(found) >= sent
        sent = len(found)

    box.wire.left = float("inf")
    assert project.run().code == 0
    found = box.contents("broken/")
    del found[OWNER]
    assert found == here
    assert 0 < sent < len(here), "the wire was cut neither before nor after everything"


def test_a_file_sent_in_pieces_is_there_whole_or_not_at_all(tmp_path: Path, box: Bucket) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(13 << 20))
    store = Store.open("s3://box/pieces")

    box.wire.left = 8 << 20
    with pytest.raises(StoreError, match="the store says"):
        store.put("large", large)
    assert box.contents("pieces/") == {}

    box.wire.left = float("inf")
    store.put("large", large)
    assert box.contents("pieces/") == {"large": large.read_bytes()}


@pytest.mark.parametrize(
    ("there", "said"),
    [({"mine.txt": b"x"}, "it holds other things"), ({OWNER: b'{"run_id": "r"}'}, "the tables of another run")],
)
def test_a_folder_that_holds_anything_else_is_refused_before_a_document_is_read(
    tmp_path: Path, box: Bucket, there: dict[str, bytes], said: str
) -> None:
    project = Project(tmp_path / "project", a=prose(3))
    project.write_job(output={"path": "out", "publish": "s3://box/others"})
    for key in box.contents("others/"):
        box.put(f"others/{key}", b"")
    for key, data in there.items():
        box.put(f"others/{key}", data)

    found = project.run()

    assert found.code == 6 and said in found.err
    assert not (project.out / "output").exists()


def test_what_was_published_is_replaced_when_there_is_more(tmp_path: Path, box: Bucket) -> None:
    project = Project(tmp_path / "project", a=prose(6))
    model = {"source": str(project.write_model()), "dtype": "fp32"}
    project.write_job(model=model, output={"path": "out", "publish": "s3://box/grown"})
    assert project.run().code == 0
    before = box.contents("grown/")
    box.put("grown/documents/part-00001-of-00002.parquet", b"of a larger one before")
    project.document("b.txt", prose(4, seed=5))

    said = unspool("resume", str(project.out), "--refresh-inputs", "--no-progress")

    assert said.code == 0, said.err
    found = box.contents("grown/")
    assert found[MANIFEST] != before[MANIFEST]
    del found[OWNER]
    assert found == local(project)
