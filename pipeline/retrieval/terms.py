"""From text to the terms that are matched: lower-case stems, and pairs of characters where words are not spaced.

The same text gives the same terms everywhere. Knows nothing of scores.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

import snowballstemmer

Terms: TypeAlias = "Callable[[str], list[str]]"

_RUN: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
STEMMERS: Final = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}
"""By language, the name that Snowball has for it."""
_CACHED_WORDS: Final = 1 << 16

_STOP: Final = (
    "a an and any are as at be been but by can could did do does for from had has have he her him his how i if in into "
    "is it its me more my no not of on one or our out she so some such than that the their them then there these they "
    "this to under up upon was we were what when where whether which who whom whose why will with would you your"
)
STOP_WORDS: Final = frozenset(_STOP.split())
"""English words that say nothing of what a text is about."""


@lru_cache(maxsize=32)
def terms_of(language: str) -> Terms:
    """The function from text to terms for a language (`en`, `de`, …); words are whole where it has no stemmer here."""
    name = STEMMERS.get(language)
    stem = lru_cache(_CACHED_WORDS)(snowballstemmer.stemmer(name).stemWord) if name else _same
    stop = STOP_WORDS if language == "en" else frozenset()

    def terms(text: str) -> list[str]:
        if text.isascii():
            return [stem(word) for word in _RUN.findall(text.lower()) if word not in stop]
        found: list[str] = []
        for word in _RUN.findall(unicodedata.normalize("NFKC", text).lower()):
            if not word.isascii() and _UNSPACED.search(word):
                found.extend(_pairs(word))
            elif word not in stop:
                found.append(stem(word))
        return found

    return terms


def _same(word: str) -> str:
    return word


def _pairs(run: str) -> list[str]:
    """Each two neighbouring characters; one alone stands for itself."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]
