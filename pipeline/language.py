"""A cheap guess at the language of a text, good enough to choose sentence rules. Knows nothing of documents.

Scripts that belong to one language decide at once; languages in the Latin script are told apart by their
commonest small words. What stays unclear is treated as English, whose rules are the mildest.
"""

from __future__ import annotations

import re
from typing import Final

SENTENCE_RULES: Final = 5
"""Grows with every change of the sentence rules that stand around `sentencex`; written into the output."""

_SCRIPTS: Final = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),  # before Chinese: Japanese mixes kana with Han characters
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("hy", re.compile(r"[\u0530-\u058f]")),
    ("my", re.compile(r"[\u1000-\u109f]")),
    ("am", re.compile(r"[\u1200-\u137f]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
)

_SMALL_WORDS: Final = {
    "en": "the of and to in that is was for with his it as he be by not this but are which",
    "de": "der die und das ist nicht ein eine den mit sich auf von dem zu im auch wird werden",
    "fr": "le la les et des est que une dans pour qui pas sur au du il ne avec ce",
    "es": "el la los las que en por con una es para del se como su al lo más pero",
    "pt": "o os que em não uma com para por dos da do mais como ao na se mas",
    "it": "il di che la e un per non sono una con del della gli nel si come anche",
    "nl": "de het een van en dat niet is op zijn met voor er aan ook maar bij",
}
_WORDS: Final = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}
_WORD: Final = re.compile(r"[^\W\d_]+")
_SCRIPT_SHARE: Final = 0.1


def detect_language(sample: str) -> str:
    """Two-letter code of the likeliest language of a sample (a few thousand characters are plenty)."""
    letters = sum(1 for character in sample if character.isalpha())
    for language, script in _SCRIPTS:
        if letters and len(script.findall(sample)) > _SCRIPT_SHARE * letters:
            return language
    words = [word.lower() for word in _WORD.findall(sample)]
    counts = {language: sum(word in known for word in words) for language, known in _WORDS.items()}
    best = max(counts, key=lambda language: (counts[language], language == "en"))
    return best if counts[best] else "en"
