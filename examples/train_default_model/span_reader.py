"""A reader of spans: which sentence answers a question, whether any does, and which tokens of it are the answer.

It sees what a network that stays as it is says of the tokens of the question and of the sentences. Tokens of both are
mapped into one small space; a sentence is scored by how near to each of the question's tokens its nearest token is
there, and in the static table, and the same of its passage (Khattab and Zaharia, ColBERT, 2020), and by a bilinear form
of the two vectors. Nothing is right where the score stays below 0. Knows nothing of files, texts or schedules.

Shapes: a question has m tokens, n sentences have T tokens in all, of width D; static rows and vectors have E numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from examples.train_default_model.span_data import Case

StaticVectors: TypeAlias = Callable[[Tensor], Tensor]
"""Gives the static vectors of unit length [n, E] of tokens [n] that stand one behind the other."""

RANK = 32
FEATURES = 7
HIDDEN = 16
SHARPNESS = 10.0
"""Cosines in the small space are multiplied with this where tokens are scored."""


@dataclass(frozen=True)
class Scores:
    """`sentences` [n] are log-odds against no answer, `starts` and `ends` [T] scores of tokens, `owner` [T] the
    sentence of each."""

    sentences: Tensor
    starts: Tensor
    ends: Tensor
    owner: Tensor


class SpanReader(nn.Module):
    """The trainable parameters; the static table is the embedding head's and stays as it is."""

    def __init__(self, width: int, size: int, rank: int = RANK) -> None:
        super().__init__()
        self.said, self.asked = nn.Linear(width + size, rank, bias=False), nn.Linear(width + size, rank, bias=False)
        self.asked.weight.data.copy_(self.said.weight.data)
        self.weigh = nn.Linear(width, 1)
        self.of_sentence, self.of_question = nn.Linear(size, rank, bias=False), nn.Linear(size, rank, bias=False)
        self.of_question.weight.data.copy_(self.of_sentence.weight.data)
        self.hidden, self.out = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, 1)
        self.bounds = nn.Linear(rank, 2 * rank, bias=False)
        self.places = nn.Linear(2 * width, 2, bias=False)
        self.edges = nn.Parameter(torch.ones(2))
        self.near = nn.Parameter(torch.ones(2))

    def forward(self, case: Case, static: StaticVectors, drop: float = 0.0) -> Scores:
        """Scores of a question's sentences. Of the numbers of a token the share `drop` is left out, in training."""
        owner, at = tokens_of(case.sentences)
        hidden = case.text.hidden[at].float()
        said = _inputs(hidden, static(case.text.tokens)[at])
        asked = _inputs(case.asked.hidden.float(), static(case.asked.tokens))
        width, kept = hidden.shape[1], F.dropout(torch.ones(said.shape[1]), drop)
        weights = torch.softmax(self.weigh(case.asked.hidden.float())[:, 0], 0)
        near = F.normalize(said @ (kept * self.said.weight).T, dim=1)
        questions = F.normalize(asked @ (kept * self.asked.weight).T, dim=1)
        likeness = torch.stack([near @ questions.T, said[:, width:] @ asked[:, width:].T])
        return Scores(
            self._sentence_scores(case, likeness, weights, owner),
            *self._bounds(hidden, near, weights @ questions, likeness[0] @ weights, owner),
            owner,
        )

    def _sentence_scores(self, case: Case, likeness: Tensor, weights: Tensor, owner: Tensor) -> Tensor:
        """[n] of the likeness [2, T, m] of tokens."""
        _, passage = torch.unique(case.passages, return_inverse=True)
        own = _most(likeness, owner, len(case.sentences))
        around = _most(own, passage, int(passage.max()) + 1)[:, passage]
        vectors, vector = case.vectors.float(), case.vector.float()
        bilinear = self.of_sentence(vectors) @ self.of_question(vector)
        length = torch.log1p((case.sentences[:, 1] - case.sentences[:, 0]).float())
        features = torch.stack([*(own @ weights), *(around @ weights), vectors @ vector, bilinear, length / 4], 1)
        scores: Tensor = self.out(torch.tanh(self.hidden(features)))[:, 0]
        return scores

    def _bounds(
        self, hidden: Tensor, near: Tensor, question: Tensor, likeness: Tensor, owner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores [T] of tokens as the first and as the last of an answer."""
        first = F.pad(owner[1:] != owner[:-1], (1, 0), value=True).float()
        edges = torch.stack([first, F.pad(first[1:], (0, 1), value=1.0)])
        behind = torch.cat([hidden[:1] * 0, hidden[:-1]])
        places = self.places(torch.cat([hidden, behind], 1) / hidden.shape[1] ** 0.5).T
        meant = self.bounds(question).view(2, -1) @ near.T
        scores = SHARPNESS * meant + places + self.edges[:, None] * edges + self.near[:, None] * likeness
        return scores[0], scores[1]


@dataclass(frozen=True)
class Marked:
    """What is right of a question: which sentences [n], and the first and the last token that answer [k] of the k of
    them, counted over the tokens of all sentences."""

    sentences: Tensor
    firsts: Tensor
    lasts: Tensor

    @classmethod
    def of(cls, case: Case) -> Marked | None:
        """None if the text has an answer that no sentence has a part of."""
        right = case.right
        if len(case.spans) and not bool(right.any()):
            return None
        owner, at = tokens_of(case.sentences)
        answers = torch.nonzero(_touched(case.places[at], case.spans))[:, 0]
        sentences, firsts = np.unique(owner[answers].numpy(), return_index=True)
        lasts = np.append(firsts, len(answers))[1:] - 1
        assert sentences.tolist() == torch.nonzero(right)[:, 0].tolist()
        return cls(right, answers[torch.from_numpy(firsts)], answers[torch.from_numpy(lasts)])


def loss_of(marked: Marked, scores: Scores) -> tuple[Tensor, Tensor]:
    """How unlikely the right sentences are, or none; and how unlikely the bounds of the answer in these: in nats."""
    known = F.pad(scores.sentences, (1, 0))
    meant = known[1:][marked.sentences] if len(marked.firsts) else known[:1]
    chosen = torch.logsumexp(known, 0) - torch.logsumexp(meant, 0)
    bounds = scores.starts.sum() * 0
    if len(marked.firsts):
        for values, places in ((scores.starts, marked.firsts), (scores.ends, marked.lasts)):
            bounds = bounds - _log_softmax(values, scores.owner, len(marked.sentences))[places].mean() / 2
    return chosen, bounds


def best_span(scores: Scores, sentence: int) -> tuple[int, int]:
    """The likeliest answer in a sentence, as a half-open span of its tokens."""
    inside = scores.owner == sentence
    starts, ends = scores.starts[inside], scores.ends[inside]
    pairs = torch.triu(starts[:, None] + ends[None, :]) + torch.tril(torch.full((len(starts),) * 2, -1e9), -1)
    begin, last = divmod(int(pairs.argmax()), len(starts))
    return begin, last + 1


def tokens_of(spans: Tensor) -> tuple[Tensor, Tensor]:
    """Which span [n, 2] each of their tokens is of, and where the token is."""
    lengths = spans[:, 1] - spans[:, 0]
    owner = torch.repeat_interleave(torch.arange(len(spans)), lengths)
    within = torch.arange(len(owner)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return owner, spans[owner, 0] + within


def _touched(places: Tensor, spans: Tensor) -> Tensor:
    return ((places[:, None, 0] < spans[None, :, 1]) & (places[:, None, 1] > spans[None, :, 0])).any(1)


def _inputs(hidden: Tensor, static: Tensor) -> Tensor:
    """What is known of tokens [n, D + E], in parts of about unit length."""
    return torch.cat([hidden / hidden.shape[1] ** 0.5, static], 1)


def _log_softmax(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """Of values [T], each over those of its owner."""
    largest = values.detach().new_full((count,), -torch.inf).scatter_reduce(0, owner, values.detach(), "amax")
    shifted = values - largest[owner]
    total = shifted.new_zeros(count).index_add(0, owner, shifted.exp())
    return shifted - total.log()[owner]


def _most(likeness: Tensor, owner: Tensor, count: int) -> Tensor:
    """The largest of each owner's rows: [2, T, m] to [2, count, m]."""
    index = owner[None, :, None].expand_as(likeness)
    empty = likeness.new_full((likeness.shape[0], count, likeness.shape[2]), -1.0)
    return empty.scatter_reduce(1, index, likeness, "amax")
