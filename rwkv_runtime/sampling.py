"""Choosing the next token from logits, and telling where a generated text ends.

Knows nothing of models, states or grammars: logits come in, a token id or text comes out.
Source of the rules: rwkv package 0.8.32, rwkv/utils.py (PIPELINE.sample_logits and generate).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rwkv_runtime.errors import ShapeError

UNCOUNTED = " \t0123456789"
"""A token whose text stands in here adds nothing to its count, so that numbers and indents may repeat."""


@dataclass(frozen=True)
class SamplingOptions:
    """How a token is drawn. The defaults take the most likely one.

    `temperature` 0 is greedy. `top_p` and `top_k` (0: all) say which of the likeliest tokens stay. A token that was
    drawn before loses `presence_penalty`, and `frequency_penalty` times its count, off its logit; with every further
    token all counts are multiplied by `penalty_decay`. Raises ShapeError for impossible values.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_decay: float = 0.996

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and 0 <= self.top_p <= 1 and self.top_k >= 0):
            raise ShapeError(
                f"temperature {self.temperature} and top_k {self.top_k} must be at least 0 and top_p {self.top_p} "
                "between 0 and 1"
            )
        if not (0 <= self.penalty_decay <= 1 and np.isfinite([self.presence_penalty, self.frequency_penalty]).all()):
            raise ShapeError(
                f"penalty_decay {self.penalty_decay} must be between 0 and 1 and the penalties "
                f"{self.presence_penalty} and {self.frequency_penalty} finite"
            )


def named_seed(seed: int, *names: str | int) -> int:
    """A seed of 64 bits made of a seed and names (a document, a task, an index): the same on every machine.

    What is drawn for one name then depends on no other and on no order.
    """
    content = json.dumps([seed, *names], ensure_ascii=True).encode("ascii")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def distribution(logits: Tensor, options: SamplingOptions) -> NDArray[np.float32]:
    """The probabilities [vocabulary] that a token is drawn with, for logits [vocabulary].

    In the order of the `rwkv` package: tokens less likely than the one with which the sorted probabilities reach
    `top_p` are dropped (ties stay), then all but the `top_k` likeliest, and the temperature applies after that. Unlike
    there, all tokens stay where rounding keeps the sum below a `top_p` of 1, and of equally likely tokens the
    temperature 0 takes the first.
    """
    probabilities: NDArray[np.float32] = torch.softmax(logits.float(), dim=-1).cpu().numpy()
    if options.temperature == 0:
        greedy = np.zeros_like(probabilities)
        greedy[int(probabilities.argmax())] = 1
        return greedy
    if options.top_p < 1 or 0 < options.top_k < len(probabilities):
        order = np.argsort(-probabilities, kind="stable")
        ranked = probabilities[order]
        reached = np.flatnonzero(ranked.cumsum() >= options.top_p)
        cutoff = ranked[reached[0]] if len(reached) else 0.0
        probabilities = np.where(probabilities < cutoff, np.float32(0), probabilities)
        if options.top_k:
            probabilities[order[options.top_k :]] = 0
    scaled = (probabilities / probabilities.max()) ** np.float32(1 / options.temperature)
    drawn: NDArray[np.float32] = scaled / scaled.sum()
    return drawn


def sample(logits: Tensor, options: SamplingOptions, draw: random.Random) -> int:
    """Draw a token id from logits [vocabulary]. One number is taken from `draw`, unless the temperature is 0."""
    if options.temperature == 0:
        return int(logits.argmax())
    cumulative = distribution(logits, options).cumsum(dtype=np.float64)
    found = int(np.searchsorted(cumulative, draw.random() * cumulative[-1], side="right"))
    return min(found, int(np.searchsorted(cumulative, cumulative[-1])))


class Penalties:
    """What tokens that were drawn before lose; the counts of one generated text."""

    def __init__(self, options: SamplingOptions) -> None:
        self._options = options
        self._counts: dict[int, float] = {}

    def applied(self, logits: Tensor) -> Tensor:
        """The logits [vocabulary] with the penalties; those passed in are left as they were."""
        if not self._counts or not (self._options.presence_penalty or self._options.frequency_penalty):
            return logits
        counts = torch.tensor(list(self._counts.values()), dtype=torch.float32, device=logits.device)
        lost = self._options.presence_penalty + counts * self._options.frequency_penalty
        return logits.index_add(0, torch.tensor(list(self._counts), device=logits.device), -lost)

    def count(self, token: int, text: str) -> None:
        """Let the earlier tokens decay, then count this one; `text` is what it decodes to alone."""
        for earlier in self._counts:
            self._counts[earlier] *= self._options.penalty_decay
        self._counts[token] = self._counts.get(token, 0.0) + (text not in UNCOUNTED)


class Transcript:
    """The text of generated tokens, cut before the first stop string; a character is there whole or not at all.

    With `stop_after`, stop strings count only behind the first place of that string: a text that thinks first may have
    blank lines there.
    """

    def __init__(self, stop: Sequence[str], stop_after: str = "") -> None:
        self._stop = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._longest = max((len(text) for text in self._stop), default=0)
        self._after = stop_after
        self._from: int | None = None if stop_after else 0
        self.text = ""
        self.stopped = False

    def append(self, token: bytes) -> None:
        """Add a token's bytes. Bytes of a character that is not complete yet are held back."""
        known = len(self.text)
        self.text += self._decoder.decode(token)
        if self._from is None:
            place = self.text.find(self._after, max(0, known - len(self._after) + 1))
            self._from = place + len(self._after) if place >= 0 else None
        if self._from is not None:
            self._cut(max(self._from, known - self._longest + 1))

    def _cut(self, searched: int) -> None:
        ends = [found for text in self._stop if (found := self.text.find(text, searched)) >= 0]
        if ends:
            self.text, self.stopped = self.text[: min(ends)], True
