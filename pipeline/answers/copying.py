"""The words of a quoted sentence that answer, chosen by a model that can write: a stretch of it, as it stands.

The model reads question, passage and question again on a fork of the state and writes under a grammar whose texts are
the stretches of the sentence, so it can choose badly but cannot make anything up. Choosing none of it is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pipeline.answers.ask import Passage
from rwkv_runtime.decoding import Request, decode
from rwkv_runtime.grammar import Grammar
from rwkv_runtime.model import Model
from rwkv_runtime.state import State

MOST_TOKENS: Final = 64
_PROMPT: Final = (
    "Question: {question}\n\nText: {passage}\n\nQuestion: {question}\n\nThe words of the text that answer: "
)


@dataclass(frozen=True)
class Copied:
    """Words [char_start, char_end) of the document. `likelihood` is their mean probability a token under the model."""

    text: str
    char_start: int
    char_end: int
    likelihood: float


def copied(model: Model, state: State, passage: Passage, question: str) -> Copied | None:
    """What the model copies out of a passage's quote; None if that is nothing. `state` stays as it is.

    Raises RwkvError where the grammar package is missing.
    """
    quote = passage.quote
    prompt = _PROMPT.format(question=question, passage=passage.text)
    request = Request(prompt, state, MOST_TOKENS, grammar=Grammar.verbatim(quote.text))
    [written] = decode(model, [request], lanes=1)
    words = written.text.strip()
    if not words:
        return None
    start = quote.char_start + quote.text.index(words)
    likelihood = math.exp(sum(written.logprobs) / len(written.logprobs))
    return Copied(words, start, start + len(words), likelihood)
