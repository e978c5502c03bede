"""Running heads and feet: lines that stand at the edge of page after page, and are no part of the text.

Pages are compared with their neighbours only, so memory is bounded, and books whose left and right pages differ or
whose chapters change the head are read as well. Knows nothing of formats.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

NEIGHBOURS: Final = 4
"""Pages on each side that a page is compared with."""
_OTHERS: Final = 2
_EDGE_LINES: Final = 2
_DIGITS: Final = re.compile(r"\d+")


def without_running_lines(pages: Iterable[str]) -> Iterator[str]:
    """The pages without the lines at their edges that stand, numbers apart, at the same edge of two neighbours."""
    window: deque[str] = deque()
    current = 0
    for page in pages:
        window.append(page)
        if len(window) - current > NEIGHBOURS:
            yield _stripped(window, current)
            current += 1
        if current > NEIGHBOURS:
            window.popleft()
            current -= 1
    for rest in range(current, len(window)):
        yield _stripped(deque(list(window)[max(rest - NEIGHBOURS, 0) :]), min(rest, NEIGHBOURS))


def _stripped(window: Sequence[str], current: int) -> str:
    """The page of a window at a place, without its running lines."""
    lines = window[current].splitlines()
    others = [page.splitlines() for place, page in enumerate(window) if place != current]
    top = _running(lines, others)
    bottom = _running(lines[top:][::-1], [page[::-1] for page in others])
    return "\n".join(lines[top : len(lines) - bottom])


def _running(lines: Sequence[str], others: Sequence[Sequence[str]]) -> int:
    """How many lines from the start on are running lines; blank ones between them count."""
    edges = [{shape(line) for line in _edge(other)} for other in others]
    count = 0
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        if line not in _edge(lines) or sum(shape(line) in edge for edge in edges) < _OTHERS:
            break
        count = place + 1
    return count


def _edge(lines: Sequence[str]) -> list[str]:
    """The first lines that are not blank."""
    return [line for line in lines if line.strip()][:_EDGE_LINES]


def shape(line: str) -> str:
    return " ".join(_DIGITS.sub("#", line).split())
