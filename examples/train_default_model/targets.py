"""What the student is to learn from a document: the teacher's vectors of its sentences and of groups of them.

Knows nothing of shards or training.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from examples.train_default_model.sentences import is_heading, is_teachable, plain, sentences
from examples.train_default_model.shards import Sentence

Floats = NDArray[np.float32]
Encode = Callable[[str], list[int]]
Embed = Callable[[Sequence[str]], Floats]

GROUP_SIZES = (3, 6)
GROUP_EVERY = 12
LONGEST_GROUP = 900


def documents_with_targets(texts: Sequence[str], encode: Encode, embed: Embed) -> list[list[Sentence]]:
    """Sentences with targets, per text; one call of the teacher for all of them."""
    cut = [sentences(text) for text in texts]
    plains = [[plain(sentence) for sentence in document] for document in cut]
    groups = [_groups(document) for document in plains]
    asked = [text for document in plains for text in document if is_teachable(text)]
    asked += [" ".join(document[a:b]) for document, spans in zip(plains, groups, strict=True) for a, b in spans]
    vectors = iter(embed(asked)) if asked else iter(())
    targets = [[next(vectors) if is_teachable(text) else None for text in document] for document in plains]
    joint = [{a: (b - a, next(vectors)) for a, b in spans} for spans in groups]
    return [
        [
            Sentence(
                np.array(encode(text), np.uint16), is_heading(text), target, salience, *spans.get(place, (0, None))
            )
            for place, (text, target, salience) in enumerate(zip(document, found, _centrality(found), strict=True))
        ]
        for document, found, spans in zip(cut, targets, joint, strict=True)
    ]


def _groups(document: Sequence[str]) -> list[tuple[int, int]]:
    """About one span of three to six sentences in every twelve, at places that depend on the text alone."""
    chooser = random.Random("\n".join(document[:3]))
    spans = []
    for block in range(0, len(document) - GROUP_SIZES[0], GROUP_EVERY):
        start = block + chooser.randrange(GROUP_EVERY)
        end = start + chooser.randint(*GROUP_SIZES)
        if end <= len(document) and len(" ".join(document[start:end])) <= LONGEST_GROUP:
            spans.append((start, end))
    return spans


def _centrality(targets: Sequence[Floats | None]) -> list[float]:
    """Mean cosine of each sentence to the document's others, standardised; NaN without a vector or a document."""
    known = [place for place, target in enumerate(targets) if target is not None]
    scores = np.full(len(targets), np.nan)
    if len(known) >= GROUP_SIZES[1]:
        vectors = np.stack([target for target in targets if target is not None])
        means = vectors @ vectors.sum(0) - 1.0
        scores[known] = (means - means.mean()) / max(float(means.std()), 1e-6)
    found: list[float] = scores.tolist()
    return found
