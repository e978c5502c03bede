"""A worker without memory is lost, not the document that it was reading: nobody knows who took it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

import rwkv_runtime.engine
from pipeline.pool import Answer, LocalPool, Loss
from pipeline.work import Assignment
from tests.pipeline.readings import bpe_tensors, document, prose, save_model, worker_spec

TORCH = "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."


@pytest.mark.parametrize("error", [MemoryError("none left"), RuntimeError(TORCH)], ids=["python", "torch"])
def test_a_worker_in_this_process_that_finds_no_memory_is_lost_and_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def feed(*_: object) -> None:
        raise error

    pool = LocalPool(worker_spec(tmp_path / "run", save_model(tmp_path / "tiny", bpe_tensors())))
    given = Assignment(document(tmp_path / "a.md", prose(3, 0)), 1, 1)
    pool.start(0)
    pool.wait(0)
    with monkeypatch.context() as without:
        without.setattr(rwkv_runtime.engine.Engine, "feed", feed)
        pool.advance(0, [given], 1.0)
        [loss] = pool.wait(0)

    assert isinstance(loss, Loss) and loss.cause == "memory"
    pool.start(0)
    pool.wait(0)
    pool.advance(0, [given], 60.0)
    [answer] = pool.wait(0)
    assert isinstance(answer, Answer) and answer.progress is not None
    assert [outcome.status for outcome in answer.progress.outcomes] == ["ok"]
    pool.close()


@pytest.fixture
def thawed() -> Iterator[None]:
    """The collector passes over nothing, before and after."""
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_what_a_worker_has_loaded_is_kept_from_the_collector_for_as_long_as_it_is_there(tmp_path: Path) -> None:
    pool = LocalPool(worker_spec(tmp_path / "run", save_model(tmp_path / "tiny", bpe_tensors())))
    pool.start(0)
    pool.wait(0)
    kept = gc.get_freeze_count()
    pool.close()

    assert kept > 10_000 and gc.get_freeze_count() == 0


@pytest.mark.usefixtures("thawed")
def test_what_another_keeps_from_the_collector_stays_with_it(tmp_path: Path) -> None:
    gc.freeze()
    kept = gc.get_freeze_count()
    pool = LocalPool(worker_spec(tmp_path / "run", save_model(tmp_path / "tiny", bpe_tensors())))
    pool.start(0)
    pool.wait(0)
    pool.close()

    assert 0 < gc.get_freeze_count() <= kept
