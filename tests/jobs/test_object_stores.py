"""Inputs on object stores: the same documents as from the disk, and what a store can do wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from pipeline import remote
from tests.jobs.project import Project, prose, unspool

SECRET = "planted-secret-of-the-test"
TEXTS = {
    "a.txt": prose(3),
    "sub/b.txt": prose(3, seed=1),
    "sub/.hidden.txt": "x",
    "draft.txt": "y",
    "é ü.txt": prose(2, seed=4),
}
RECORDS = "".join(json.dumps({"text": prose(3, seed=seed)}) + "\n" for seed in (2, 3))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> fs.S3FileSystem:
    """A bucket `box` with some texts, where the environment says how to get there."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "planted",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    made = fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True)
    made.create_dir("box")
    made.delete_dir_contents("box")
    for name, text in {**{f"docs/{name}": text for name, text in TEXTS.items()}, "r/r.jsonl": RECORDS}.items():
        put(made, name, text)
    return made


def put(store: fs.S3FileSystem, name: str, text: str) -> None:
    with store.open_output_stream(f"box/{name}") as file:
        file.write(text.encode())


def project(folder: Path, *paths: str, **more: Any) -> Project:
    made = Project(folder / "project")
    made.write_job(inputs=[{"path": path, **more} for path in paths], on_error={"max_failed": 1.0})
    return made


def rows(made: Project, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(made.out / "output" / table).to_pylist()
    return found


def test_a_pattern_over_a_bucket_gives_what_the_same_files_on_the_disk_give(
    tmp_path: Path, store: fs.S3FileSystem
) -> None:
    made = project(tmp_path, "s3://box/docs/**/*.txt", exclude=["draft*"])
    assert unspool("plan", str(made.job)).code == 0
    assert made.run().code == 0

    found = {row["source_uri"]: row for row in rows(made, "documents")}
    assert list(found) == ["s3://box/docs/a.txt", "s3://box/docs/sub/b.txt", "s3://box/docs/é ü.txt"]
    assert all(row["status"] == "ok" and row["coverage"] == 1.0 for row in found.values())
    told = "".join(
        row["text"] for row in rows(made, "sentences") if row["doc_id"] == found["s3://box/docs/a.txt"]["doc_id"]
    )
    assert "".join(told.split()) == "".join(TEXTS["a.txt"].split())
    assert made.run().code == 0
    assert unspool("verify", str(made.out)).code == 0
    assert not any(SECRET.encode() in path.read_bytes() for path in made.folder.rglob("*") if path.is_file())


def test_records_of_a_file_on_a_store_are_documents(tmp_path: Path, store: fs.S3FileSystem) -> None:
    made = project(tmp_path, "s3://box/r/r.jsonl")

    assert made.run().code == 0
    assert [row["source_uri"] for row in rows(made, "documents")] == ["s3://box/r/r.jsonl#1", "s3://box/r/r.jsonl#2"]


def test_what_a_store_does_between_listing_and_reading_costs_a_row(tmp_path: Path, store: fs.S3FileSystem) -> None:
    made = project(tmp_path, "s3://box/docs/*.txt")
    assert made.run(faults="publish.before_rename=raise:ENOSPC").code == 6
    for fetched in (made.out / "text").glob("fetched-*"):  # which had been fetched by then is a matter of moments
        shutil.rmtree(fetched)
    store.delete_file("box/docs/é ü.txt")
    put(store, "docs/draft.txt", "something longer than before")

    assert made.run().code == 3

    failures = {row["source_uri"]: (row["error_type"], row["retryable"]) for row in rows(made, "failures")}
    assert failures == {
        "s3://box/docs/é ü.txt": ("missing", True),
        "s3://box/docs/draft.txt": ("changed_during_read", False),
    }


def test_a_read_that_breaks_off_is_a_row_that_says_where_and_is_tried_again(
    tmp_path: Path, store: fs.S3FileSystem
) -> None:
    made = project(tmp_path, "s3://box/docs/a.txt")
    with mock.patch.object(remote, "_CHUNK_BYTES", 50):
        real, reads = remote._next, []

        def break_off(stream: Any, position: int) -> bytes:
            reads.append(position)
            if len(reads) == 3:
                stream = mock.Mock(read=mock.Mock(side_effect=OSError("When reading range: HTTP 416")))
            return real(stream, position)

        with mock.patch.object(remote, "_next", break_off):
            assert made.run().code == 3

    [failure] = rows(made, "failures")
    assert (failure["error_type"], failure["byte_offset"], failure["retryable"]) == ("io_error", 100, True)
    assert list((made.out / "text").rglob("*.tmp*")) == []
    assert made.run().code == 0


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("s3://box/none.txt", "INPUT-MISSING"),
        ("s3://box/docs/*.rst", "INPUT-EMPTY"),
        ("s3://no-such-bucket/*.txt", "INPUT-EMPTY"),
        ("s3://*/a.txt", "INPUT-PATTERN"),
    ],
)
def test_an_address_of_nothing_stops_the_job_before_it_starts(
    tmp_path: Path, store: fs.S3FileSystem, path: str, code: str
) -> None:
    made = project(tmp_path, path)
    said = made.run()

    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert said.err.startswith(f"error[{code}] {path}")
    assert not made.out.exists()


def test_what_pyarrow_does_not_know_is_read_by_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/owner/set/a.txt": prose(3).encode(), "/owner/set/b.md": b"x"})
    monkeypatch.setattr(fsspec, "filesystem", lambda scheme: memory if scheme == "hf" else None)
    made = project(tmp_path, "hf://owner/set/*.txt")

    assert made.run().code == 0
    assert [row["source_uri"] for row in rows(made, "documents")] == ["hf://owner/set/a.txt"]


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    made = Project(tmp_path / "pro ject", a=prose(3))
    made.write_job(inputs=[{"path": f"file://{made.folder}/docs/a.txt".replace(" ", "%20")}])

    assert made.run().code == 0
    assert [row["source_uri"] for row in rows(made, "documents")] == ["docs/a.txt"]
