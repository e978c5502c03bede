"""What every tokenizer offers: text to token ids and back, all at once or as a stream.

Spans are half-open and count UTF-8 bytes of the text. Knows nothing of models, documents or tensors; the
tokenizers themselves are world.py (RWKV World vocabulary) and bpe.py (tokenizer.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol

from rwkv_runtime.errors import TokenizerError

__all__ = [
    "PADDING_ROWS",
    "UNUSED_ID",
    "Encoding",
    "Piece",
    "TokenStream",
    "Tokenizer",
    "check_fits",
    "decode_utf8",
    "encoding_of",
    "load",
    "padding_bytes",
    "utf8",
]

Piece = tuple[int, int]
"""A token's id and its length in bytes."""

PADDING_ROWS = 2048
"""Embedding rows that a model may have above the last id of its vocabulary: makers round the number of rows
up to a power of two or a multiple of 64 (World: 65536 rows, 65530 ids; Pile: 50304 rows, 50277 ids)."""

UNUSED_ID = "\ufffd".encode()
"""What an id that no text encodes to decodes to: U+FFFD."""


@dataclass(frozen=True)
class Encoding:
    """Token ids and the bytes each covers: the first span starts at 0, every other where the last ended."""

    ids: list[int]
    spans: list[tuple[int, int]]


class TokenStream(Protocol):
    """Encodes a text that arrives in parts. Any split of a text gives the tokens of `encode` of the whole."""

    def push(self, text: str) -> list[Piece]:
        """Take the next part; return the tokens that no later text can change."""

    def finish(self) -> list[Piece]:
        """Return the rest: the text is over. The stream is then as new."""

    def snapshot(self) -> bytes:
        """Return the pending input (bounded in size); `Tokenizer.stream(snapshot)` goes on from here."""


class Tokenizer(Protocol):
    """Text to ids and back, without loss. No text, whatever it contains, encodes to a control token."""

    @property
    def name(self) -> str: ...

    @property
    def vocab_size(self) -> int:
        """The highest id plus one."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what determines the encoding."""

    def encode(self, text: str) -> list[int]:
        """Raise TokenizerError if the text contains lone surrogates."""

    def encode_with_offsets(self, text: str) -> Encoding: ...

    def decode(self, ids: Sequence[int]) -> str:
        """Join the tokens' bytes, then read them as UTF-8; what is not UTF-8 becomes U+FFFD."""

    def token_bytes(self, token: int) -> bytes:
        """Control tokens give no bytes, unused ids U+FFFD; raise TokenizerError for what can be no id."""

    def stream(self, snapshot: bytes = b"") -> TokenStream: ...


def load(path: Path | None) -> Tokenizer:
    """Load a tokenizer.json, a World vocabulary (.txt), the tokenizer inside a GGUF file, or, for None, the World
    vocabulary that is shipped.

    Raises TokenizerError if the file is missing, damaged, or holds no tokenizer or one of another kind.
    """
    if path is not None and path.suffix == ".gguf":
        from rwkv_runtime import gguf_header
        from rwkv_runtime.tokenizers import gguf

        found = gguf.inside(gguf_header.read(path))
        if found is None:
            raise TokenizerError(f"{path}: holds no tokenizer; put a tokenizer.json beside the original weights")
        return found.load()
    if path is not None and path.suffix == ".json":
        from rwkv_runtime.tokenizers.bpe import BpeTokenizer

        return BpeTokenizer.from_file(path)
    from rwkv_runtime.tokenizers.world import WorldTokenizer

    return WorldTokenizer.shipped() if path is None else WorldTokenizer.from_file(path)


def check_fits(tokenizer: Tokenizer, n_vocab_rows: int) -> None:
    """Raise TokenizerError unless the vocabulary can be that of a model with so many embedding rows.

    Every id must have a row; up to PADDING_ROWS rows may be left without an id.
    """
    ids = tokenizer.vocab_size
    if not ids <= n_vocab_rows <= ids + PADDING_ROWS:
        raise TokenizerError(
            f"the {tokenizer.name} vocabulary has {ids} ids, but the model has {n_vocab_rows} embedding "
            "rows; put the tokenizer.json that the model was trained with beside its weights"
        )


def utf8(text: str) -> bytes:
    """Encode as UTF-8; raise TokenizerError that names the place of a lone surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text has a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is "
            "no Unicode text; read the source with errors='replace', not 'surrogateescape' or 'surrogatepass'"
        ) from None


def decode_utf8(pieces: Iterable[bytes]) -> str:
    """Join bytes first and read them as UTF-8 then: a character may be spread over several tokens."""
    return b"".join(pieces).decode("utf-8", errors="replace")


def encoding_of(pieces: Sequence[Piece]) -> Encoding:
    """Turn the pieces of a whole text into ids and spans."""
    edges = accumulate((length for _, length in pieces), initial=0)
    return Encoding([token for token, _ in pieces], list(pairwise(edges)))


def padding_bytes(token: int, vocab_size: int) -> bytes:
    """Return the bytes of an id that is not in the vocabulary, but may be a row of the model: U+FFFD.

    Raises TokenizerError if the id can be no row of a model with this vocabulary.
    """
    if not 0 <= token < vocab_size + PADDING_ROWS:
        raise TokenizerError(
            f"token {token} is outside the vocabulary of {vocab_size} ids; was it made by another model?"
        )
    return UNUSED_ID
