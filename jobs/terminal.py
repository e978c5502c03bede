"""How output reaches whoever reads it: consoles that behave when nobody does any more, as in `unspool plan JOB | head`,
and JSON that cannot steer a terminal.
"""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from jobs.errors import steers


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


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON in which what could steer a terminal stands as an escape; it is read back as it was."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    for character in sorted(set(text) - {"\n"}):
        if steers(character):
            text = text.replace(character, json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f")
    return text
