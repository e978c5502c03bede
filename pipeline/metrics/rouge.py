"""ROUGE (Lin, 2004) as the rouge-score package defines it: words of letters and digits, Porter stems, F1.

Stems are remembered, since the same documents are scored again and again; the definition stays the package's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from pipeline.errors import MissingExtraError

KINDS: Final = ("rouge1", "rouge2")


class Rouge:
    """Scores summaries against references. Needs the `eval` extra: raises MissingExtraError without it."""

    def __init__(self) -> None:
        try:
            from nltk.stem.porter import PorterStemmer
            from rouge_score import rouge_scorer, tokenize
        except ImportError as error:
            raise MissingExtraError(
                "ROUGE needs the package rouge-score; install it with `pip install unspool[eval]`"
            ) from error
        stem = lru_cache(maxsize=None)(PorterStemmer().stem)

        class Remembering:
            """Has the one method of a stemmer that the package's tokenizer calls."""

            def stem(self, word: str) -> Any:
                return stem(word)

        class Tokenizer:
            def tokenize(self, text: str) -> Any:
                return tokenize.tokenize(text, Remembering())

        self._scorer = rouge_scorer.RougeScorer(list(KINDS), tokenizer=Tokenizer())

    def best(self, summary: str, references: Sequence[str]) -> tuple[float, ...]:
        """F1 x 100 of ROUGE-1 and ROUGE-2, each the best over the references."""
        scores = [self._scorer.score(reference, summary) for reference in references]
        return tuple(100 * max(score[kind].fmeasure for score in scores) for kind in KINDS)
