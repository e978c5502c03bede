"""Run directories on an object store: the bytes of a run on a disk, whoever dies, and one ledger whoever writes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from jobs.errors import ExitCode, JobError
from jobs.ledger import RunLedger
from jobs.records import Epoch, Pause
from pipeline import object_store
from pipeline.durable import Faults, Point
from pipeline.object_store import Object, Store, StoreError
from pipeline.store_disk import StoreDisk, bring_here
from tests.faults.histories import corpus, undisturbed
from tests.jobs.buckets import SECRET, Bucket, bucket
from tests.jobs.fake_driver import drive, result
from tests.jobs.project import Project, contents, finish, prose, start, unspool

LIVES = 4


class Mortal(StoreDisk):
    """A disk of a machine that is gone at the `last`-th point that is reached."""

    def __init__(self, root: Path, store: Store, last: int) -> None:
        super().__init__(root, store)
        self._left = last

    def reach(self, point: Point) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_changes_machines_at_any_moment_ends_with_the_bytes_of_one_on_a_disk(
    tmp_path: Path, seed: int
) -> None:
    documents, chance = corpus(tmp_path / "corpus"), random.Random(seed)
    expected = undisturbed(shutil.copytree(documents, tmp_path / "golden"))
    store = Store("memory://run", MemoryStore())

    for life in range(LIVES):
        here = shutil.copytree(documents, tmp_path / "machine", dirs_exist_ok=True)
        bring_here(here / "run", store)
        last = chance.randint(1, 200) if life < LIVES - 1 else -1
        try:
            drive(here, Mortal(here / "run", store, last))
        except KeyboardInterrupt:
            shutil.rmtree(here)  # the next machine has nothing of this one
            continue
    found = result(tmp_path / "machine")
    assert found == expected
    shutil.rmtree(tmp_path / "machine")
    bring_here(tmp_path / "machine" / "run", store)
    assert result(tmp_path / "machine") == expected


def test_of_two_drivers_on_two_machines_the_slower_one_is_told_who_owns_the_run(tmp_path: Path) -> None:
    store = Store("memory://run", MemoryStore())
    ledgers = []
    for host in ("first", "second"):
        bring_here(tmp_path / host, store)
        disk = StoreDisk(tmp_path / host, store)
        disk.make_folder(tmp_path / host / "ledger")
        view = RunLedger.read(tmp_path / host / "ledger")
        owner = Epoch(host, 7, "", "resume", {})
        ledgers.append(RunLedger.take_over(view, disk, tmp_path / host, owner))
        store.put("run.json", b"{}")

    with pytest.raises(JobError, match="taken over by epoch 2, process 7 on host second") as stopped:
        ledgers[0].commit(Pause("late"))
    assert stopped.value.exit_code is ExitCode.OTHER_RUNNER
    ledgers[1].commit(Pause("in time"))
    assert RunLedger.read(tmp_path / "second" / "ledger").seq == 3


def test_a_put_whose_answer_was_lost_is_not_taken_for_anothers(tmp_path: Path) -> None:
    store = Store("memory://run", MemoryStore())
    store.put_if_absent("00000001.json", b"mine")
    store.put_if_absent("00000001.json", b"mine")

    with pytest.raises(FileExistsError):
        StoreDisk(tmp_path, store).put_if_absent(tmp_path / "00000001.json", b"theirs")
    assert (tmp_path / "00000001.json").read_bytes() == b"mine"


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with bucket() as found:
        yield found


@pytest.fixture
def box(server: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store, "_RETRIES", 0)
    on_machine(monkeypatch, tmp_path, "first")
    server.wire.left, server.wire.loses_conditions = float("inf"), False
    return server


def on_machine(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """From now on, what is kept in the user's cache folder is that of another machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / name))


def stored(folder: Path, address: str) -> Project:
    project = Project(folder / "project", a=prose(24, 1), b=prose(12, 2))
    project.write_job(model={"source": str(project.write_model()), "dtype": "fp32"}, output={"path": address})
    return project


def output(box: Bucket, name: str) -> dict[str, bytes]:
    return {key: data for key, data in box.contents(f"{name}/").items() if key.startswith(("output/", "states/"))}


def golden(project: Project) -> dict[str, bytes]:
    out = project.folder / "golden"
    assert project.run("-o", str(out)).code == 0
    names = [*contents(out / "output"), *contents(out / "states")]
    return {
        f"{part}/{name}": (out / part / name).read_bytes()
        for part in ("output", "states")
        for name in names
        if (out / part / name).exists()
    }


def test_a_run_on_a_store_killed_and_cut_off_goes_on_elsewhere_with_the_same_bytes(
    tmp_path: Path, box: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = stored(tmp_path, "s3://box/runs/1")

    killed = finish(start("run", str(project.job), "--no-progress", faults=f"{Point.CHECKPOINT_AFTER_WRITE}=kill@2"))
    assert killed.code == -9
    on_machine(monkeypatch, tmp_path, "second")
    box.wire.left = 60_000
    said = project.run()
    assert said.code == 6 and "the store says" in said.err.splitlines()[-1], said.err
    on_machine(monkeypatch, tmp_path, "third")
    box.wire.left = float("inf")
    said = project.run()

    assert said.code == 0 and "resuming" in said.err, said.err
    assert output(box, "runs/1") == golden(project)
    assert not any(SECRET.encode() in data for data in box.contents("runs/1/").values())
    assert not any(".tmp-" in name for name in box.contents("runs/1/"))
    assert project.run().code == 0


def test_a_store_that_ignores_conditions_is_refused_in_one_line(tmp_path: Path, box: Bucket) -> None:
    box.wire.loses_conditions = True

    said = stored(tmp_path, "s3://box/unsafe").run()

    assert (said.code, said.err.count("\n")) == (6, 1), said.err
    assert said.err.startswith("error[OUTPUT-STORE] s3://box/unsafe: this store replaces objects that it was asked not")
    assert box.contents("unsafe/") == {}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--set", "output.mode=overwrite"), 2, "is not overwritten"),
        (("--set", "ray.address=auto", "-j", "2"), 2, "a file system that all nodes share"),
        (("--set", "output.path=s3://box/taken"), 6, "it holds other things (mine.txt) and no run.json"),
        (("--set", "output.path=s3://no-such-bucket/x"), 6, "NoSuchBucket"),
    ],
)
def test_what_a_store_cannot_do_is_said_before_a_document_is_read(
    tmp_path: Path, box: Bucket, options: tuple[str, ...], code: int, said: str
) -> None:
    box.put("taken/mine.txt", b"x")

    found = stored(tmp_path, "s3://box/asked").run(*options)

    assert (found.code, found.err.count("\n")) == (code, 1), found.err
    assert said in found.err
    assert box.contents("asked/") == {}


def test_the_copy_of_a_run_on_a_store_is_not_gone_on_with(tmp_path: Path, box: Bucket) -> None:
    assert stored(tmp_path, "s3://box/copied").run().code == 0
    [copy] = [path for path in (tmp_path / "first" / "unspool" / "runs").iterdir() if path.is_dir()]

    said = unspool("resume", str(copy), "--no-progress")

    assert said.code == 2 and "a copy of the run at s3://box/copied" in said.err
    assert unspool("status", str(copy)).code == 0
    assert unspool("verify", str(copy)).code == 0


def test_what_stays_on_this_machine_is_neither_sent_nor_taken_away(tmp_path: Path) -> None:
    store = Store("memory://run", MemoryStore())
    disk = StoreDisk(tmp_path, store, Faults.none())
    (tmp_path / "events.jsonl").write_text("said\n")
    disk.make_folder(tmp_path / "text" / "fetched-1")
    disk.publish(tmp_path / "text" / "fetched-1" / "a.txt", b"an input")
    disk.publish(tmp_path / "run.json", b"{}\n")

    assert set(store.objects()) == {"run.json"}
    bring_here(tmp_path, store)
    assert (tmp_path / "events.jsonl").exists()


def test_a_name_on_a_store_that_leads_out_of_the_run_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store("memory://run", MemoryStore())
    listed = {"run.json": Object(2, ""), "parts/../../planted": Object(1, "")}
    monkeypatch.setattr(store, "objects", lambda: listed)

    with pytest.raises(StoreError, match="leads out of the run directory"):
        bring_here(tmp_path / "run", store)
    assert list(tmp_path.iterdir()) == []
