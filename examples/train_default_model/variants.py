"""Clauses with a word or two replaced: what a small change does to a vector.

The sentences of a text are far from each other, and what people compare often differs in a word. Knows nothing of
teachers or tokens.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

FUNCTION_WORDS = 130
RAREST_WORD = 3
FITTING = 0.6
_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)?")


@dataclass(frozen=True)
class Replacements:
    """What may stand in for a word: `followers` of the word before it, or any of `known`, by root of frequency.

    The most frequent words are in neither: they hold a sentence together.
    """

    followers: Mapping[str, Sequence[str]]
    known: Sequence[str]
    cumulative: Sequence[float]

    def one(self, before: str, chooser: random.Random) -> str:
        """A word for the place behind `before`: mostly one that stands there elsewhere."""
        fitting = self.followers.get(before)
        if fitting and chooser.random() < FITTING:
            return chooser.choice(fitting)
        return chooser.choices(self.known, cum_weights=self.cumulative)[0]


def replacements(passages: Iterable[str]) -> Replacements:
    """The words of passages, in small letters."""
    counts: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for passage in passages:
        words = _WORDS.findall(passage.lower())
        counts.update(words)
        pairs.update(pairwise(words))
    ranked = [word for word, times in counts.most_common() if times >= RAREST_WORD]
    known = ranked[FUNCTION_WORDS:]
    allowed, followers = set(known), defaultdict(list)
    for (before, word), times in pairs.items():
        if word in allowed:
            followers[before] += [word] * times
    return Replacements(followers, known, list(accumulate(counts[word] ** 0.5 for word in known)))


def variants(originals: Iterable[str], instead: Replacements, per_text: int = 2) -> Iterator[str]:
    """`per_text` texts of each that has a word to be replaced, each with one or two such words replaced."""
    chooser, allowed = random.Random(0), set(instead.known)
    for original in originals:
        words = original.split()
        bare = [word.lower().strip('.,;"') for word in words]
        places = [place for place, word in enumerate(bare) if word in allowed]
        for _ in range(per_text if places else 0):
            changed = list(words)
            for place in chooser.sample(places, min(len(places), chooser.choice((1, 1, 2)))):
                word = instead.one(bare[place - 1] if place else "", chooser)
                changed[place] = word + words[place][len(words[place].rstrip(".,;")) :]
            text = " ".join(changed)
            yield text[0].upper() + text[1:] if original[0].isupper() else text
