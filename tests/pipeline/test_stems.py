"""Stems are the same whichever of the two implementations of Snowball's rules is installed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import snowballstemmer
import Stemmer

from pipeline.retrieval.terms import STEMMERS

NOVEL = Path(__file__).parents[2] / "examples" / "documents" / "moby-dick.txt"
WRITTEN_OTHERWISE = (
    "häuser straßen größten überraschungen allerdings français étaient garçons généralement continuellement niños "
    "corazones rápidamente difficoltà perciò città quindici avô corações não bijzondere vrouwelijk flickornas största "
    "børnene største talolla kissojen házakban könyveket evlerinden kitaplarımız casele copiilor книгами домов "
    "большого красивыми الكتاب والمدرسة مسلمون المعلمين"
)


def words() -> list[str]:
    """Each word of a few chapters once, and words of the other languages."""
    novel = NOVEL.read_text("utf-8")[30_000:80_000].lower()
    return sorted({*re.findall(r"[^\W_]+", novel)})[::4] + WRITTEN_OTHERWISE.split()


@pytest.mark.parametrize("language", sorted(STEMMERS.values()))
def test_stems_are_those_of_the_rules_in_python(language: str) -> None:
    rules = importlib.import_module(f"snowballstemmer.{language}_stemmer")
    slow = getattr(rules, f"{language.capitalize()}Stemmer")()
    quick = snowballstemmer.stemmer(language)

    assert isinstance(quick, Stemmer.Stemmer)
    assert [quick.stemWord(word) for word in words()] == [slow.stemWord(word) for word in words()]
