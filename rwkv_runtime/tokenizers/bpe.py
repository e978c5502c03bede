"""Byte-level BPE from a Hugging Face tokenizer.json, also for texts of any length in bounded memory.

A text is encoded in slices, and the slices' tokens are joined. A cut is free, that is, it changes no token,
before a blank that follows a character that is not white space: no pattern in PATTERNS puts white space
behind anything else into one piece, and BPE merges within pieces only. So a *unit* is a run of white space
and the run of other characters behind it. A unit of more than UNIT characters is cut at multiples of UNIT
characters from its start, which does change tokens there; `encode` does it as the stream does, so both always
agree. Knows nothing of models.

A tokenizer.json with an NFC normalizer (the 20B one of RWKV-4 Pile and Raven) is read with these guarantees: the tokens
are those of the NFC form of the text, so `decode(encode(text))` is that form; spans count bytes of the text as it was
given, and tile it (normalization.py). No free cut changes the NFC form: nothing composes with ASCII white space behind
it. A unit that must be cut is cut up to 64 characters earlier, so that it does not part what composes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from rwkv_runtime.errors import TokenizerError
from rwkv_runtime.tokenizers import Encoding, Piece, decode_utf8, encoding_of, normalization, padding_bytes, utf8

UNIT = 4096

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SINGLE_DIGITS_PATTERN = r"'(?:[sdmt]|ll|ve|re)(?![\p{L}])| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = frozenset({GPT2_PATTERN, SINGLE_DIGITS_PATTERN})
"""Splitting patterns of which the module's claim on free cuts is known. A pattern may join this set if no
alternative can match white space behind another character, and no look-ahead tells white space from
the end of the text."""

# Matches up to the last free cut. Python's white space is that of the patterns and U+001C..U+001F, which they
# take for ordinary characters: hence the four blanks on one side of the cut, and Python's \S on the other.
LAST_FREE_CUT = re.compile(r".*\S(?=[ \t\n\r])", re.DOTALL)


class BpeTokenizer:
    """Byte-level BPE, with NFC where the file says so. Special tokens' strings in a text are text."""

    name = "bpe"

    def __init__(self, inner: tokenizers.Tokenizer, tokens: Mapping[int, bytes], fingerprint: str) -> None:
        """Take what `from_file` has checked; `tokens` gives each id its bytes, special tokens none."""
        self.vocab_size = max(tokens) + 1
        self.fingerprint = fingerprint
        self._inner = inner
        self._bytes = dict(tokens)
        self._length = {token: len(value) for token, value in tokens.items()}
        self._normalize = None if inner.normalizer is None else inner.normalizer.normalize_str

    @classmethod
    def from_file(cls, path: Path) -> BpeTokenizer:
        """Load a tokenizer.json.

        Raises TokenizerError if it cannot be read, is not byte-level BPE, or would change or lose text.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TokenizerError(f"{path}: cannot be read ({error.strerror}); give a tokenizer.json") from error
        return cls.from_content(content, str(path))

    @classmethod
    def from_content(cls, content: bytes, source: str) -> BpeTokenizer:
        """Read what a tokenizer.json holds; `source` names it in messages. Raises as `from_file` does."""
        try:
            spec = json.loads(content)
            inner = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the library raises plain Exception for a malformed file
            raise TokenizerError(f"{source}: is no tokenizer.json ({_first_line(error)}); download it again") from error
        try:
            _refuse_what_is_not_byte_level_bpe(spec)
            _prepare(inner, spec)
            tokens = _token_bytes(spec)
        except ValueError as error:
            raise TokenizerError(
                f"{source}: {error}; only byte-level BPE that keeps the text as it is can be used"
            ) from None
        return cls(inner, tokens, hashlib.sha256(content).hexdigest())

    def encode(self, text: str) -> list[int]:
        return [token for token, _ in self._whole(text)]

    def encode_with_offsets(self, text: str) -> Encoding:
        return encoding_of(self._whole(text))

    def decode(self, ids: Sequence[int]) -> str:
        return decode_utf8(map(self.token_bytes, ids))

    def token_bytes(self, token: int) -> bytes:
        known = self._bytes.get(token)
        return padding_bytes(token, self.vocab_size) if known is None else known

    def stream(self, snapshot: bytes = b"") -> BpeStream:
        """Start a stream, or go on from a snapshot. Raises TokenizerError for a foreign one."""
        try:
            pending = snapshot.decode("utf-8")
        except UnicodeDecodeError:
            raise TokenizerError(
                "the snapshot of the token stream is no text; it belongs to another tokenizer"
            ) from None
        if len(pending) >= UNIT:
            raise TokenizerError(
                f"a token stream keeps fewer than {UNIT} characters, the snapshot has {len(pending)}; "
                "it belongs to another tokenizer"
            )
        return BpeStream(self, pending)

    def _whole(self, text: str) -> list[Piece]:
        utf8(text)
        slices, rest = self._cut(text)
        return self._pieces([*slices, rest])

    def _pieces(self, slices: Iterable[str]) -> list[Piece]:
        return [piece for part in slices for piece in self._pieces_of(part)]

    def _pieces_of(self, part: str) -> list[Piece]:
        length, encoded = self._length, self._inner.encode(part, add_special_tokens=False)
        ids = encoded.ids
        pieces = list(zip(ids, map(length.__getitem__, ids), strict=True))
        if self._normalize is None or self._normalize(part) == part:
            return pieces
        return normalization.over_original(pieces, [start for start, _ in encoded.offsets], part)

    def _cut(self, text: str) -> tuple[list[str], str]:
        """Cut a text that starts where a slice may start: slices, and the rest that more text may still change.

        Each slice has at most UNIT characters and ends at the last free cut within them, or after UNIT characters
        if there is none; then it began at the start of a unit or a multiple of UNIT behind it.
        """
        slices: list[str] = []
        start = 0
        while True:
            free = LAST_FREE_CUT.match(text, start, start + UNIT)
            if free is None and len(text) - start < UNIT:
                return slices, text[start:]
            stop = self._forced_cut(text, start + UNIT) if free is None else free.end()
            slices.append(text[start:stop])
            start = stop

    def _forced_cut(self, text: str, limit: int) -> int:
        return limit if self._normalize is None else normalization.last_boundary(text, limit, self._normalize)


class BpeStream:
    """Holds back the last unit, or what is left of it: fewer than UNIT characters."""

    def __init__(self, tokenizer: BpeTokenizer, pending: str) -> None:
        self._tokenizer = tokenizer
        self._pending = pending

    def push(self, text: str) -> list[Piece]:
        utf8(text)
        slices, self._pending = self._tokenizer._cut(self._pending + text)
        return self._tokenizer._pieces(slices)

    def finish(self) -> list[Piece]:
        rest, self._pending = self._pending, ""
        return self._tokenizer._pieces([rest])

    def snapshot(self) -> bytes:
        return self._pending.encode("utf-8")


def _refuse_what_is_not_byte_level_bpe(spec: Any) -> None:
    """Raise ValueError that names the first setting under which bytes and tokens would not correspond."""
    model = spec["model"]
    if model.get("type") != "BPE":
        raise ValueError(f"the model is {model.get('type')}, not BPE")
    normalizer = spec.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise ValueError(f"it has a normalizer ({normalizer.get('type')}), which changes the text")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise ValueError(f"its BPE model sets {option}")
    for added in spec.get("added_tokens") or ():
        if not added["special"] and not _is_run_of_blanks(added):
            raise ValueError(f"the added token {added['content']!r} is not special, so it is matched across pieces")
    _refuse_other_splitting(spec.get("pre_tokenizer"))


def _is_run_of_blanks(added: Any) -> bool:
    """Whether an added token is blanks alone: the 20B vocabulary has 2 to 24. It never reaches over a free cut."""
    widened = added.get("single_word") or added.get("lstrip") or added.get("rstrip")
    return not widened and set(added["content"]) == {" "}


def _refuse_other_splitting(pre_tokenizer: Any) -> None:
    """Accept ByteLevel with its own pattern, or a Split by a known pattern with ByteLevel behind it."""
    parts = [pre_tokenizer or {}]
    if parts[0].get("type") == "Sequence":
        parts = parts[0]["pretokenizers"]
    byte_level = parts[-1] if parts else {}
    if byte_level.get("type") != "ByteLevel" or byte_level.get("add_prefix_space", True):
        raise ValueError("its pre_tokenizer does not end with ByteLevel without add_prefix_space")
    if len(parts) == 1 and byte_level.get("use_regex", True):
        return
    split = parts[0]
    pattern = split.get("pattern", {}).get("Regex")
    if len(parts) != 2 or split.get("behavior") != "Isolated" or split.get("invert") or pattern not in PATTERNS:
        raise ValueError(f"its way of splitting text is not known to allow reading in parts (pattern {pattern!r})")


def _prepare(inner: tokenizers.Tokenizer, spec: Any) -> None:
    """Switch off all that adds or drops tokens; raise ValueError if text can still give a special token."""
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = True
    for added in spec.get("added_tokens") or ():
        if added["special"] and added["id"] in inner.encode(added["content"], add_special_tokens=False).ids:
            raise ValueError(f"the text {added['content']!r} encodes to the special token of that name")


def _token_bytes(spec: Any) -> dict[int, bytes]:
    """Return each id's bytes: a token string has one character a byte; special tokens stand for no text."""
    alphabet = byte_alphabet()
    added_tokens = {
        added["id"]: b"" if added["special"] else added["content"].encode("utf-8")
        for added in spec.get("added_tokens") or ()
    }
    vocabulary: dict[str, int] = spec["model"]["vocab"]
    missing = sorted(byte for character, byte in alphabet.items() if character not in vocabulary)
    if missing:
        raise ValueError(f"the vocabulary has no token for the single byte 0x{missing[0]:02x}")
    tokens = dict(added_tokens)
    for token, token_id in vocabulary.items():
        if token_id not in added_tokens:
            try:
                tokens[token_id] = bytes(alphabet[character] for character in token)
            except KeyError:
                raise ValueError(f"the token {token!r} is not made of byte characters") from None
    return tokens


def byte_alphabet() -> dict[str, int]:
    """Return GPT-2's characters for bytes: printable Latin-1 for itself, U+0100 and up for the rest."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
