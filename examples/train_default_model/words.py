"""Words that the tokenizer cuts: which of them get a vector of their own beside those of their tokens.

Content words are rare one by one, so a small vocabulary cuts many of them, and the parts of a word say little of it.
Knows nothing of how the vectors are fitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from examples.train_default_model.shards import Tokens
from examples.train_default_model.static_table import Bags
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.words import NONE, REACH, Words

WORD_TOKENS = "embed_head.words.tokens"
WORD_VECTORS = "embed_head.words.weight"


def frequent_words(texts: Iterable[Tokens], tokenizer: BpeTokenizer, count: int) -> NDArray[np.int32]:
    """The most frequent words of two tokens or more, up to `count`: [n, K], unused places at the end are -1.

    Raises RuntimeError if there is none.
    """
    kinds = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    begins = frozenset(token for token, text in enumerate(kinds) if text[:1] == " " and text[1:].isalpha())
    goes_on = frozenset(token for token, text in enumerate(kinds) if text.isalpha())
    met = Counter(chain.from_iterable(_cut_words(text.tolist(), begins, goes_on) for text in texts))
    words = [word for word, _ in met.most_common() if len(word) <= REACH][:count]
    if not words:
        raise RuntimeError("no word of the texts has two tokens or more; give a text in words, or a smaller vocabulary")
    table = np.full((len(words), max(map(len, words))), NONE, np.int32)
    for row, word in enumerate(words):
        table[row, : len(word)] = word
    return table


def with_words(bags: Bags, words: Words, vocabulary: int) -> Bags:
    """The texts with the rows of their words, which stand behind those of the tokens in one table."""
    rows = [_with_rows(text, words.rows((), text.tolist()), vocabulary) for text in bags.rows]
    return Bags(rows, bags.lengths, bags.targets, bags.wanted)


def _with_rows(text: NDArray[np.integer], ended: NDArray[np.int64], vocabulary: int) -> NDArray[np.int64]:
    return np.concatenate([text.astype(np.int64), ended[ended != NONE] + vocabulary])


def _cut_words(tokens: Sequence[int], begins: frozenset[int], goes_on: frozenset[int]) -> Iterator[tuple[int, ...]]:
    """Runs of two tokens or more, of which the first begins with a blank and all else are letters."""
    open_word: tuple[int, ...] = ()
    for token in tokens:
        if open_word and token in goes_on:
            open_word = (*open_word, token)
            continue
        if len(open_word) > 1:
            yield open_word
        open_word = (token,) if token in begins else ()
    if len(open_word) > 1:
        yield open_word
