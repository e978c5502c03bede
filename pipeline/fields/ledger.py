"""What has been found of one field so far: different values once, contradictions kept. A value of bounded size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.fields.field import Field
from pipeline.fields.finding import Found
from pipeline.fields.rules import Match
from pipeline.values import Value

KEPT: Final = 16
"""Different values of a field with one answer that are remembered until the end."""

REMEMBERED: Final = 2048
"""Values of a field with many that are known again; one that returns behind so many others is listed anew."""

CONTRADICTIONS: Final = 3
_AS_GOOD: Final = 0.6
_DIGEST: Final = 8


@dataclass(frozen=True)
class Ledger:
    """`best` holds the likeliest values with the number of their mentions, `seen` 8 bytes for each listed already."""

    best: tuple[tuple[Found, int], ...] = ()
    seen: bytes = b""

    def added(self, field: Field, found: Sequence[Found]) -> tuple[Ledger, list[Found]]:
        """The ledger behind some more values, and those of them that are listed now."""
        sure = [one for one in found if one.confidence >= field.min_confidence]
        if field.cardinality == "every":
            return self, sure
        if field.cardinality == "many":
            return self._listed(sure)
        ledger = self
        for one in sure:
            ledger = ledger._weighed(one)
        return ledger, []

    def answers(self) -> list[Found]:
        """The likeliest value, and those that contradict it and are nearly as likely, likeliest first."""
        ranked = sorted(self.best, key=lambda entry: (-entry[0].score, -entry[1], entry[0].char_start))
        return [found for found, _ in ranked if found.score >= _AS_GOOD * ranked[0][0].score][: 1 + CONTRADICTIONS]

    def _listed(self, found: Sequence[Found]) -> tuple[Ledger, list[Found]]:
        known = {self.seen[at : at + _DIGEST] for at in range(0, len(self.seen), _DIGEST)}
        new: list[Found] = []
        seen = self.seen
        for one in found:
            digest = hashlib.blake2b(one.match.normalized.encode(), digest_size=_DIGEST).digest()
            if digest not in known:
                known.add(digest)
                seen += digest
                new.append(one)
        return replace(self, seen=seen[-_DIGEST * REMEMBERED :]), new

    def _weighed(self, one: Found) -> Ledger:
        entries = {found.match.normalized: (found, count) for found, count in self.best}
        before = entries.get(one.match.normalized)
        if before is None:
            entries[one.match.normalized] = (one, 1)
        else:
            entries[one.match.normalized] = (max(before[0], one, key=lambda found: found.score), before[1] + 1)
        ranked = sorted(entries.values(), key=lambda entry: (-entry[0].score, entry[0].char_start))
        return replace(self, best=tuple(ranked[:KEPT]))

    def to_value(self) -> dict[str, Value]:
        rows: list[Value] = [[_flat(found), count] for found, count in self.best]
        return {"best": rows, "seen": self.seen}

    @classmethod
    def from_value(cls, value: Any) -> Ledger:
        return cls(tuple((_found(row), count) for row, count in value["best"]), value["seen"])


def _flat(found: Found) -> list[Value]:
    match = found.match
    read: list[Value] = [match.start, match.end, match.value, match.normalized, match.weight]
    return [*read, found.char_start, found.char_end, found.quote, found.page, found.sentence, found.score]


def _found(row: Sequence[Any]) -> Found:
    return Found(Match(*row[:5]), *row[5:])
