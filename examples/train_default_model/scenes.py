"""Short statements about everyday things: who does what to whom and where, composed of words of WordNet.

Public texts under open licences are books, manuals and contracts; what people describe and compare in a sentence hardly
stands in them. What a statement says may be odd: the teacher says what it means. Knows nothing of teachers or tokens.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from examples.train_default_model.wordnet import WordNet

RAREST_WORD = 3
USUAL = 0.4
ADJECTIVE_SHARE = 0.3
NOUNS = {
    "being": frozenset({5, 18}),
    "person": frozenset({18}),
    "thing": frozenset({5, 6, 8, 13, 17, 20}),
    "place": frozenset({6, 15, 17}),
    "happening": frozenset({4, 11, 26, 28}),
    "subject": frozenset({4, 9, 10, 14, 21}),
}
"""Lexicographer files of nouns (lexnames(5WN)) by what may stand in a place of a pattern."""
VERBS = {"does": frozenset({2, 22}), "acts_on": frozenset({8, 9, 20, 21})}
"""Frames of verbs (wninput(5WN)): somebody does, somebody does to something or somebody."""
STATES = frozenset({42, 43})
PREPOSITIONS = ("in", "on", "near", "with", "under", "behind", "at", "across", "beside", "inside", "through", "by")
NUMBERS = ("Two", "Three", "Four", "Some", "Several", "Many", "A group of", "A few")
PATTERNS = (
    "{a being} is {ing acts_on} {a thing}.",
    "{a being} is {ing acts_on} {a thing}.",
    "{a being} is {ing acts_on} {a thing} {preposition} {a place}.",
    "{a being} is {ing does}.",
    "{a being} is {ing does} {preposition} {a place}.",
    "{a being} is {ing does} and {ing does}.",
    "{number} {plural being} are {ing does} {preposition} {a place}.",
    "{number} {plural being} are {ing acts_on} {plural thing}.",
    "{a being} {preposition} {a thing}.",
    "{a being} {ing acts_on} {a thing} {preposition} {a place}",
    "{a thing} {preposition} {a place}",
    "The {noun being} {past acts_on} the {noun thing}.",
    "The {noun thing} is not {adjective}.",
    "There is no {noun being} {ing acts_on} {a thing}.",
    "{name} {s acts_on} {name} over {noun happening}",
    "{name} {noun happening}: {plural person} {base acts_on} {plural thing}",
    "{number} {plural person} {past does} in {name} {noun happening}",
    "{plural person} {base acts_on} {noun subject} in {name}",
    "{name} {plural person} {past acts_on} {a person} after {noun happening}.",
    "The {noun person} said the {noun subject} {past acts_on} the {noun happening}.",
    "How do I {base acts_on} {a thing}?",
    "You should {base acts_on} the {noun subject}.",
    "I {past acts_on} my {noun thing} {preposition} the {noun place}.",
    "What {noun subject} should {plural person} {base does} for?",
)
_SLOT = re.compile(r"\{(?:(\w+) )?(\w+)\}")
_VOWELS = "aeiou"


@dataclass(frozen=True)
class Choice:
    """Words, with the sums of the roots of how often they stand in the text that is trained on."""

    words: Sequence[str]
    cumulative: Sequence[float]

    def one(self, chooser: random.Random) -> str:
        """A word, a frequent one more likely."""
        return chooser.choices(self.words, cum_weights=self.cumulative)[0]


class Scenes:
    """Composes statements of the words of WordNet that stand in a text."""

    def __init__(self, wordnet: WordNet, passages: Iterable[str]) -> None:
        """Choose the words that stand in the passages, by their usual kind and their most frequent meaning."""
        self._irregular = wordnet.irregular
        counts = Counter(word for passage in passages for word in re.findall(r"[A-Za-z]+", passage))
        words: dict[str, dict[str, int]] = {name: {} for name in (*NOUNS, *VERBS, "adjective", "name")}
        for (kind, word), sense in wordnet.first.items():
            is_usual = wordnet.share(kind, word) >= USUAL
            for name in _places_of(kind, word, sense.category, sense.frames, sense.words):
                shown = word.capitalize() if name == "name" else word
                if counts[shown] >= RAREST_WORD and (is_usual or name == "name"):
                    words[name][shown] = counts[shown]
        self._choices = {name: _choice(found) for name, found in words.items() if found}
        self._patterns = [pattern for pattern in PATTERNS if self._can_fill(pattern)]

    def some(self, count: int) -> list[str]:
        """So many different statements, or fewer if there are not as many."""
        chooser, found = random.Random(0), dict[str, None]()
        for _ in range(2 * count if self._patterns else 0):
            found[self._one(chooser)] = None
            if len(found) == count:
                break
        return list(found)

    def _can_fill(self, pattern: str) -> bool:
        names = {name for _, name in _SLOT.findall(pattern)} - {"preposition", "number"}
        return "adjective" in self._choices and names <= self._choices.keys()

    def _one(self, chooser: random.Random) -> str:
        text = _SLOT.sub(lambda slot: self._filled(slot[1] or "", slot[2], chooser), chooser.choice(self._patterns))
        return text[0].upper() + text[1:]

    def _filled(self, form: str, name: str, chooser: random.Random) -> str:
        if name == "preposition":
            return chooser.choice(PREPOSITIONS)
        if name == "number":
            return chooser.choice(NUMBERS)
        word = self._choices[name].one(chooser)
        if form in {"ing", "past", "s"}:
            return self._verb(word, form)
        if form == "plural":
            word = self._plural(word)
        if form in {"a", "noun", "plural"} and chooser.random() < ADJECTIVE_SHARE:
            word = f"{self._choices['adjective'].one(chooser)} {word}"
        if form == "a":
            word = f"{'an' if word[0] in _VOWELS else 'a'} {word}"
        return word

    def _plural(self, word: str) -> str:
        irregular = self._irregular.get(("noun", word))
        return irregular[0] if irregular else with_s(word)

    def _verb(self, word: str, form: str) -> str:
        irregular = self._irregular.get(("verb", word), ())
        if form == "s":
            return with_s(word)
        if form == "ing":
            doubled = [one for one in irregular if one.endswith("ing")]
            return doubled[0] if doubled else with_ing(word)
        past = sorted((one for one in irregular if not one.endswith("ing")), key=lambda one: (len(one), one))
        return past[0] if past else with_ed(word)


def with_s(word: str) -> str:
    """The plural of a regular noun, or the third person of a verb."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in _VOWELS:
        return word[:-1] + "ies"
    return word + "s"


def with_ing(word: str) -> str:
    """The participle of a regular verb whose last letter is not doubled."""
    if word.endswith("ie"):
        return word[:-2] + "ying"
    if word.endswith("e") and not word.endswith(("ee", "oe", "ye")):
        return word[:-1] + "ing"
    return word + "ing"


def with_ed(word: str) -> str:
    """The past of a regular verb whose last letter is not doubled."""
    if word.endswith("e"):
        return word + "d"
    if word.endswith("y") and word[-2:-1] not in _VOWELS:
        return word[:-1] + "ied"
    return word + "ed"


def _places_of(kind: str, word: str, category: int, frames: frozenset[int], spellings: Sequence[str]) -> Iterable[str]:
    """The places of patterns that a word may take by its most frequent meaning."""
    if not word.isalpha() or len(word) < 2:
        return ()
    if kind == "noun" and word not in spellings:
        return ("name",) if category == 15 and word.capitalize() in spellings else ()
    if kind == "noun":
        return tuple(name for name, categories in NOUNS.items() if category in categories)
    if kind == "verb" and category not in STATES:
        return tuple(name for name, wanted in VERBS.items() if frames & wanted)
    return ("adjective",) if kind == "adj" else ()


def _choice(counts: Mapping[str, int]) -> Choice:
    words = sorted(counts)
    return Choice(words, list(accumulate(counts[word] ** 0.5 for word in words)))
