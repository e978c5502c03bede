"""What a generated text may be: JSON of a schema, a regular expression, a Lark grammar, words of a given text.

A grammar limits each next token, and it keeps a budget: as soon as the tokens left are just enough to complete the
text, the shortest known ending is written, so that the text is always whole. The engine is the `llguidance` package
(extra `grammar`). Knows nothing of states or of how a token is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from rwkv_runtime import closing
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.tokenizers import UNUSED_ID, Tokenizer

if TYPE_CHECKING:
    import llguidance

    from rwkv_runtime.model import Model

END_OF_TEXT = 0
END_NAME = b"<|end of text|>"
FUEL = 5_000_000
"""Work that the engine may put into the lexer of one grammar: enough for the words of 200,000 characters."""


@dataclass(frozen=True)
class Grammar:
    """A grammar as `llguidance` writes it; made by one of the class methods, for any model."""

    source: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """JSON that is valid against a schema, without white space between its parts."""
        return cls(_engine().LLMatcher.grammar_from_json_schema(dict(schema), {"whitespace_flexible": False}))

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """Text that matches a regular expression (Rust syntax) from its first to its last character."""
        return cls(_engine().LLMatcher.grammar_from_regex(pattern))

    @classmethod
    def lark(cls, grammar: str) -> Grammar:
        """Text that a Lark grammar derives from `start`, in llguidance's dialect."""
        return cls(_engine().LLMatcher.grammar_from_lark(grammar))

    @classmethod
    def verbatim(cls, text: str, unit: Literal["words", "chars"] = "words") -> Grammar:
        """A stretch of `text` as it stands there, from one word (or character) to another; it may be empty."""
        return cls.lark(f"start: QUOTE\nQUOTE: %regex {json.dumps({f'substring_{unit}': text}, ensure_ascii=False)}")

    def minimum_tokens(self, model: Model) -> int:
        """The tokens of the shortest text that was found, the smallest budget that is accepted."""
        return len(self._shortest(model)[1])

    def guide(self, model: Model, budget: int) -> Guide:
        """Start a text of at most `budget` tokens. Raises RwkvError that says how many it needs if they are too few."""
        matcher, shortest = self._shortest(model)
        if len(shortest) > budget:
            raise RwkvError(
                f"the grammar needs at least {len(shortest)} tokens with the vocabulary of this model, but max_tokens "
                f"is {budget}; raise max_tokens"
            )
        return Guide(matcher, model.grammar_vocabulary, shortest)

    def _shortest(self, model: Model) -> tuple[llguidance.LLMatcher, list[int]]:
        """The grammar at its start, and the shortest text that was found. Raises RwkvError if there is none."""
        engine, vocabulary = _engine(), model.grammar_vocabulary
        limits = engine.LLParserLimits(initial_lexer_fuel=FUEL)
        matcher = engine.LLMatcher(vocabulary.inner, self.source, log_level=0, limits=limits)
        if matcher.is_error():
            raise RwkvError(f"the grammar cannot be used ({_first_line(matcher.get_error())}); mend it")
        shortest = vocabulary.shortest(matcher)
        if shortest is None:
            raise RwkvError("no text of the grammar was found, however short; loosen it")
        return matcher, shortest


class Vocabulary:
    """A tokenizer as the engine wants it, for a model with `rows` embedding rows."""

    def __init__(self, tokenizer: Tokenizer, rows: int) -> None:
        self._tokenizer = tokenizer
        self.tokens = [_bytes_of(tokenizer, token) if token < tokenizer.vocab_size else b"" for token in range(rows)]
        self.tokens[END_OF_TEXT] = END_NAME
        self.byte_ids = {token[0]: i for i, token in enumerate(self.tokens) if len(token) == 1}

    @cached_property
    def inner(self) -> llguidance.LLTokenizer:
        """The engine's own form of it (about 0.2 s for 65,536 rows)."""
        wrapper = _Wrapper(self)
        inner: llguidance.LLTokenizer = _engine().LLTokenizer(
            wrapper, n_vocab=len(wrapper.tokens), eos_token=END_OF_TEXT
        )
        return inner

    def encode(self, data: bytes) -> list[int]:
        """Tokens with these bytes in all; what is not UTF-8 at the front byte by byte."""
        front = next((place for place, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))
        try:
            rest = self._tokenizer.encode(data[front:].decode("utf-8"))
        except UnicodeDecodeError:
            return [self.byte_ids[byte] for byte in data]
        return [*(self.byte_ids[byte] for byte in data[:front]), *rest]

    def shortest(self, matcher: llguidance.LLMatcher) -> list[int] | None:
        """Tokens with which the text is complete, as few as are found by a search; None if none are found."""
        ending = closing.searched(matcher, self.byte_ids)
        return self.quick(matcher) if ending is None else self._checked(ending, matcher)

    def quick(self, matcher: llguidance.LLMatcher) -> list[int] | None:
        """Tokens with which the text is complete, found without a search; None if none are found."""
        ending = closing.walked(matcher, self.byte_ids)
        return None if ending is None else self._checked(ending, matcher)

    def _checked(self, ending: bytes, matcher: llguidance.LLMatcher) -> list[int]:
        tokens = self.encode(ending)
        return tokens if _completes(matcher, tokens) else [self.byte_ids[byte] for byte in ending]


class Guide:
    """One text under a grammar: what may come next, and the shortest known ending of what is there."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: Vocabulary, ending: list[int]) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._ending = ending
        self.closed = False
        """Whether the budget made the text end where it would have gone on."""

    @property
    def complete(self) -> bool:
        """Whether nothing may come behind the text."""
        return bool(self._matcher.is_stopped())

    def restricted(self, logits: Tensor) -> Tensor:
        """The logits [vocabulary] with -inf for all that may not come next; those passed in are left as they were."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=len(logits), bitorder="little").view(np.bool_)
        return logits.masked_fill(torch.from_numpy(~allowed).to(logits.device), float("-inf"))

    def admitted(self, token: int, left: int) -> int:
        """Take a token that is allowed, or another if the text could then not be completed in the `left` tokens.

        `left` counts the token itself. Returns the token that was taken; token 0 ends the text.
        """
        if token == END_OF_TEXT:
            return token
        after = self._matcher.deep_copy()
        after.consume_token(token)
        ending = self._ending_after(token, after, left - 1)
        if ending is not None:
            self._matcher, self._ending = after, ending
            return token
        self.closed = True
        if not self._ending:
            return END_OF_TEXT
        token, self._ending = self._ending[0], self._ending[1:]
        self._matcher.consume_token(token)
        return token

    def _ending_after(self, token: int, after: llguidance.LLMatcher, left: int) -> list[int] | None:
        """An ending of at most `left` tokens, or None. What was known before is tried first: it mostly still holds."""
        if after.is_accepting():
            return []
        known = self._ending[1:] if self._ending[:1] == [token] else self._ending
        if len(known) <= left and _completes(after, known):
            return known
        found = self._vocabulary.quick(after)
        if (found is None or len(found) > left) and len(self._ending) <= left:
            found = self._vocabulary.shortest(after)  # worth a search: there are tokens to spare
        return found if found is not None and len(found) <= left else None


class _Wrapper:
    """What LLTokenizer takes for a tokenizer."""

    is_tokenizer_wrapper = True
    eos_token_id = END_OF_TEXT
    bos_token_id = None
    special_token_ids = (END_OF_TEXT,)

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = vocabulary.tokens
        self._encode = vocabulary.encode

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text if isinstance(text, bytes) else text.encode("utf-8"))


def _completes(matcher: llguidance.LLMatcher, tokens: list[int]) -> bool:
    fork = matcher.deep_copy()
    return fork.try_consume_tokens(tokens) == len(tokens) and bool(fork.is_accepting())


def _bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """A token's bytes; none for an unused id, which would decode to U+FFFD."""
    data = tokenizer.token_bytes(token)
    return b"" if data == UNUSED_ID and tokenizer.encode(UNUSED_ID.decode()) != [token] else data


def _engine() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError:
        raise RwkvError(
            "constrained generation needs the llguidance package; run `pip install unspool[grammar]`"
        ) from None
    return llguidance


def _first_line(message: str) -> str:
    return next(iter(message.strip().splitlines()), "no reason given")
