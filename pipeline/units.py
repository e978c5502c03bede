"""What gets a vector: a sentence, a section, a window of tokens or the document, each a run of whole sentences.

A unit is open from its first sentence until one of another unit comes, so it is known by what has been read alone, and
what is kept of it (its place, sums or a text being read beside the document) is bounded. Knows nothing of tables.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.alone import Alone, OpenText
from pipeline.segments import Sentence
from pipeline.values import Value
from rwkv_runtime.engine import Fed, Feed
from rwkv_runtime.pooling import SpanPooler
from rwkv_runtime.state import State

Unit: TypeAlias = Literal["sentence", "section", "window", "document"]
Floats: TypeAlias = NDArray[np.float32]

SPAN: Final = "span"
"""The pooling that takes a unit's vector off the stream of the document."""

LONGEST_TEXT: Final = 2000
"""Characters of a unit's text that are kept to show: its first sentence, and more while they fit."""


@dataclass(frozen=True)
class Want:
    """A kind of vector that is wanted. `tokens` is the length of a window, None for other units."""

    unit: Unit = "sentence"
    pooling: str = SPAN
    tokens: int | None = None

    @property
    def name(self) -> str:
        """Tells kinds apart in a checkpoint."""
        return f"{self.unit}/{self.pooling}/{self.tokens or ''}"

    def key(self, sentence: Sentence) -> str:
        """What all sentences of a unit have in common, and those of the next one have not."""
        if self.unit == "section":
            return sentence.section or ""
        if self.unit == "window":
            return str((sentence.token_end - 1) // (self.tokens or 1))
        return str(sentence.index) if self.unit == "sentence" else ""


@dataclass(frozen=True)
class Extent:
    """Where a unit lies: half-open spans in the document, as those of `Sentence`. `text` is how it begins, verbatim."""

    index: int
    sentences: int
    first_sentence: int
    text: str
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    token_start: int
    token_end: int
    section: str | None
    page: int | None

    @classmethod
    def of(cls, index: int, first: Sentence) -> Extent:
        """A unit that begins with a sentence."""
        spans = (first.byte_start, first.byte_end, first.char_start, first.char_end, first.token_start, first.token_end)
        return cls(index, 1, first.index, first.text, *spans, first.section, first.page)

    def extended(self, sentence: Sentence) -> Extent:
        """The unit with its next sentence. The text that is shown ends with the last sentence that fits."""
        longer = self.text + sentence.lead + sentence.text
        whole = self.char_start + len(self.text) == self.char_end
        return replace(
            self,
            sentences=self.sentences + 1,
            text=longer if whole and len(longer) <= LONGEST_TEXT else self.text,
            byte_end=sentence.byte_end,
            char_end=sentence.char_end,
            token_end=sentence.token_end,
        )


@dataclass(frozen=True)
class UnitVector:
    """A unit and its unit vector [dimensions]."""

    extent: Extent
    vector: Floats


@dataclass(frozen=True)
class Sums:
    """Of each of n spans of the stream: features summed over it, those of its last token, and its tokens."""

    sums: Floats
    last: Floats
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class OpenUnit:
    """A unit that more sentences may come to, with what was pooled of it: on the stream, or in a text of its own."""

    key: str
    extent: Extent
    sums: Floats
    last: Floats
    count: int = 0
    alone: OpenText | None = None


@dataclass(frozen=True)
class Open:
    """What is open of each kind that is wanted, and how many units of it have been closed."""

    units: Mapping[str, OpenUnit] = field(default_factory=dict)
    closed: Mapping[str, int] = field(default_factory=dict)

    def as_values(self) -> dict[str, Value]:
        """For a checkpoint."""
        return {
            "closed": dict(self.closed),
            "units": {
                name: {
                    "key": unit.key,
                    "extent": list(astuple(unit.extent)),
                    "sums": unit.sums,
                    "last": unit.last,
                    "count": unit.count,
                    "alone": None if unit.alone is None else cast("Value", unit.alone.as_values()),
                }
                for name, unit in self.units.items()
            },
        }

    @classmethod
    def of(cls, values: Mapping[str, Any], state_from_bytes: Callable[[bytes], State]) -> Open:
        """What `as_values` gave; of a checkpoint without it, nothing. Raises StateError."""
        units = {
            name: OpenUnit(
                unit["key"],
                Extent(*unit["extent"]),
                unit["sums"],
                unit["last"],
                unit["count"],
                None if unit["alone"] is None else OpenText.of(unit["alone"], state_from_bytes),
            )
            for name, unit in values.get("units", {}).items()
        }
        return cls(units, dict(values.get("closed", {})))


Found: TypeAlias = "Mapping[Want, tuple[UnitVector, ...]]"


def followed(
    wants: Sequence[Want], before: Open, sentences: Sequence[Sentence], sums: Sums | None, alone: Alone
) -> Generator[Feed, Fed, tuple[Found, Open]]:
    """The units that are closed by the next sentences, and what is open behind them. Yields what must be computed.

    `sums` are those of the sentences on the stream; needed where a kind with the pooling `span` is wanted.
    """
    found: dict[Want, tuple[UnitVector, ...]] = {}
    units, closed = dict(before.units), dict(before.closed)
    for want in wants:
        vectors: list[UnitVector] = []
        unit = units.get(want.name)
        for place, sentence in enumerate(sentences):
            if unit is not None and unit.key != want.key(sentence):
                vectors.append((yield from _closed(unit, want, alone)))
                unit = None
            if unit is None:
                number = closed[want.name] = closed.get(want.name, 0) + 1
                unit = _opened(number - 1, want, sentence, alone)
            else:
                unit = replace(unit, extent=unit.extent.extended(sentence))
            unit = yield from _pooled(unit, want, sentence, sums, place, alone)
            if want.unit == "sentence":
                vectors.append((yield from _closed(unit, want, alone)))
                unit = None
        found[want] = tuple(vectors)
        units.pop(want.name, None)
        if unit is not None:
            units[want.name] = unit
    return found, Open(units, closed)


def ended(wants: Sequence[Want], before: Open, alone: Alone) -> Generator[Feed, Fed, Found]:
    """The units that are open at the end of the document. Yields what must be computed."""
    found: dict[Want, tuple[UnitVector, ...]] = {}
    for want in wants:
        unit = before.units.get(want.name)
        found[want] = () if unit is None else ((yield from _closed(unit, want, alone)),)
    return found


def _opened(index: int, want: Want, first: Sentence, alone: Alone) -> OpenUnit:
    nothing = np.zeros(alone.pooler.feature_size, np.float32)
    text = None if want.pooling == SPAN else alone.opened()
    return OpenUnit(want.key(first), Extent.of(index, first), nothing, nothing, 0, text)


def _pooled(
    unit: OpenUnit, want: Want, sentence: Sentence, sums: Sums | None, place: int, alone: Alone
) -> Generator[Feed, Fed, OpenUnit]:
    if unit.alone is not None:
        text = yield from alone.with_sentence(unit.alone, sentence.text, alone.way(want.pooling))
        return replace(unit, alone=text)
    assert sums is not None  # they are asked for where a kind with the pooling span is wanted
    total: Floats = unit.sums + sums.sums[place]
    return replace(unit, sums=total, last=sums.last[place], count=unit.count + int(sums.counts[place]))


def _closed(unit: OpenUnit, want: Want, alone: Alone) -> Generator[Feed, Fed, UnitVector]:
    if unit.alone is not None:
        vector = yield from alone.closed(unit.alone, alone.way(want.pooling))
        return UnitVector(unit.extent, vector)
    return UnitVector(unit.extent, on_stream(alone.pooler, unit))


def on_stream(pooler: SpanPooler, unit: OpenUnit) -> Floats:
    """The vector [dimensions] of a unit that was pooled on the stream."""
    found: Floats = pooler.finish(unit.sums[None], unit.last[None], np.array([unit.count], np.int64))[0]
    return found
