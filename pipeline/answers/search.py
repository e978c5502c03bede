"""The sentences nearest to a text, by words and by vectors together. Knows nothing of where sentences come from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.answers.lines import Line
from pipeline.retrieval.bm25 import idf, length_damping, saturated
from pipeline.retrieval.fusion import best, weighted_mean
from pipeline.retrieval.terms import terms_of

Vector: TypeAlias = NDArray[np.float32]

WORDS_WEIGHT: Final = 0.5
_LARGEST_COUNT: Final = 65_535


@dataclass(frozen=True)
class Hit:
    """A sentence that was found. `words` is its BM25 score, `cosine` that of its vector, None without vectors."""

    line: Line
    score: float
    words: float
    cosine: float | None


class Board:
    """Scores of sentences for one query: a few bytes each, so that many can be looked at."""

    def __init__(self, query: str, vector: NDArray[np.float32] | None, languages: Mapping[str, str]) -> None:
        self._query = query
        self._vector = vector
        self._languages = languages
        self._words: dict[str, dict[str, int]] = {}
        self._all: list[str] = []
        self._lengths = array("I")
        self._cosines = array("f")
        self._counts: dict[str, tuple[array[int], array[int]]] = {}

    def add(self, line: Line) -> None:
        """Look at one more sentence."""
        language = self._languages.get(line.doc_id, "en")
        terms = terms_of(language)
        if language not in self._words:
            self._words[language] = dict.fromkeys(terms(self._query), 0)
        found = terms(line.text)
        number = len(self._lengths)
        self._lengths.append(len(found))
        for word in self._words[language]:
            count = min(found.count(word), _LARGEST_COUNT)
            if count:
                places, counts = self._counts.setdefault(word, (array("I"), array("I")))
                places.append(number)
                counts.append(count)
        comparable = line.vector is not None and self._vector is not None
        self._cosines.append(float(line.vector @ self._vector) if comparable else 0.0)  # type: ignore[operator]

    def word_scores(self) -> NDArray[np.float64]:
        """BM25 of every sentence, [n]."""
        scores = np.zeros(len(self._lengths))
        if len(scores):
            damping = length_damping(np.frombuffer(self._lengths, np.uint32))
            for word in sorted(self._counts):
                places, counts = (np.frombuffer(part, np.uint32) for part in self._counts[word])
                scores[places] += idf(len(scores), len(places)) * saturated(counts, damping[places])
        return scores

    def cosines(self) -> NDArray[np.float64] | None:
        """Of every sentence, [n]; None if there is no vector to compare with."""
        return None if self._vector is None else np.frombuffer(self._cosines, np.float32).astype(np.float64)

    def scores(self) -> NDArray[np.float64]:
        """Words and vectors together, [n]."""
        words, cosines = self.word_scores(), self.cosines()
        if cosines is None:
            return words
        return weighted_mean([words, cosines], [WORDS_WEIGHT, 1 - WORDS_WEIGHT])


def search(
    lines: Iterable[Line], query: str, vector: NDArray[np.float32] | None, top: int, languages: Mapping[str, str]
) -> list[Hit]:
    """The `top` sentences that suit a query best, best first. `lines` is gone through once and not kept.

    `vector` [dimensions] is the query's; `languages` are those of the documents, by their ids.
    """
    board, kept = Board(query, vector, languages), _Kept(top)
    for line in lines:
        board.add(line)
        kept.offer(line, board)
    return kept.hits(board)


class _Kept:
    """The text of sentences that may yet be among the best; looked through whenever there are many."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._limit = max(16 * top, 4096)
        self._lines: dict[int, Line] = {}
        self._seen = 0

    def offer(self, line: Line, board: Board) -> None:
        self._lines[self._seen] = line
        self._seen += 1
        if len(self._lines) > 2 * self._limit:
            self._lines = {place: self._lines[place] for place in self._likely(board)}

    def hits(self, board: Board) -> list[Hit]:
        scores, words, cosines = board.scores(), board.word_scores(), board.cosines()
        places = sorted(self._lines)
        chosen = [places[at] for at in best(scores[places], self._top)] if places else []
        return [
            Hit(self._lines[at], float(scores[at]), float(words[at]), None if cosines is None else float(cosines[at]))
            for at in chosen
        ]

    def _likely(self, board: Board) -> list[int]:
        """Places whose words or whose vector are among the best so far."""
        places = np.array(sorted(self._lines))
        rankings = [board.scores(), board.word_scores(), board.cosines()]
        likely = {int(places[at]) for one in rankings if one is not None for at in best(one[places], self._limit // 3)}
        return sorted(likely)
