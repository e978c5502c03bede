"""Consoles that behave when whoever reads them goes away: `unspool plan JOB | head` is no failure of anything."""

from __future__ import annotations

from rich.console import Console


class DataConsole(Console):
    """stdout, for data. When its reader has gone, there is nobody left to work for: BrokenPipeError."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class PeopleConsole(Console):
    """stderr, for people. When nobody reads it any more, it falls silent and the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def data_console() -> Console:
    return DataConsole(highlight=False)


def people_console() -> Console:
    return PeopleConsole(stderr=True, highlight=False)
