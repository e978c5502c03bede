"""Holds a claim to the sentences that it cites: what it names, how near it is to them, and if they make it likelier.

Nothing is taken on trust: a claim that fails is replaced by the best sentence that it cites, word for word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

LEAST_COSINE: Final = 0.5
_NAMED: Final = re.compile(r"\d[\d.,:/-]*\d|\d|(?<=[\w,;] )[A-Z][\w'’-]+|\b[A-Z]{2,}\b")
_WORD: Final = re.compile(r"\w+")


class Evidence(Protocol):
    """What a model says of texts."""

    def cosine(self, one: str, other: str) -> float:
        """Of the vectors of two texts."""

    def nats(self, text: str, behind: str) -> float:
        """-ln p of a text behind another."""


@dataclass(frozen=True)
class Claim:
    """A statement and the places, from 0 on, of the sentences that it cites; at least one."""

    text: str
    cited: tuple[int, ...]


@dataclass(frozen=True)
class Checked:
    """What is shown for a claim: itself, or the best sentence that it cites. `failed` says why it was replaced."""

    text: str
    cited: tuple[int, ...]
    failed: str | None = None


def checked(claim: Claim, sentences: Sequence[str], evidence: Evidence) -> Checked:
    """Check a claim against the sentences that it cites, the cheapest look first."""
    cited = [sentences[place] for place in claim.cited]
    failed = _failure(claim, cited, [one for place, one in enumerate(sentences) if place not in claim.cited], evidence)
    if failed is None:
        return Checked(claim.text, claim.cited)
    best = max(claim.cited, key=lambda place: (_shared(claim.text, sentences[place]), -place))
    return Checked(sentences[best], (best,), failed)


def _failure(claim: Claim, cited: Sequence[str], others: Sequence[str], evidence: Evidence) -> str | None:
    """Why a claim cannot be kept, None if it can."""
    known = " ".join(cited)
    unknown = [name for name in named_in(claim.text) if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", known)]
    if unknown:
        return f"names {unknown[0]!r}, which no sentence that it cites does"
    if max(evidence.cosine(claim.text, one) for one in cited) < LEAST_COSINE:
        return "is not near any sentence that it cites"
    if not others:
        return None
    elsewhere = min(evidence.nats(claim.text, one) for one in _alike(known, others))
    return None if evidence.nats(claim.text, known) < elsewhere else "is as likely behind other sentences"


def named_in(text: str) -> list[str]:
    """Numbers, dates, capitalised words inside a sentence, and abbreviations: what must not be made up."""
    return _NAMED.findall(text)


def _alike(known: str, others: Sequence[str]) -> list[str]:
    """Three texts of other sentences, about as long as what is cited."""
    found = []
    for begin in range(min(3, len(others))):
        text = others[begin]
        for more in others[begin + 1 :]:
            if len(text) >= len(known):
                break
            text = f"{text} {more}"
        found.append(text)
    return found


def _shared(one: str, other: str) -> float:
    words = {word.lower() for word in _WORD.findall(one)}
    return len(words & {word.lower() for word in _WORD.findall(other)}) / max(len(words), 1)
