"""The RWKV World tokenizer: at each byte of the UTF-8 text, the longest vocabulary entry that starts there.

No normalisation, no pre-tokenisation, no control tokens in text; id 0 means end of text and is never
produced. The vocabulary file has one token a line, `ID LITERAL BYTES`, LITERAL being a Python str or bytes
literal. The shipped file rwkv_vocab_v20230424.txt.xz is that of the `rwkv` package (Apache-2.0) with LF line
ends. The rule is written here in Python, and needs the standard library only; longer texts go through the Rust
encoder of rust_world.py where there is one, which gives the same tokens. Knows nothing of models.
"""

from __future__ import annotations

import ast
import hashlib
import lzma
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from rwkv_runtime.errors import TokenizerError
from rwkv_runtime.tokenizers import Encoding, Piece, decode_utf8, encoding_of, padding_bytes, rust_world, utf8
from rwkv_runtime.tokenizers.rust_world import Encode

SHIPPED = Path(__file__).with_name("rwkv_vocab_v20230424.txt.xz")
END_OF_TEXT = 0
PREFIX = 4  # bytes that select the token lengths to try: measured 2.2 times as fast as 2 on English text
BULK = 192  # bytes from which the Rust encoder is faster in spite of its calls
LONGEST_LINE = 4096  # characters; the longest of the World file has about 300


class WorldTokenizer:
    """Greedy longest match over bytes; made from a vocabulary {id: bytes} that has every single byte.

    `find_bulk` is asked, when the first longer text comes, for a faster encoder of the vocabulary of this fingerprint.
    """

    name = "world"

    def __init__(
        self,
        vocabulary: Mapping[int, bytes],
        fingerprint: str,
        find_bulk: Callable[[str], Encode | None] = rust_world.encoder,
    ) -> None:
        self.vocab_size = max(vocabulary) + 1
        self.fingerprint = fingerprint
        self._bytes = dict(vocabulary)
        self._ids = {token: token_id for token_id, token in vocabulary.items()}
        self._lengths = _lengths_by_prefix(self._ids)
        self._longest = max(map(len, self._ids))
        self._piece = {token_id: (token_id, len(token)) for token_id, token in vocabulary.items()}
        self._find_bulk = find_bulk

    @classmethod
    def shipped(cls) -> WorldTokenizer:
        """Load the shipped vocabulary (about 0.2 s)."""
        return cls.from_content(_shipped_content(), SHIPPED.name)

    @classmethod
    def from_file(cls, path: Path) -> WorldTokenizer:
        """Load a vocabulary file. Raises TokenizerError with the line number of what is wrong."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TokenizerError(f"{path}: cannot be read ({error.strerror}); give a vocabulary file") from error
        return cls.from_content(_with_lf(content), str(path))

    @classmethod
    def from_content(cls, content: bytes, source: str) -> WorldTokenizer:
        """Read what a vocabulary file with LF line ends holds; `source` names it in messages.

        Raises TokenizerError with the line number of what is wrong.
        """
        return cls(_parse(content, source), hashlib.sha256(content).hexdigest())

    def encode(self, text: str) -> list[int]:
        data = utf8(text)
        return self._match(data, len(data))[0]

    def encode_with_offsets(self, text: str) -> Encoding:
        return encoding_of(self._pieces(self.encode(text)))

    def decode(self, ids: Sequence[int]) -> str:
        return decode_utf8(map(self.token_bytes, ids))

    def token_bytes(self, token: int) -> bytes:
        if token == END_OF_TEXT:
            return b""
        known = self._bytes.get(token)
        return padding_bytes(token, self.vocab_size) if known is None else known

    def stream(self, snapshot: bytes = b"") -> WorldStream:
        """Start a stream, or go on from a snapshot. Raises TokenizerError for a foreign one."""
        if len(snapshot) >= self._longest:
            raise TokenizerError(
                f"a token stream of this vocabulary keeps fewer than {self._longest} bytes, the snapshot has "
                f"{len(snapshot)}; it belongs to another tokenizer"
            )
        return WorldStream(self, snapshot)

    @cached_property
    def _bulk(self) -> Encode | None:
        return self._find_bulk(self.fingerprint)

    def _pieces(self, ids: Sequence[int]) -> list[Piece]:
        return list(map(self._piece.__getitem__, ids))

    def _match(self, data: bytes, end: int) -> tuple[list[int], int]:
        """Return the tokens that start before byte `end`, and where the last of them stops."""
        if len(data) < BULK or (encode := self._bulk) is None:
            return self._match_by_rule(data, 0, end)
        ids: list[int] = []
        start = 0
        # The rule only looks ahead, so from any token's start on, the rest is encoded like a text of its own. What is
        # pending may start inside a character, which a text cannot.
        while start < len(data) and data[start] & 0xC0 == 0x80:
            one, start = self._match_by_rule(data, start, start + 1)
            ids += one
        ids += encode(data[start:].decode("utf-8"))
        stop = len(data)
        while ids and stop - self._piece[ids[-1]][1] >= end:
            stop -= self._piece[ids.pop()][1]
        return ids, stop

    def _match_by_rule(self, data: bytes, position: int, end: int) -> tuple[list[int], int]:
        """Return the tokens that start from byte `position` to before `end`, and where the last of them stops."""
        ids: list[int] = []
        id_of, lengths_of, short = self._ids.get, self._lengths.get, tuple(range(PREFIX - 1, 0, -1))
        while position < end:
            # Never without a match: the vocabulary has every byte, and every tuple ends with 1.
            for length in lengths_of(data[position : position + PREFIX], short):
                token = id_of(data[position : position + length])
                if token is not None:
                    ids.append(token)
                    position += length
                    break
        return ids, min(position, len(data))


class WorldStream:
    """Holds back what a longest token could still reach: fewer bytes than the longest token has."""

    def __init__(self, tokenizer: WorldTokenizer, pending: bytes) -> None:
        self._tokenizer = tokenizer
        self._pending = pending

    def push(self, text: str) -> list[Piece]:
        data = self._pending + utf8(text)
        return self._advance(data, len(data) - self._tokenizer._longest + 1)

    def finish(self) -> list[Piece]:
        return self._advance(self._pending, len(self._pending))

    def snapshot(self) -> bytes:
        return self._pending

    def _advance(self, data: bytes, end: int) -> list[Piece]:
        ids, stop = self._tokenizer._match(data, end)
        self._pending = data[stop:]
        return self._tokenizer._pieces(ids)


def shipped_fingerprint() -> str:
    """Return the fingerprint of the shipped vocabulary without building the tokenizer."""
    return hashlib.sha256(_shipped_content()).hexdigest()


def shipped_vocabulary() -> dict[int, bytes]:
    """Return the bytes of each id of the shipped vocabulary."""
    return _parse(_shipped_content(), SHIPPED.name)


def _shipped_content() -> bytes:
    try:
        return lzma.decompress(SHIPPED.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise TokenizerError(f"{SHIPPED}: cannot be read ({error}); reinstall the package") from error


def _with_lf(content: bytes) -> bytes:
    """Make the same vocabulary the same bytes, and so the same fingerprint, whatever its line ends."""
    return content.replace(b"\r\n", b"\n")


def _lengths_by_prefix(ids: Mapping[bytes, int]) -> dict[bytes, tuple[int, ...]]:
    """For each first PREFIX bytes of a token: the lengths of the tokens that can match, longest first."""
    lengths: dict[bytes, set[int]] = {}
    for token in ids:
        if len(token) >= PREFIX:
            lengths.setdefault(token[:PREFIX], set()).add(len(token))
    for prefix, known in lengths.items():
        known.update(length for length in range(1, PREFIX) if prefix[:length] in ids)
    return {prefix: tuple(sorted(known, reverse=True)) for prefix, known in lengths.items()}


def _parse(content: bytes, source: str) -> dict[int, bytes]:
    """Read a vocabulary file with LF line ends into {id: bytes}."""
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TokenizerError(f"{source}:{line}: is not UTF-8 text; give a vocabulary file") from None
    vocabulary: dict[int, bytes] = {}
    seen: dict[bytes, int] = {}
    for number, entry in enumerate(lines, start=1):
        try:
            token_id, token = _parse_line(entry)
            if token_id in vocabulary:
                raise ValueError(f"id {token_id} is given twice")
            if seen.setdefault(token, token_id) != token_id:
                raise ValueError(f"the token of id {token_id} is already that of id {seen[token]}")
        except ValueError as error:
            raise TokenizerError(f"{source}:{number}: {error}; get an undamaged vocabulary file") from None
        vocabulary[token_id] = token
    for byte in range(256):
        if bytes([byte]) not in seen:
            raise TokenizerError(
                f"{source}:{len(lines)}: ends without a token for the single byte 0x{byte:02x}, so not every "
                "text could be encoded; get an undamaged vocabulary file"
            )
    return vocabulary


def _parse_line(line: str) -> tuple[int, bytes]:
    """Read `ID LITERAL BYTES`; raise ValueError with what is wrong."""
    head, _, rest = line.partition(" ")
    literal, _, length = rest.rpartition(" ")
    if len(line) > LONGEST_LINE or not (head.isdecimal() and length.isdecimal()):
        raise ValueError(f"expected `ID 'text' BYTES`, found {line[:60]!r}")
    token_id, token = int(head), _parse_literal(literal)
    if token_id == END_OF_TEXT:
        raise ValueError("id 0 is the end of text and can have no token")
    if not token or len(token) != int(length):
        raise ValueError(f"the token has {len(token)} bytes, the line says {length}")
    return token_id, token


def _parse_literal(literal: str) -> bytes:
    """Read a Python str or bytes literal without running anything; raise ValueError if it is none."""
    quote, inner = literal[:1], literal[1:-1]
    # Nearly all lines are plain: reading those without the Python parser loads the file ten times as fast.
    plain = quote not in inner and "\\" not in inner
    if plain and len(literal) > 1 and quote in ("'", '"') and literal[-1] == quote:
        return inner.encode("utf-8")
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, bytes):
        return value
    raise ValueError(f"expected a quoted text or bytes, found {literal[:60]!r}")
