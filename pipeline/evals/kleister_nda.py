"""Parties, law, first day and length of non-disclosure agreements, by rules (Kleister-NDA, its dev set).

Values count, not places: F1 over all key-value pairs, in capitals, as its authors measure. Texts of the set are not
shipped with anything; the folder is that of its repository. Nothing is read by a model.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.evals import AGAIN, EvalError, Row, Table, demand, reading
from pipeline.fields.field import Field
from pipeline.fields.finding import Found
from pipeline.fields.shipped import fields_of
from pipeline.in_memory import TextDocument
from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.rules import quotes

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "kleister-nda"
NEEDS: Final = ("kleister-nda/dev-0/in.tsv.xz", "kleister-nda/dev-0/expected.tsv")

_OF_CONTRACT: Final = {"parties": "party", "jurisdiction": "jurisdiction", "effective_date": "effective_date"}
_TERM: Final = Field(
    "term",
    "duration",
    cues=("for a period of", "term of", "shall expire", "terminate", "remain in effect for", "period ending"),
    min_confidence=0.5,
)
_KEYS: Final = (*_OF_CONTRACT.values(), "term")
_MOST_PARTIES: Final = 2
_UNITS: Final = {"D": "day", "W": "week", "M": "month", "Y": "year"}
_ESCAPED: Final = re.compile(r"\\([fnt\\])")
_WRITTEN: Final = {"n": "\n", "t": "\t", "f": "\f", "\\": "\\"}
_PERIOD: Final = re.compile(r"P(\d+)([DWMY])")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Judged:
    """Pairs of one agreement: found, wanted."""

    found: frozenset[Pair]
    wanted: frozenset[Pair]

    def counts(self, keys: Sequence[str]) -> list[int]:
        """Found, right, wanted."""
        found = {pair for pair in self.found if pair[0] in keys}
        wanted = {pair for pair in self.wanted if pair[0] in keys}
        return [len(found), len(found & wanted), len(wanted)]


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """F1 of all pairs and of each key, by the schema of contracts and by the first values of each kind."""
    fields = tuple(field for field in fields_of("contract") if field.name in _OF_CONTRACT)
    ours = (*fields, _TERM)
    first = tuple(replace(field, cues=(), description="", at_start=False) for field in ours)
    systems = {"the likeliest of its kind": first, "schema `contract`, and a term": ours}
    judged: dict[str, list[Judged]] = {name: [] for name in systems}
    for text, wanted in islice(_agreements(folder), limit):
        for name, given in systems.items():
            found = quotes(TextDocument(text), given, model)
            judged[name].append(Judged(frozenset(_pairs(found)), wanted))
    count = len(next(iter(judged.values())))
    demand(range(count), folder / NEEDS[0], "agreements")
    demand([pair for one in judged[next(iter(judged))] for pair in one.wanted], folder / NEEDS[1], "known values")
    rows = tuple(Row(name, _metrics(found)) for name, found in judged.items())
    return Table(NAME, f"Kleister-NDA dev, {count} agreements", rows)


def _agreements(folder: Path) -> Iterator[tuple[str, frozenset[Pair]]]:
    """The text of each agreement, of its last column, and the pairs that are wanted."""
    with (
        reading(folder / NEEDS[0]),
        lzma.open(folder / NEEDS[0], "rt", encoding="utf-8", newline="\n") as texts,
        (folder / NEEDS[1]).open(encoding="utf-8") as expected,
    ):
        for row, line in zip_longest(texts, expected):
            if row is None or line is None:
                raise EvalError(f"{folder / NEEDS[0 if row is None else 1]}: has fewer rows than its other; {AGAIN}")
            text = _ESCAPED.sub(lambda found: _WRITTEN[found[1]], row.rstrip("\n").rpartition("\t")[2])
            pairs = (pair.partition("=") for pair in line.split())
            yield text, frozenset((key, value.upper()) for key, _, value in pairs if key in _KEYS)


def _pairs(found: Mapping[str, Sequence[Found]]) -> Iterator[Pair]:
    for name, values in found.items():
        key = _OF_CONTRACT.get(name, name)
        for one in values[: _MOST_PARTIES if key == "party" else 1]:
            value = _written(key, one)
            if value is not None:
                yield key, value


def _written(key: str, found: Found) -> str | None:
    """A value as the set writes it, in capitals; None for what it has no way to write."""
    if key == "term":
        period = _PERIOD.fullmatch(found.match.normalized)
        if period is None:
            return None
        unit = _UNITS[period[2]] + ("" if period[1] == "1" else "s")
        return f"{period[1]}_{unit}".upper()
    value = found.match.normalized if key != "party" else str(found.match.value).replace(",", "")
    return re.sub(r"[\s:]+", "_", value).upper()


def _metrics(judged: Sequence[Judged]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, keys in {"F1": _KEYS, **{key: (key,) for key in _KEYS}}.items():
        table = np.array([one.counts(keys) for one in judged], np.float64)
        metrics[name] = estimate_of(lambda items, table=table: _f1(*table[items].sum(axis=0)), len(judged))  # type: ignore[misc]
    return metrics


def _f1(found: float, right: float, wanted: float) -> float:
    return float(2 * right / max(found + wanted, 1e-9))
