"""Workers share what a file has of their weights with the others of a machine."""

from __future__ import annotations

from typing import Any

import pytest

import rwkv_runtime
from pipeline import stream, worker
from tests.pipeline.readings import worker_spec


class ToldError(Exception):
    """Instead of a model: the options that one was asked for with."""


def telling(*_: object, **options: object) -> None:
    raise ToldError(options)


def test_a_worker_and_a_reader_of_a_stream_leave_weights_mapped(monkeypatch, tmp_path):
    monkeypatch.setattr(rwkv_runtime, "load", telling)
    with pytest.raises(ToldError) as of_worker:
        worker.Worker(worker_spec(tmp_path / "run", "default"))
    never_opened: Any = None
    spec = stream.StreamSpec("default", "cpu", "bf16", 1, 64, 1000, None, ())
    with pytest.raises(ToldError) as of_stream:
        next(stream.rows_as_read(spec, never_opened, "sentences"))
    for raised in (of_worker, of_stream):
        assert raised.value.args[0]["shared"] is True
