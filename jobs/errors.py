"""What can stop a job, and the exit code that says so.

A `JobError` is for people: one line that says what is wrong, where, and what to do. Anything else that
escapes is a bug of ours. Text that came from outside (file names, keys, values) is made harmless for a
terminal when a message is printed. Knows nothing of what the messages are about.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import IntEnum

SHOWN_AT_MOST = 20  # problems of one file; more would scroll the first ones away


class ExitCode(IntEnum):
    """The exit codes of the command, as the contract fixes them."""

    OK = 0
    BUG = 1
    USAGE = 2
    FAILURES = 3
    OTHER_SPEC = 4
    OTHER_RUNNER = 5
    ENVIRONMENT = 6
    MODEL = 7
    ABORTED = 8
    INTERRUPTED = 75
    SIGINT = 130
    SIGTERM = 143


class JobError(Exception):
    """A problem that stops the job: `error[CODE] where: message`.

    `where` is a place such as `job.yaml:14:5`, a path or an option. `others` are further problems that were
    found in the same pass; each gets a line of its own, at most 20 lines in all.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        exit_code: ExitCode,
        where: str | None = None,
        others: Sequence[JobError] = (),
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.exit_code = exit_code
        self.where = where
        self.others = tuple(others)

    def __str__(self) -> str:
        lines = [self.line(), *(other.line() for other in self.others)]
        hidden = len(lines) - SHOWN_AT_MOST
        if hidden > 0:
            lines[SHOWN_AT_MOST:] = [f"… and {hidden} more; correct these first"]
        return "\n".join(lines)

    def line(self) -> str:
        """This problem alone, on one line."""
        place = f"{self.where}: " if self.where else ""
        return safe(f"error[{self.code}] {place}{self.message}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.code, self.message, self.exit_code, self.where, self.others)


def together(problems: Sequence[JobError]) -> JobError:
    """One error for all `problems` (at least one): the first one, with the others as its further lines."""
    first = problems[0]
    return JobError(first.code, first.message, exit_code=first.exit_code, where=first.where, others=problems[1:])


def usage_error(code: str, message: str, where: str | None = None) -> JobError:
    """A wrong argument or job file: nothing was started."""
    return JobError(code, message, exit_code=ExitCode.USAGE, where=where)


def safe(text: str) -> str:
    """`text` on one line and harmless for a terminal: what would steer it is written as an escape.

    Escaped: control characters (C0, DEL, C1), line and paragraph separators, format characters
    (bidirectional controls, zero-width characters, byte order marks, tags) and lone surrogates.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def steers(character: str) -> bool:
    """Whether a terminal may take a character for something else than text."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _visible(character: str) -> str:
    if not steers(character):
        return character
    point = ord(character)
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _rebuild(code: str, message: str, exit_code: ExitCode, where: str | None, others: Sequence[JobError]) -> JobError:
    return JobError(code, message, exit_code=exit_code, where=where, others=others)
