"""A job file's data before it is checked, where each part of it was said, and what `--set` puts in.

Values are addressed by the way that leads to them, ("tasks", 1, "every"), which messages show as `tasks[1].every`.
Knows nothing of what the options mean.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jobs.errors import JobError, usage_error
from jobs.yaml_file import DEEPEST, Data, Document, Steps, named, parse, read_file

_Known = TypeVar("_Known")

_INDEX = re.compile(r"\[([0-9]+)\]")


@dataclass(frozen=True, order=True)
class Spot:
    """A place for messages; overrides come before lines of the file."""

    line: int
    column: int
    where: str


class Draft:
    """A job file's data before it is checked, and where each part of it was said."""

    def __init__(
        self,
        data: dict[str, Data],
        keys: dict[Steps, Spot],
        values: dict[Steps, Spot],
        typed: dict[Steps, str],
    ) -> None:
        self.data = data
        self._keys = keys
        self._values = values
        self.typed = typed

    @classmethod
    def of(cls, source: str, document: Document, data: dict[str, Data]) -> Draft:
        def spots(places: Mapping[Steps, tuple[int, int]]) -> dict[Steps, Spot]:
            return {way: Spot(line, column, f"{source}:{line}:{column}") for way, (line, column) in places.items()}

        return cls(data, spots(document.keys), spots(document.values), dict(document.typed))

    def value_spot(self, way: Steps) -> Spot:
        """Where the value stands, or the nearest part around it that stands anywhere."""
        while way not in self._values:
            way = way[:-1]
        return self._values[way]

    def key_spot(self, way: Steps) -> Spot:
        """Where the key stands, or else its value."""
        return self._keys.get(way) or self.value_spot(way)

    def at(self, way: Steps) -> Data:
        """The value, as it was written; None where there is nothing."""
        return at(self.data, way)

    def override(self, text: str) -> None:
        """Put a `--set` text in."""
        where = f"--set {text}"
        address, equals, value_text = text.partition("=")
        if not equals or not address.strip():
            raise usage_error("SPEC-SET", "write it as dotted.path=value", where)
        try:
            value = parse(value_text or "null", where)
        except JobError as error:
            message = f"the value is no YAML ({error.message}); put it in quotes"
            raise usage_error(error.code, message, where) from None
        way = self._place_value(_steps(address, where), value.data, where)
        self._forget(way)
        self._keys[way] = self._values[way] = Spot(0, 0, where)
        self.typed |= {(*way, *below): typed for below, typed in value.typed.items()}

    def include(self, way: Steps, path: Path) -> None:
        """Put what a file holds in place of its path; messages then name that file, with line and column."""
        document, data = read_file(path)
        put(self.data, way, data)
        for places, found in ((self._keys, document.keys), (self._values, document.values)):
            spots = {(*way, *below): Spot(*spot, f"{path}:{spot.line}:{spot.column}") for below, spot in found.items()}
            places.update(spots)
        self.typed |= {(*way, *below): typed for below, typed in document.typed.items()}

    def _place_value(self, steps: Sequence[str], value: Data, where: str) -> Steps:
        """Set the value, making the mappings on the way that are not there yet; the way that was gone."""
        holder: Data = self.data
        way: Steps = ()
        for depth, step in enumerate(steps):
            key = _key_in(holder, step, way, where)
            way = (*way, key)
            following: Data = value if depth == len(steps) - 1 else child(holder, key)
            if following is None and depth < len(steps) - 1:
                following = {}
            put(holder, (key,), following)
            holder = following
        return way

    def _forget(self, way: Steps) -> None:
        self._keys = _outside(way, self._keys)
        self._values = _outside(way, self._values)
        self.typed = _outside(way, self.typed)


def _key_in(holder: Data, step: str, way: Steps, where: str) -> str | int:
    """The key or index that one step of an override means."""
    if isinstance(holder, dict):
        return step
    if not isinstance(holder, list):
        message = f"{dotted(way)} is {named(holder)}, so it has no `{step}`; set {dotted(way)} as a whole"
        raise usage_error("SPEC-SET", message, where)
    if step.isdecimal() and len(step) < 9 and int(step) < len(holder):
        return int(step)
    names = [element.get("name") if isinstance(element, dict) else None for element in holder]
    if step in names:
        return names.index(step)
    known = [name for name in names if isinstance(name, str)]
    message = f"{dotted(way)} has {len(holder)} element(s) and none is `{step}`"
    raise usage_error("SPEC-SET", message + suggestion(step, known), where)


def _steps(address: str, where: str) -> list[str]:
    """tasks.gist.every and tasks[1].every → their steps."""
    steps = [step.strip() for step in _INDEX.sub(r".\1", address).split(".")]
    if "" in steps or len(steps) > DEEPEST:
        raise usage_error("SPEC-SET", "write it as dotted.path=value, such as tasks.gist.at_end=false", where)
    return steps


def _outside(way: Steps, places: Mapping[Steps, _Known]) -> dict[Steps, _Known]:
    """The entries that are neither at `way` nor below it."""
    return {known: place for known, place in places.items() if known[: len(way)] != way}


def suggestion(word: str, known: Sequence[str], otherwise: str = "") -> str:
    """What to put behind a message on a word that is not known: the nearest one that is, or else all of them."""
    if near := difflib.get_close_matches(word[:100], known, n=1, cutoff=0.6):
        return f"; did you mean `{near[0]}`?"
    return f"; {otherwise}{', '.join(known)}" if known and otherwise else ""


def at(data: Data, way: Steps) -> Data:
    """The value at `way`; None where there is nothing."""
    for step in way:
        data = child(data, step)
    return data


def has(data: Data, way: Steps) -> bool:
    """Whether there is a value at `way`, be it null."""
    holder = at(data, way[:-1])
    if isinstance(holder, dict):
        return way[-1] in holder
    return isinstance(holder, list) and isinstance(way[-1], int) and way[-1] < len(holder)


def child(holder: Data, step: str | int) -> Data:
    """The value one step below; None where there is nothing."""
    if isinstance(holder, dict) and isinstance(step, str):
        return holder.get(step)
    if isinstance(holder, list) and isinstance(step, int) and step < len(holder):
        return holder[step]
    return None


def put(data: Data, way: Steps, value: Data) -> None:
    """Set a value in the mapping or list that holds it."""
    holder, last = at(data, way[:-1]), way[-1]
    if isinstance(holder, dict):
        holder[str(last)] = value
    elif isinstance(holder, list):
        holder[int(last)] = value


def dotted(way: Steps) -> str:
    """("tasks", 1, "every") → tasks[1].every"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way).removeprefix(".")
