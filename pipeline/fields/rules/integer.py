"""Whole numbers, without a unit: `42`, `1,500`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match
from pipeline.fields.rules.number import find as numbers

TYPE: Final = "integer"


def find(text: str) -> Iterator[Match]:
    """The numbers in a text that have no fraction."""
    return (match for match in numbers(text) if isinstance(match.value, int))
