"""What a reader of spans is worth beside what `ask` chooses by words, on texts that nothing was fitted to.

Three ways to choose a sentence and to say how sure that is: by words, by the reader, and by both, which is a logistic
function of the two fitted to questions that the reader has not seen. Intervals are over texts. Knows nothing of how the
reader was fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from examples.train_default_model.span_data import Case
from examples.train_default_model.span_reader import SpanReader, StaticVectors, best_span
from pipeline.answers.reader import evidence_of_both
from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.logistic import logistic

WORDS: Final = "words"
READER: Final = "reader"
BOTH: Final = "words and reader"
SYSTEMS: Final = (WORDS, READER, BOTH)
MOST_FALSE: Final = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """A question with what each way says of its sentences: scores [n] by name, and the reader's span of bytes in each
    [n, 2]."""

    case: Case
    scores: dict[str, Floats]
    spans: Floats

    def chosen(self, system: str) -> int:
        """The sentence that a way holds for the likeliest."""
        return int(np.argmax(self.scores[system]))

    def sure(self, system: str) -> float:
        return float(self.scores[system].max())


def seen(cases: Sequence[Case], reader: SpanReader, static: StaticVectors) -> list[Seen]:
    """Questions with what words and the reader say."""
    found = []
    with torch.inference_mode():
        for case in cases:
            scores = reader(case, static)
            bounds = []
            for sentence, (begin, _) in enumerate(case.sentences.tolist()):
                first, end = best_span(scores, sentence)
                bounds.append([int(case.places[begin + first, 0]), int(case.places[begin + end - 1, 1])])
            said = {WORDS: case.words.double().numpy(), READER: scores.sentences.double().numpy()}
            found.append(Seen(case, said, np.array(bounds, np.float64)))
    return found


def weights_of_both(known: Sequence[Seen]) -> Floats:
    """The weights [5] by which words and reader together tell right sentences from others, each set weighing the same.

    Their scale is such that the score of the likeliest sentence of a question is the log-odds of its being right.
    """
    names = [one.case.name for one in known]
    shares = [1 / names.count(name) for name in names]
    rows, right = [_features(one) for one in known], [one.case.right.numpy().astype(np.float64) for one in known]
    of_all = np.concatenate([np.full(len(one), share / len(one)) for one, share in zip(right, shares, strict=True)])
    found = logistic(np.concatenate(rows), np.concatenate(right), of_all * len(of_all) / of_all.sum())
    best = [int(np.argmax(one @ found)) for one in rows]
    scores = np.array([one[at] @ found for one, at in zip(rows, best, strict=True)])
    said = np.array([one[at] for one, at in zip(right, best, strict=True)])
    weighing = np.array(shares) * len(shares) / sum(shares)
    scale = logistic(np.stack([np.ones(len(scores)), scores], 1), said, weighing)
    return np.asarray(found * scale[1] + np.eye(1, len(found))[0] * scale[0], np.float64)


def with_both(known: Sequence[Seen], weights: Floats) -> list[Seen]:
    """Questions with what both together say of their sentences."""
    return [replace(one, scores=one.scores | {BOTH: _features(one) @ weights}) for one in known]


def _features(one: Seen) -> Floats:
    return evidence_of_both(one.scores[WORDS], one.scores[READER])


def limits(known: Sequence[Seen]) -> dict[str, float]:
    """For each way, the least score from which on at most one in five questions without an answer gets one, in every
    set: what `ask` goes by."""
    absent = [one for one in known if not len(one.case.spans)]
    names = sorted({one.case.name for one in absent})
    return {
        system: max(
            float(np.quantile([one.sure(system) for one in absent if one.case.name == name], 1 - MOST_FALSE))
            for name in names
        )
        for system in SYSTEMS
    }


def report(known: Sequence[Seen], answered: Mapping[str, float]) -> dict[str, dict[str, dict[str, float] | None]]:
    """By way, the figures in points with their intervals, and what each has more than words, over the same texts.

    `answered` are the scores from which on a question is answered, by way. A figure of nothing is None.
    """
    found: dict[str, dict[str, dict[str, float] | None]] = {}
    for system in SYSTEMS:
        found[system] = {}
        for name, figure in FIGURES.items():
            own, words = (_by_document(known, figure, way, answered[way]) for way in (system, WORDS))
            found[system][name] = _estimate(own)
            if system != WORDS:
                found[system][f"{name}, over {WORDS}"] = _estimate(own, words)
    return found


def _right_sentence(one: Seen, system: str, _: float) -> list[float]:
    """Of questions with an answer, whether the sentence chosen has a part of it."""
    return [float(one.case.right[one.chosen(system)])] if len(one.case.spans) else []


def _quoted(one: Seen, system: str, _: float) -> list[float]:
    """Of questions with an answer, the F1 of the bytes quoted: all of the sentence chosen, or the reader's span."""
    return [_overlap(one, one.chosen(system), system)] if len(one.case.spans) else []


def _quoted_of_right(one: Seen, system: str, _: float) -> list[float]:
    """The F1 of the bytes quoted of each sentence that has a part of an answer."""
    return [_overlap(one, int(sentence), system) for sentence in np.flatnonzero(one.case.right.numpy())]


def _false(one: Seen, system: str, answered: float) -> list[float]:
    """Of questions without an answer, whether one is given."""
    return [] if len(one.case.spans) else [float(one.sure(system) >= answered)]


def _missed(one: Seen, system: str, answered: float) -> list[float]:
    """Of questions with an answer, whether none is given."""
    return [float(one.sure(system) < answered)] if len(one.case.spans) else []


FIGURES: Final[dict[str, Callable[[Seen, str, float], list[float]]]] = {
    "right sentence": _right_sentence,
    "F1": _quoted,
    "F1 in a right sentence": _quoted_of_right,
    "false": _false,
    "missed": _missed,
}


def _overlap(one: Seen, sentence: int, system: str) -> float:
    """The best F1 of a quote's bytes with an answer's."""
    whole = one.case.bytes_of_sentences.numpy()
    begin, end = (whole if system == WORDS else one.spans)[sentence]
    spans = one.case.spans.numpy()
    shared = np.clip(np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], begin), 0, None)
    return float((2 * shared / (end - begin + spans[:, 1] - spans[:, 0])).max())


def _by_document(
    known: Sequence[Seen], figure: Callable[[Seen, str, float], list[float]], system: str, answered: float
) -> Floats:
    """[documents, 2]: the sum of a figure over what it is of, and how many those are."""
    sums: dict[int, list[float]] = {}
    for one in known:
        found = figure(one, system, answered)
        total = sums.setdefault(one.case.document, [0.0, 0.0])
        total[0], total[1] = total[0] + sum(found), total[1] + len(found)
    return np.array(list(sums.values()), np.float64)


def _estimate(own: Floats, other: Floats | None = None) -> dict[str, float] | None:
    """A mean in points, or how much higher it is than another on the same texts; None of nothing."""
    if not own[:, 1].any():
        return None

    def statistic(items: NDArray[np.intp]) -> float:
        sums = [one[items].sum(0) for one in (own, other) if one is not None]
        means = [100 * float(total / count) if count else float("nan") for total, count in sums]
        return means[0] - means[1] if len(means) > 1 else means[0]

    return asdict(estimate_of(statistic, len(own)))
