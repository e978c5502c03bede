"""The tokenizer inside a GGUF file, as the World or BPE tokenizer that it is.

World tokens are written there as escaped text; where they are those of the shipped vocabulary, that is used, without
the control tokens' names that llama.cpp finds in ordinary text. Knows nothing of tensors; needs neither torch nor
numpy.
Source: llama.cpp, convert_hf_to_gguf.py (_set_vocab_rwkv_world, _set_vocab_gpt2).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from rwkv_runtime.errors import TokenizerError
from rwkv_runtime.gguf_header import GgufHeader
from rwkv_runtime.tokenizers import Tokenizer
from rwkv_runtime.tokenizers.world import END_OF_TEXT, WorldTokenizer, shipped_fingerprint, shipped_vocabulary

NORMAL = 1  # token_type; the others are control tokens, unused rows and the like
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
GPT2_PATTERN = ("gpt-2",)
"""Values of tokenizer.ggml.pre under which text is split as by GPT-2."""


@dataclass(frozen=True)
class TokenizerFile:
    """What a file with the same tokenizer would hold: `suffix` .txt (World) or .json, and its content.

    `content` None stands for the vocabulary that is shipped.
    """

    source: str
    suffix: str
    content: bytes | None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the tokenizer that `load` gives."""
        return shipped_fingerprint() if self.content is None else hashlib.sha256(self.content).hexdigest()

    def load(self) -> Tokenizer:
        """Make the tokenizer. Raises TokenizerError if it cannot encode every text."""
        if self.content is None:
            return WorldTokenizer.shipped()
        if self.suffix == ".txt":
            return WorldTokenizer.from_content(self.content, self.source)
        from rwkv_runtime.tokenizers.bpe import BpeTokenizer

        return BpeTokenizer.from_content(self.content, self.source)


def inside(header: GgufHeader) -> TokenizerFile | None:
    """The tokenizer that a GGUF file holds, or None. Raises TokenizerError if it is none that is known here."""
    kind, tokens = header.text("tokenizer.ggml.model"), header.strings("tokenizer.ggml.tokens")
    if kind is None or tokens is None:
        return None
    types = header.numbers("tokenizer.ggml.token_type")
    if types is not None and len(types) != len(tokens):
        raise TokenizerError(f"{header.path}: has {len(tokens)} tokens, but types for {len(types)}; download it again")
    normal = [types is None or types[token_id] == NORMAL for token_id in range(len(tokens))]
    if kind == "rwkv":
        return TokenizerFile(str(header.path), ".txt", _world(tokens, normal))
    if kind == "gpt2":
        return TokenizerFile(str(header.path), ".json", _bpe(header, tokens, normal))
    raise TokenizerError(
        f"{header.path}: its tokenizer is of the kind {kind[:40]!r}; rwkv and gpt2 are read. Put the tokenizer.json "
        "that the model was trained with beside the original weights"
    )


def _world(tokens: list[bytes], normal: list[bool]) -> bytes | None:
    """Write the tokens as a vocabulary file, or return None if they are the shipped ones."""
    vocabulary = {
        token_id: ESCAPE.sub(_unescaped, token)
        for token_id, token in enumerate(tokens)
        if normal[token_id] and token_id != END_OF_TEXT
    }
    if vocabulary == shipped_vocabulary():
        return None
    return b"".join(b"%d %s %d\n" % (i, repr(token).encode("ascii"), len(token)) for i, token in vocabulary.items())


def _unescaped(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    return bytes.fromhex(escape[1:].decode("ascii")) if len(escape) == 3 else ESCAPED.get(escape, escape)


def _bpe(header: GgufHeader, tokens: list[bytes], normal: list[bool]) -> bytes:
    """Write the tokens and merges as a tokenizer.json."""
    pre = header.text("tokenizer.ggml.pre")
    if pre not in GPT2_PATTERN:
        raise TokenizerError(
            f"{header.path}: its tokenizer splits text as {pre!r}, only {GPT2_PATTERN[0]} is known; use the model's "
            "original weights with the tokenizer.json beside them"
        )
    names = [token.decode("utf-8", errors="replace") for token in tokens]
    merges = [merge.decode("utf-8", errors="replace") for merge in header.strings("tokenizer.ggml.merges") or []]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spec = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": name, **flags, "special": True} for i, name in enumerate(names) if not normal[i]
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {name: i for i, name in enumerate(names)}, "merges": merges},
    }
    return json.dumps(spec, ensure_ascii=False, indent=1).encode()
