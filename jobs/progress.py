"""How a run looks while it runs: a live view on a terminal, a plain line every 30 seconds elsewhere. On stderr.

Progress counts bytes of text read of all bytes: the whole is known before the first token, so it never moves. The
estimate of what is left comes from the last minute and leaves the loading of models out. Knows nothing of how
documents are read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from jobs.errors import safe

if TYPE_CHECKING:
    from pipeline.outcome import Outcome
    from pipeline.pool import Loss
    from pipeline.work import LaneReport, WorkerFacts
    from pipeline.work import Progress as WorkerProgress

_RATE_SECONDS: Final = 60.0
_LINE_SECONDS: Final = 30.0
_LANES_SHOWN: Final = 3
_WORKERS_SHOWN: Final = 8


class Display(Protocol):
    """What draws. `line` is the present state in one line; `say` is something to be kept on the screen."""

    def draw(self, tally: Tally) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


class Tally:
    """The figures of a run as they stand; of one that follows files there is no whole to be a share of."""

    def __init__(
        self, sizes: Mapping[str, int], uris: Mapping[str, str], finished: Mapping[str, str], follows: bool = False
    ) -> None:
        self.follows = follows
        self._sizes = dict(sizes)
        self._uris = dict(uris)
        self._read = {doc_id: self._sizes.get(doc_id, 0) for doc_id in finished}
        self._read_bytes = sum(self._read.values())
        self.documents = len(sizes)
        self.finished = len(finished)
        self.failed = sum(status == "failed" for status in finished.values())
        self.total_bytes = sum(sizes.values())
        self.tokens = 0
        self.saved_at: float | None = None
        self._lanes: dict[int, tuple[LaneReport, ...]] = {}
        self._recent: deque[tuple[float, int, int]] = deque()

    @property
    def read_bytes(self) -> int:
        return min(self._read_bytes, self.total_bytes)

    def name(self, doc_id: str) -> str:
        """What the user calls a document."""
        return self._uris.get(doc_id, doc_id)

    def move(self, place: int, progress: WorkerProgress, now: float) -> None:
        self.tokens += progress.tokens_fed
        self._lanes[place] = progress.lanes
        for lane in progress.lanes:
            self._note(lane.doc_id, min(lane.text_bytes, self._sizes.get(lane.doc_id, lane.text_bytes)))
        if progress.checkpoints:
            self.saved_at = now
        self._recent.append((now, self.tokens, self.read_bytes))
        while now - self._recent[0][0] > _RATE_SECONDS:
            self._recent.popleft()

    def finish(self, outcome: Outcome) -> None:
        self._note(outcome.doc_id, self._sizes.get(outcome.doc_id, 0))
        self.finished += 1
        self.failed += outcome.status == "failed"

    def _note(self, doc_id: str, read_bytes: int) -> None:
        self._read_bytes += read_bytes - self._read.get(doc_id, 0)
        self._read[doc_id] = read_bytes

    def restart_clock(self, now: float) -> None:
        """Forget the time up to now: it went into loading a model, not into reading."""
        self._recent.clear()
        self._recent.append((now, self.tokens, self.read_bytes))

    def rates(self) -> tuple[float, float]:
        """Tokens and bytes a second over the last minute; 0 until there is something to tell."""
        if len(self._recent) < 2:
            return 0.0, 0.0
        (t0, tokens0, bytes0), (t1, tokens1, bytes1) = self._recent[0], self._recent[-1]
        took = max(t1 - t0, 1e-9)
        return (tokens1 - tokens0) / took, (bytes1 - bytes0) / took

    def lose(self, place: int) -> None:
        """A worker is gone, and reads nothing any more."""
        self._lanes.pop(place, None)

    def worker_lines(self) -> list[str]:
        """A line a worker: what it reads, and how much of it is read."""
        return [f"worker {place}: {self._reading(lanes)}" for place, lanes in sorted(self._lanes.items())]

    def _reading(self, lanes: Sequence[LaneReport]) -> str:
        shown = ", ".join(
            f"{self.name(lane.doc_id)} {min(lane.text_bytes / max(self._sizes.get(lane.doc_id, 0), 1), 1):.0%}"
            for lane in lanes[:_LANES_SHOWN]
        )
        return shown + (f" and {len(lanes) - _LANES_SHOWN} more" if len(lanes) > _LANES_SHOWN else "") or "waiting"

    def line(self, now: float) -> str:
        """All figures in one line; lanes are the documents that each worker reads side by side."""
        tokens_a_second, bytes_a_second = self.rates()
        left = (self.total_bytes - self.read_bytes) / bytes_a_second if bytes_a_second > 0 else None
        saved = f"{now - self.saved_at:.0f} s ago" if self.saved_at is not None else "none yet"
        if self.follows:
            return f"following · {self.tokens:,} tokens · {tokens_a_second:,.0f} tokens/s · checkpoint {saved}"
        fields = [
            f"{human_bytes(self.read_bytes)} of {human_bytes(self.total_bytes)}",
            f"{self.finished}/{self.documents} documents",
            f"{self.failed} failed",
            f"lanes {'+'.join(str(len(lanes)) for _, lanes in sorted(self._lanes.items())) or '0'}",
            f"{tokens_a_second:,.0f} tokens/s",
            f"checkpoint {saved}",
            f"about {human_seconds(left)} left" if left is not None else "estimating",
        ]
        return " · ".join(fields)


class Watch:
    """Keeps the tally of a run and has it drawn."""

    def __init__(self, tally: Tally, display: Display, each_document: bool = False) -> None:
        self._tally = tally
        self._display = display
        self._each_document = each_document

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.close()

    def ready(self, place: int, facts: WorkerFacts) -> None:
        self._tally.restart_clock(time.monotonic())

    def moved(self, place: int, progress: WorkerProgress) -> None:
        self._tally.move(place, progress, time.monotonic())
        self._display.draw(self._tally)

    def finished(self, outcome: Outcome) -> None:
        self._tally.finish(outcome)
        name = self._tally.name(outcome.doc_id)
        if outcome.status == "failed":
            self._display.say(f"failed: {name}: {outcome.message}")
        elif self._each_document:
            self._display.say(f"done: {name}, {outcome.tokens:,} tokens")
        self._display.draw(self._tally)

    def lost(self, loss: Loss, again: Sequence[str]) -> None:
        self._tally.lose(loss.place)
        self._display.say(f"worker {loss.place} was lost ({loss.cause}); {len(again)} document(s) go out again")

    def warn(self, text: str) -> None:
        self._display.say(f"warning: {text}")


class LiveDisplay:
    """A bar with all figures and a line a worker, drawn over, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[share]}"),
            TextColumn("{task.fields[line]}"),
            console=console,
        )
        self._task = self._progress.add_task("", total=None, line="loading the model", share="")
        self._live = Live(self._progress, console=console, transient=True)
        self._live.start()

    def draw(self, tally: Tally) -> None:
        whole = None if tally.follows else tally.total_bytes
        share = f"{tally.read_bytes / whole:>4.0%}" if whole else ""
        self._progress.update(
            self._task,
            total=whole,
            completed=tally.read_bytes,
            share=share,
            line=tally.line(time.monotonic()),
        )
        workers = [Text(safe(line), no_wrap=True, overflow="ellipsis") for line in tally.worker_lines()]
        more = [Text(f"and {len(workers) - _WORKERS_SHOWN} more workers")] if len(workers) > _WORKERS_SHOWN else []
        self._live.update(Group(self._progress, *workers[:_WORKERS_SHOWN], *more))

    def say(self, text: str) -> None:
        self._console.print(Text(safe(text)))

    def close(self) -> None:
        self._live.stop()


class PlainDisplay:
    """One line every 30 seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn_at = time.monotonic()

    def draw(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._drawn_at >= _LINE_SECONDS:
            self._drawn_at = now
            self.say(tally.line(now))

    def say(self, text: str) -> None:
        self._console.print(Text(safe(text)), soft_wrap=True)

    def close(self) -> None:
        pass


class NoDisplay:
    """Draws nothing; what must be said is said."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def draw(self, tally: Tally) -> None:
        pass

    def say(self, text: str) -> None:
        self._console.print(Text(safe(text)), soft_wrap=True)

    def close(self) -> None:
        pass


def human_bytes(count: float) -> str:
    """1536 → 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """4000 → 1 h 06 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
