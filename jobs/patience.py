"""How long a call of a worker may take before the worker counts as hung. Knows times, and nothing of what is done.

A call reads for about a second and then one more window, so a worker that is well answers in seconds. One that does not
has been caught in something it cannot leave by itself: a loop that holds the interpreter, a stopped process, a
machine that is gone without a word. The clock is monotonic and the driver's own; workers are not asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.documents import DocumentRef
from pipeline.sandbox import Limits

_TIMES_THE_USUAL: Final = 20.0
_WEIGHT_OF_THE_NEWEST: Final = 0.2
_PARSING: Final = Limits()


class Patience:
    """Which calls are out, since when, and which of them have taken too long.

    A call may take `stall` seconds or 20 times the usual, whichever is longer; one that opens documents also has the
    time that parsing these may take. Loading a model has no limit: a large one from a slow disk is no fault.
    """

    def __init__(self, stall: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall = stall
        self._clock = clock
        self._calls: dict[int, tuple[float, float]] = {}
        self._usual = 0.0

    def begin(self, place: int, new: Sequence[DocumentRef]) -> None:
        """A call has gone out, with these documents to open."""
        opening = sum(_PARSING.seconds_for(ref.size) for ref in new)
        allowed = max(self._stall, _TIMES_THE_USUAL * self._usual) + opening
        self._calls[place] = (self._clock(), allowed)

    def end(self, place: int) -> None:
        """The call has been answered, or its worker is gone."""
        since, _ = self._calls.pop(place, (None, 0.0))
        if since is not None:
            self._usual += _WEIGHT_OF_THE_NEWEST * (self._clock() - since - self._usual)

    def overdue(self) -> dict[int, float]:
        """The places whose calls have taken too long, and for how many seconds they have been out."""
        now = self._clock()
        return {place: now - since for place, (since, allowed) in self._calls.items() if now - since > allowed}
