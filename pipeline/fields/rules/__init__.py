"""Rules that find values of a kind in a text, one module a kind. Deterministic; no model.

A rule module has `TYPE`, the name used in schemas, and `find(text) -> Iterator[Match]`, in the order of the text. What
a rule finds is always a stretch of the text as it stands. A contract test runs over every module of this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from pipeline.folder import entries

if TYPE_CHECKING:
    from pipeline.fields.values import Typed


@dataclass(frozen=True)
class Match:
    """A value at text[start:end]. `value` is a JSON value; `normalized` is the same for what means the same.

    `weight` in (0, 1] says how seldom such a stretch turns out to be something else.
    """

    start: int
    end: int
    value: Typed
    normalized: str
    weight: float


Finder: TypeAlias = "Callable[[str], Iterator[Match]]"


@cache
def finders() -> dict[str, Finder]:
    """The rules by their types."""
    return {module.TYPE: module.find for module in entries(__name__).values()}
