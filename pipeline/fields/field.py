"""A field: what a user wants to know of every document, as plain values. Knows nothing of how it is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CLAUSE: Final = "clause"
TEXT: Final = "text"
NEXT_CUE: Final = 0.85
"""How much of a cue's weight in a clause the next one has."""

CARDINALITIES: Final = ("one", "many", "every")


@dataclass(frozen=True)
class Field:
    """What is looked for.

    `type` is that of a rule (`date`, `money`, …), or `text`, found by keys, patterns and values alone, or `clause`,
    whose values are whole sentences: those that a pattern is found in, or else those that the passages most like the
    description and the examples have. `cardinality`: `one` answer and what contradicts it, `many` different ones, or
    `every` mention. `cues` are words expected beside the value, `keys` those in front of a colon. `values` are the
    names that may be found, each with the words that stand for it. `at_start` says that it is expected where the
    document begins. The rest are conditions that a value must meet.
    """

    name: str
    type: str
    cardinality: str = "one"
    description: str = ""
    examples: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    at_start: bool = False
    min_confidence: float = 0.0
    minimum: str | float | None = None
    maximum: str | float | None = None
    max_chars: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Field:
        """The field that the options of a schema describe."""
        given = dict(options)
        for key in ("examples", "cues", "keys", "patterns"):
            given[key] = tuple(given.get(key) or ())
        values = given.get("values") or {}
        given["values"] = tuple((name, (name, *words)) for name, words in values.items())
        return cls(**given)

    @property
    def question(self) -> str:
        """What the passages that answer it are like, in words."""
        return ". ".join([self.name.replace("_", " "), *filter(None, (self.description, *self.cues, *self.examples))])

    @property
    def is_ranked(self) -> bool:
        """Whether passages are ranked for it, as nothing else says where it stands."""
        return self.type == CLAUSE and not (self.patterns or self.values or self.keys)
