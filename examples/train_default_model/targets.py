"""What the student is to learn from a document: the teacher's vectors of its sentences and of groups of them.

Knows nothing of shards or training.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.train_default_model.sentences import is_heading, is_teachable, plain, sentences
from examples.train_default_model.shards import Sentence

Floats = NDArray[np.float32]
Encode = Callable[[str], list[int]]
Embed = Callable[[Sequence[str]], Floats]

GROUP_SIZES = (3, 6)
LONGEST_GROUP = 900


@dataclass(frozen=True)
class Taught:
    """What the teacher is asked for: sentences of at most `longest_words`, a group in every `group_every` sentences.

    The teacher's time goes with its tokens, and a short sentence says as much about its words' vectors as a long one.
    `group_every` of 0 asks for no groups.
    """

    longest_words: int = 70
    group_every: int = 12


def documents_with_targets(texts: Sequence[str], encode: Encode, embed: Embed, taught: Taught) -> list[list[Sentence]]:
    """Sentences with targets, per text; one call of the teacher for all of them."""
    cut = [sentences(text) for text in texts]
    plains = [[plain(sentence) for sentence in document] for document in cut]
    groups = [_groups(document, taught.group_every) for document in plains]
    chosen = [[is_teachable(text, taught.longest_words) for text in document] for document in plains]
    asked = [
        text
        for document, wanted in zip(plains, chosen, strict=True)
        for text, is_wanted in zip(document, wanted, strict=True)
        if is_wanted
    ]
    asked += [" ".join(document[a:b]) for document, spans in zip(plains, groups, strict=True) for a, b in spans]
    vectors = iter(embed(asked)) if asked else iter(())
    targets = [[next(vectors) if is_wanted else None for is_wanted in document] for document in chosen]
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


def _groups(document: Sequence[str], every: int) -> list[tuple[int, int]]:
    """About one span of three to six sentences in `every`, at places that depend on the text alone."""
    if not every:
        return []
    chooser = random.Random("\n".join(document[:3]))
    spans = []
    for block in range(0, len(document) - GROUP_SIZES[0], every):
        start = block + chooser.randrange(every)
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
