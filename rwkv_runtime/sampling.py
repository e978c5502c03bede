"""Choosing the next token from logits, and telling where a generated text ends.

Knows nothing of models or states: logits come in, a token id or text comes out.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import torch
from torch import Tensor

from rwkv_runtime.errors import ShapeError


def sample(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """Draw a token id from logits [vocabulary]; temperature 0 takes the most likely one.

    As in the `rwkv` package (PIPELINE.sample_logits): tokens less likely than the one with which the sorted
    probabilities reach `top_p` are dropped, ties stay, and the temperature applies after that.
    Raises ShapeError for a temperature below 0 or a top_p outside 0..1.
    """
    if temperature < 0 or not 0 <= top_p <= 1:
        raise ShapeError(f"temperature {temperature} must be at least 0 and top_p {top_p} between 0 and 1")
    if temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits.float(), dim=-1)
    ranked = probabilities.sort(descending=True).values
    reached = int(torch.searchsorted(ranked.cumsum(-1), torch.tensor(top_p)))
    cutoff = ranked[min(reached, len(ranked) - 1)]
    kept = torch.where(probabilities < cutoff, 0.0, probabilities / ranked[0])
    return int(torch.multinomial(kept ** (1.0 / temperature), 1, generator=generator))


class Transcript:
    """The text of generated tokens, cut before the first stop string; a character is there whole or not at all."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._longest = max((len(text) for text in self._stop), default=0)
        self.text = ""
        self.stopped = False

    def append(self, token: bytes) -> None:
        """Add a token's bytes. Bytes of a character that is not complete yet are held back."""
        searched = max(0, len(self.text) - self._longest + 1)
        self.text += self._decoder.decode(token)
        ends = [found for text in self._stop if (found := self.text.find(text, searched)) >= 0]
        if ends:
            self.text, self.stopped = self.text[: min(ends)], True
