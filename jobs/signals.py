"""Signals that ask a command to stop: the first one stops it in good order, the second one at once.

While documents are read a signal is noted, and whoever reads saves and leaves. At any other time there is nothing to
save: `StopRequested` is raised where the command is, which costs what a crash there costs, and that is nothing that had
been committed. Knows nothing of what is read or written.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from jobs.errors import ExitCode

SECONDS_TO_SAVE: Final = 30.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_TOO_LATE: Final = (
    b"warning: not everything could be saved in time; what was read since the last checkpoints is read again\n"
)


class StopRequested(BaseException):
    """A signal has come while there was nothing to save. No handler for errors may catch it."""


class Signals:
    """SIGINT and SIGTERM of this process, within `listening`. If they are not `wanted`, they are left as they are."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._received: list[int] = []
        self._is_noted_only = False
        self._last_resort = threading.Timer(SECONDS_TO_SAVE, _leave)
        self._last_resort.daemon = True

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return bool(self._received)

    @property
    def received(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(self._received)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Raise StopRequested where the first signal comes; in the end others take care of them as before."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._listen()
        try:
            yield
        finally:
            self._last_resort.cancel()
            for number, handler in before.items() if self._wanted else ():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @contextmanager
    def noted_only(self) -> Iterator[None]:
        """Within `listening`, while there is something to save: whoever does asks `requested`.

        After 30 s the process ends anyhow.
        """
        self._is_noted_only = True
        try:
            yield
        finally:
            self._is_noted_only = False

    @contextmanager
    def answered_by_others(self) -> Iterator[None]:
        """Within `listening`, while something is called that answers SIGTERM with SystemExit, as Ray does."""
        try:
            yield
        except SystemExit as end:
            if not self._wanted:
                raise
            self._received.append(signal.SIGTERM)
            raise StopRequested from end
        finally:
            self._listen()

    def _listen(self) -> None:
        for number in _SIGNALS if self._wanted else ():
            signal.signal(number, self._take)

    def _take(self, number: int, frame: object) -> None:
        if self._received:
            os._exit(128 + number)
        self._received.append(number)
        if not self._is_noted_only:
            raise StopRequested
        self._last_resort.start()


def _leave() -> None:
    """End the process as it is. What it has written so far is as after a crash: whole."""
    os.write(sys.stderr.fileno(), _TOO_LATE)
    os._exit(ExitCode.INTERRUPTED)
