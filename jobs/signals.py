"""Being asked to stop: the first signal is noted, so that what runs ends in good order; the second ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def listening(received: list[int], wanted: bool) -> Iterator[None]:
    """Note the first SIGINT or SIGTERM, so that the run stops in good order; the second one stops it at once."""
    if not wanted:
        yield
        return

    def note(number: int, frame: object) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
