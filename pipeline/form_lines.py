"""Line ends that end sentences: in forms, invoices, lists and tables, where a full stop is not to be expected.

In running text a line ends where the next word would not have fitted, and means nothing. Here lines count that say by
their look that they stand for themselves. All rules look at one passage alone. Knows nothing of sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

_KEY: Final = r"[^\W_][^\s:.!?;]*(?:[ \t][^\s:.!?;]+){0,4}[ \t]?:(?=\s|$)"
_MARK: Final = r"(?:[-*•▪‣–·]|\(?[0-9a-z]{1,2}\)|[0-9]{1,2}\.)[ \t]+\S"
_CLOCK: Final = r"\d\d:\d\d:\d\d"
_LEVEL: Final = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|FATAL)"
_STAMP: Final = (
    rf"(?:\[?(?:\d{{4}}[-/.]\d\d[-/.]\d\d[T ]|[A-Z][a-z]{{2}} [ \d]\d (?:\d{{4}} )?){_CLOCK}"  # ISO 8601, syslog
    rf"|\[{_CLOCK}|{_CLOCK}[.,]\d"
    rf"|[\w.:-]+ \S+ \S+ \[\d\d/[A-Z][a-z]{{2}}/\d{{4}}:{_CLOCK}"  # what web servers write
    rf"|[IWEF]\d{{4}} {_CLOCK}"  # glog
    rf"|\[?{_LEVEL}\]?:?[ \t])"
)
"""How an entry of a log begins."""
_ENTRY: Final = re.compile(_STAMP)
_HINT: Final = re.compile(rf"\n(?:[ \t]*(?:{_KEY}|{_MARK})|{_STAMP})")
_PAIR: Final = re.compile(rf"[ \t]*{_KEY}")
_ITEM: Final = re.compile(rf"[ \t]*{_MARK}")
_NUMBERED: Final = re.compile(r"[ \t]*\(?[0-9a-z]")
_FIGURE: Final = re.compile(r"\d{2}|\d[.,]\d")
_CLOSED: Final = tuple(".:;!?)")
_SHORT: Final = 60
"""A line of fewer characters may stand for itself."""
_FORM_SHARE: Final = 1 / 3


class _Line(NamedTuple):
    """A line that is not blank: where its text ends, the text, and what it looks like."""

    end: int
    text: str
    is_pair: bool
    is_item: bool
    is_row: bool
    is_entry: bool


def line_ends(text: str) -> list[int]:
    """The characters of a passage behind which a line ends that stands for itself, ascending, but for the last line."""
    if "\t" not in text and not _HINT.search(f"\n{text}"):
        return []
    lines = list(_lines(text))
    is_form = _is_form(lines)
    return [line.end for line, following in pairwise(lines) if _parts(line, following, is_form)]


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for raw in text.split("\n"):
        line = raw.rstrip()
        if line:
            is_item = _ITEM.match(line) is not None
            is_pair, is_entry = _PAIR.match(line) is not None, _ENTRY.match(line) is not None
            yield _Line(start + len(line), line, is_pair, is_item, "\t" in line.strip(), is_entry)
        start += len(raw) + 1


def _is_form(lines: list[_Line]) -> bool:
    """Whether so many lines are short and hold a field or a figure that all short lines of the passage count."""
    telling = [one for one in lines if len(one.text) < _SHORT and (one.is_pair or _FIGURE.search(one.text))]
    return len(telling) >= max(_FORM_SHARE * len(lines), 2) and any(one.is_pair for one in telling)


def _parts(line: _Line, following: _Line, is_form: bool) -> bool:
    """Whether a line and the one behind it are two."""
    if following.is_entry:
        return True
    if following.is_item:
        numbered = _NUMBERED.match(following.text)
        return not numbered or line.is_item or line.text.endswith(_CLOSED)
    if line.is_row or following.is_row:
        return line.is_row and following.is_row
    if following.text.lstrip()[0].islower():
        return False
    if following.is_pair and (line.is_pair or len(line.text) < _SHORT):
        return True
    return len(line.text) < _SHORT and (line.is_pair or is_form)
