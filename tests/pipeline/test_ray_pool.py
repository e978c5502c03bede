"""Workers as Ray actors: the same rows as in this process, whatever dies, and nothing said, shown or left behind."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.documents import DocumentRef
from pipeline.outcome import Outcome
from pipeline.pool import Answer, LocalPool, Loss, Pool, PoolError
from pipeline.ray_pool import ClusterMetrics, RayOptions, RayPool, cause_of
from pipeline.work import Assignment, LaneReport, Progress, WorkerSpec
from rwkv_runtime.errors import ModelFileError
from tests.pipeline.readings import (
    CHECKPOINT_TOKENS,
    Rows,
    assert_same_rows,
    bpe_tensors,
    document,
    prose,
    rows_of,
    save_model,
    worker_spec,
)
from tests.processes import command_of, descendants, listening_addresses

pytestmark = pytest.mark.xdist_group("ray")

PLACES = 2
READING_SECONDS = 0.05
WAIT_SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("models") / "tiny", bpe_tensors())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[DocumentRef]:
    folder = tmp_path_factory.mktemp("corpus")
    return [document(folder / f"{name}.md", prose(400, seed)) for seed, name in enumerate(("first", "second", "third"))]


@pytest.fixture(scope="module")
def spec(model: str, tmp_path_factory: pytest.TempPathFactory) -> WorkerSpec:
    return worker_spec(tmp_path_factory.mktemp("ray") / "run", model)


@pytest.fixture(scope="module")
def pool(spec: WorkerSpec) -> Iterator[RayPool]:
    """One cluster for the whole module."""
    pool = RayPool(spec, RayOptions("local", PLACES, threads=1))
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def expected(model: str, corpus: Sequence[DocumentRef], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """What one worker in this process makes of each document."""
    spec = worker_spec(tmp_path_factory.mktemp("local") / "run", model)
    pool, found = LocalPool(spec), {}
    pool.start(0)
    pool.wait(0)
    for ref in corpus:
        outcome = read_to_the_end(pool, 0, [Assignment(ref, 1, 1)])
        found[ref.doc_id] = rows_of(spec.run, outcome)
    return found


def only_answer(pool: Pool, seconds: float = WAIT_SECONDS) -> Answer | Loss:
    """What comes back from the one call that is out."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answers := pool.wait(1.0):
            assert len(answers) == 1
            return answers[0]
    raise AssertionError(f"no answer within {seconds} s")


def pid_of(pool: Pool, place: int) -> int:
    """Fill a place and wait until it is ready; the process of its worker."""
    pool.start(place)
    answer = only_answer(pool)
    assert isinstance(answer, Answer) and answer.facts is not None and answer.place == place
    return answer.facts.pid


def read_to_the_end(pool: Pool, place: int, new: Sequence[Assignment]) -> Outcome:
    """Have one document read; what came of it."""
    while True:
        pool.advance(place, new, READING_SECONDS)
        answer = only_answer(pool)
        assert isinstance(answer, Answer) and answer.progress is not None
        if answer.progress.outcomes:
            return answer.progress.outcomes[0]
        new = ()


def read_until_saved(pool: Pool, place: int, new: Sequence[Assignment]) -> int:
    """Have one document read until it has a checkpoint; the tokens that stand in it at least."""
    while True:
        pool.advance(place, new, READING_SECONDS)
        answer = only_answer(pool)
        assert isinstance(answer, Answer) and answer.progress is not None and answer.progress.lanes
        if answer.progress.checkpoints:
            return answer.progress.lanes[0].tokens - CHECKPOINT_TOKENS
        new = ()


def test_two_actors_give_the_rows_that_this_process_gives(
    pool: RayPool, spec: WorkerSpec, corpus: Sequence[DocumentRef], expected: dict[str, Rows]
) -> None:
    pids = {pid_of(pool, place) for place in range(PLACES)}
    outcomes: dict[str, Outcome] = {}
    for place, ref in enumerate(corpus[:PLACES]):
        pool.advance(place, [Assignment(ref, 1, 1)], READING_SECONDS)
    while len(outcomes) < PLACES:
        for answer in pool.wait(WAIT_SECONDS):
            assert isinstance(answer, Answer) and answer.progress is not None
            outcomes |= {outcome.doc_id: outcome for outcome in answer.progress.outcomes}
            if answer.progress.lanes:
                pool.advance(answer.place, (), READING_SECONDS)

    assert len(pids) == PLACES and os.getpid() not in pids
    for name, outcome in outcomes.items():
        assert_same_rows({name: rows_of(spec.run, outcome)}, {name: expected[name]})


def test_an_actor_killed_in_mid_document_is_replaced_and_its_document_goes_on_from_its_checkpoint(
    pool: RayPool,
    spec: WorkerSpec,
    corpus: Sequence[DocumentRef],
    expected: dict[str, Rows],
    capfd: pytest.CaptureFixture[str],
) -> None:
    ref = corpus[2]
    pid = pid_of(pool, 0)
    saved = read_until_saved(pool, 0, [Assignment(ref, 2, 1)])
    pool.advance(0, (), WAIT_SECONDS)
    os.kill(pid, signal.SIGKILL)

    loss = only_answer(pool)
    assert isinstance(loss, Loss)
    assert (loss.place, loss.cause) == (0, "crashed")
    assert "\n" not in loss.message
    assert pid_of(pool, 0) != pid
    outcome = read_to_the_end(pool, 0, [Assignment(ref, 2, 2)])

    assert 0 < outcome.tokens_fed <= outcome.tokens - saved
    assert_same_rows({ref.doc_id: rows_of(spec.run, outcome)}, {ref.doc_id: expected[ref.doc_id]})
    time.sleep(0.5)  # Ray's own report of the loss would come from a thread
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_be_loaded_is_told_apart_from_a_crash(
    pool: RayPool, spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_spec", replace(spec, model_fingerprint="0" * 64))
    pool.start(0)

    with pytest.raises(ModelFileError, match="not the weights"):
        only_answer(pool)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("OutOfMemoryError", "memory"),
        ("ActorDiedError", "crashed"),
        ("WorkerCrashedError", "crashed"),
        ("NodeDiedError", "node"),
        ("ActorUnavailableError", "unknown"),
    ],
)
def test_the_cause_of_a_loss_is_told_by_its_type(pool: RayPool, kind: str, cause: str) -> None:
    from ray import exceptions  # not before the pool has said how it is to be imported

    needs = {"OutOfMemoryError": ["low on memory"], "NodeDiedError": ["gone"], "ActorUnavailableError": ["gone", None]}
    error = getattr(exceptions, kind)(*needs.get(kind, []))

    assert cause_of(error) == cause


def test_everything_listens_on_the_loopback_interface_alone(pool: RayPool) -> None:
    pid_of(pool, 1)
    addresses = listening_addresses(descendants(os.getpid()) | {os.getpid()})

    assert addresses, "Ray listens somewhere, or this test looks at the wrong processes"
    assert {address for address in addresses if not address.is_loopback} == set()


def test_a_private_cluster_runs_nothing_that_nobody_asks_and_others_are_started_as_ever(pool: RayPool) -> None:
    from ray._private.node import Node  # not before the pool has said how it is to be imported

    programs = " ".join(map(command_of, descendants(os.getpid())))

    assert "raylet" in programs
    assert not any(name in programs for name in ("dashboard.py", "monitor.py"))
    assert Node.start_monitor.__module__ == Node.__module__


def test_the_folder_of_a_private_cluster_is_closed_to_other_users(pool: RayPool) -> None:
    (folder,) = Path("/tmp").glob(f"unspool-ray-{os.getpid()}-*")

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_cluster_in_the_same_process_is_refused_in_one_line(pool: RayPool, spec: WorkerSpec) -> None:
    with pytest.raises(PoolError, match=r"^Ray could not be started: .*`-j 0` reads in this process") as refused:
        RayPool(spec, RayOptions("local", 1, threads=1))

    assert "\n" not in str(refused.value)
    assert len(list(Path("/tmp").glob(f"unspool-ray-{os.getpid()}-*"))) == 1


def test_a_process_that_has_imported_ray_for_itself_gets_no_private_cluster(
    pool: RayPool, spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")

    with pytest.raises(PoolError, match="every interface"):
        RayPool(spec, RayOptions("local", 1, threads=1))


def test_a_cluster_is_told_what_each_call_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.util import metrics

    told: dict[tuple[str, str], float] = {}

    def note(metric: metrics.Metric, value: float, tags: dict[str, str]) -> None:
        assert value or isinstance(metric, metrics.Gauge)
        before = told.get((metric.info["name"], tags["worker"]), 0.0) if isinstance(metric, metrics.Counter) else 0.0
        told[metric.info["name"], tags["worker"]] = before + value

    monkeypatch.setattr(metrics.Counter, "inc", note)
    monkeypatch.setattr(metrics.Gauge, "set", note)
    noted = ClusterMetrics("run")
    lanes = (LaneReport("d1", 5, 9),)
    outcomes = tuple(Outcome(name, 1, 1, name, "", (), 0, 0, 0.0) for name in ("ok", "failed", "partial"))

    noted.note(3, Progress(outcomes, lanes, 700, 0, 5 << 20))
    noted.note(3, Progress((), lanes * 2, 300, 2, 6 << 20))

    assert {name: value for (name, worker), value in told.items() if worker == "3"} == {
        "unspool_tokens_read_total": 1000,
        "unspool_documents_done_total": 2,
        "unspool_documents_failed_total": 1,
        "unspool_checkpoints_total": 2,
        "unspool_lanes_active": 2,
        "unspool_rss_peak_bytes": 6 << 20,
    }
