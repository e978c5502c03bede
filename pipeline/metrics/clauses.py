"""Passages of a whole text ranked for fields, with the code that the task `extract` ranks them with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.fields.field import Field
from pipeline.fields.ranking import Open, Passage, Ranking, Sentences, wording_of
from pipeline.retrieval.terms import terms_of
from pipeline.segments import Sentence

LANGUAGE = "en"
Ranked = list[tuple[Passage, float]]


def ranked_passages(
    sentences: Iterable[Sentence],
    fields: Sequence[Field],
    vectors: NDArray[np.float32] | None = None,
    queries: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, Ranked]:
    """For each field by name, the passages of a text with their shares of its words, the best first.

    `vectors` [n, dimensions] belong to the sentences, `queries` [dimensions] to the fields' questions.
    """
    rankings = {field.name: Ranking() for field in fields}
    passage = Open()
    for place, sentence in enumerate(sentences):
        passage = passage.with_one(sentence, None if vectors is None else vectors[place])
        if passage.is_full:
            rankings = _seen(passage, rankings, fields, queries or {})
            passage = Open(passage.number + 1)
    if passage.sentences:
        rankings = _seen(passage, rankings, fields, queries or {})
    return {field.name: rankings[field.name].ranked(field, wording_of(field, LANGUAGE)) for field in fields}


def _seen(
    passage: Open,
    rankings: Mapping[str, Ranking],
    fields: Sequence[Field],
    queries: Mapping[str, NDArray[np.float32]],
) -> dict[str, Ranking]:
    sentences, grown = Sentences.of(passage, terms_of(LANGUAGE)), {}
    for field in fields:
        wording = wording_of(field, LANGUAGE)
        seen = sentences.seen_by(wording, queries.get(field.question))
        grown[field.name] = rankings[field.name].seen(seen, wording)
    return grown
