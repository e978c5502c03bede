"""Parsing goes on beside the reading: it holds up no other document, and it is given up at once when the worker is."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import worker as worker_module
from pipeline.documents import Document, DocumentRef
from pipeline.errors import DocumentError
from pipeline.formats import open_document
from pipeline.opening import Opener
from pipeline.pool import LocalPool
from pipeline.sandbox import StoppedError
from pipeline.text_store import TextStore
from pipeline.work import Assignment, Progress
from pipeline.worker import Worker
from tests.pipeline.readings import bpe_tensors, document, save_model, worker_spec
from tests.pipeline.samples import PAGE, refer, store

PATIENCE = 30.0


def test_what_is_raised_while_opening_comes_back_as_a_result(tmp_path: Path) -> None:
    def refuse(assignment: Assignment) -> Document:
        raise DocumentError("parse", "parse_error", "bad")

    opener, assignment = Opener(refuse), Assignment(refer(tmp_path / "a.html", PAGE), 1, 1)
    opener.begin(assignment)
    [opened] = opener.ready(PATIENCE)

    assert opened.assignment is assignment
    assert isinstance(opened.result, DocumentError)
    assert opener.waiting == ()


def test_a_parser_that_is_not_wanted_any_more_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    ref = refer(tmp_path / "a.html", PAGE)
    with pytest.raises(StoppedError):
        open_document(ref, replace(store(tmp_path), stopped=lambda: True))

    assert list((tmp_path / "text").iterdir()) == []


class TestAWorker:
    @pytest.fixture
    def released(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Parsing waits for this, or for the worker to give it up."""
        event = threading.Event()

        def slow(ref: DocumentRef, texts: TextStore) -> Document:
            while ref.reader == "html" and not event.wait(0.01):
                if texts.stopped():
                    raise StoppedError
            return open_document(ref, texts)

        monkeypatch.setattr(worker_module, "open_document", slow)
        return event

    @pytest.fixture
    def worker(self, tmp_path: Path) -> Worker:
        model = save_model(tmp_path / "model", bpe_tensors())
        return Worker(worker_spec(tmp_path / "run", model, lanes=2))

    def begin(self, worker: Worker, folder: Path) -> Progress:
        new = [refer(folder / "a.html", PAGE), document(folder / "b.txt", "Read at once.", "d1")]
        return worker.advance([Assignment(ref, 1, 1) for ref in new], 0.5)

    def test_reads_other_documents_while_one_is_parsed(
        self, worker: Worker, released: threading.Event, tmp_path: Path
    ) -> None:
        first = self.begin(worker, tmp_path)
        released.set()
        second = worker.advance([], PATIENCE)

        assert [(one.doc_id, one.status) for one in first.outcomes] == [("d1", "ok")]
        assert [(lane.doc_id, lane.tokens) for lane in first.lanes] == [("d0", 0)]
        assert [(one.doc_id, one.status) for one in second.outcomes] == [("d0", "ok")]

    def test_that_is_drained_lets_go_of_what_is_being_parsed(
        self, worker: Worker, released: threading.Event, tmp_path: Path
    ) -> None:
        self.begin(worker, tmp_path)
        started = time.monotonic()
        progress = worker.drain()

        assert (progress.outcomes, progress.lanes) == ((), ())
        assert time.monotonic() - started < PATIENCE

    def test_of_a_pool_that_is_closed_parses_nothing_any_more(self, released: threading.Event, tmp_path: Path) -> None:
        before = threading.enumerate()
        pool = LocalPool(worker_spec(tmp_path / "run", save_model(tmp_path / "model", bpe_tensors())))
        pool.start(0)
        pool.wait(0)
        pool.advance(0, [Assignment(refer(tmp_path / "a.html", PAGE), 1, 1)], 0.1)
        pool.wait(0)
        pool.close()

        begun = [thread for thread in threading.enumerate() if thread not in before]
        for thread in begun:  # what it has to say is said, it may still have to end
            thread.join(PATIENCE / 10)
        assert [thread for thread in begun if thread.is_alive()] == []
