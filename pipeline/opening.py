"""Opens documents beside the reading: parsers work in processes of their own, so only a thread has to wait for them.

Knows nothing of models, lanes or rows.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.documents import Document
from pipeline.work import Assignment

PARSERS: Final = 4
"""Documents that one worker has parsed at the same time."""


@dataclass(frozen=True)
class Opened:
    """What came of opening a document: the document, or what was raised."""

    assignment: Assignment
    result: Document | Exception


@dataclass
class Opener:
    """Hands assignments to threads and collects what they open. Owns the threads.

    `open_now` opens a document and returns early, by raising, once `stopped` is true.
    """

    open_now: Callable[[Assignment], Document]
    _waiting: dict[str, Assignment] = field(init=False, default_factory=dict)
    _results: queue.SimpleQueue[Opened] = field(init=False, default_factory=queue.SimpleQueue)
    _places: threading.Semaphore = field(init=False, default_factory=lambda: threading.Semaphore(PARSERS))
    _stop: threading.Event = field(init=False, default_factory=threading.Event)

    @property
    def waiting(self) -> tuple[Assignment, ...]:
        """What is not open yet, in the order in which it was asked for."""
        return tuple(self._waiting.values())

    def stopped(self) -> bool:
        return self._stop.is_set()

    def begin(self, assignment: Assignment) -> None:
        """Open a document in a thread."""
        self._waiting[assignment.ref.doc_id] = assignment
        # A daemon: a process that ends does not wait for parsers.
        threading.Thread(target=self._open, args=(assignment,), daemon=True).start()

    def ready(self, seconds: float) -> Iterator[Opened]:
        """What has been opened since; if there is nothing yet, wait so many seconds for it."""
        while self._waiting:
            try:
                opened = self._results.get(timeout=seconds) if seconds > 0 else self._results.get_nowait()
            except queue.Empty:
                return
            seconds = 0.0
            del self._waiting[opened.assignment.ref.doc_id]
            yield opened

    def stop(self) -> None:
        """End the parsers that are at work and forget what waits. Nothing can be begun afterwards."""
        self._stop.set()
        for _ in range(len(self._waiting)):
            self._results.get()
        self._waiting = {}

    def _open(self, assignment: Assignment) -> None:
        with self._places:
            try:
                result: Document | Exception = self.open_now(assignment)
            except Exception as error:  # it is for the reading thread to say what that means
                result = error
        self._results.put(Opened(assignment, result))
