"""The Rust World tokenizer (pyrwkv-tokenizer), where it is installed and carries the very vocabulary that is asked for.

It takes whole texts and gives ids alone; spans and streams are made from them in world.py, which is the specification
and does the same without it, about eight times slower. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

Encode = Callable[[str], list[int]]


def encoder(fingerprint: str) -> Encode | None:
    """Return an encoder of the vocabulary with this SHA-256 (0.2 s), or None if the package or the vocabulary is
    another one."""
    package = find_spec("pyrwkv_tokenizer")
    if package is None or package.origin is None:
        return None
    vocabulary = Path(package.origin).with_name("rwkv_vocab_v20230424.txt")
    if not vocabulary.is_file() or hashlib.sha256(vocabulary.read_bytes()).hexdigest() != fingerprint:
        return None
    import pyrwkv_tokenizer

    encode: Encode = pyrwkv_tokenizer.WorldTokenizer(str(vocabulary)).encode
    return encode
