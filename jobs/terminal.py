"""How output reaches whoever reads it: consoles that behave when nobody does any more, as in `unspool plan JOB | head`,
and JSON that cannot steer a terminal.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any, Final

from rich.console import Console

from jobs.errors import steers

_UNBROKEN: Final = 1 << 16
"""Columns for output that no terminal shows: programs want lines whole."""


class DataConsole(Console):
    """stdout, for data. When its reader has gone, there is nobody left to work for: BrokenPipeError."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))  # Click goes by the number


class PeopleConsole(Console):
    """stderr, for people. When nobody reads it any more, it falls silent and the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def data_console() -> Console:
    """As wide as the terminal or `COLUMNS`; where there is neither, lines are not broken."""
    is_free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return DataConsole(highlight=False, width=_UNBROKEN if is_free else None)


def people_console() -> Console:
    return PeopleConsole(stderr=True, highlight=False)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON in which what could steer a terminal stands as an escape; it is read back as it was."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    for character in sorted(set(text) - {"\n"}):
        if steers(character):
            text = text.replace(character, json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f")
    return text
