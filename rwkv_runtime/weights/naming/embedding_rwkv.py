"""Checkpoints of EmbeddingRWKV: an RWKV-7 whose names start with `rwkv.`, beside heads for sentence vectors.

Only the backbone is handed on. Its heads want another way of reading (several end-of-text tokens in each text), and
parts for pictures have nothing to read here.
Source: howard-hou/EmbeddingRWKV.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rwkv_runtime.weights.deferred import Stored

NAME = "EmbeddingRWKV"
BACKBONE = "rwkv."
HEAD = re.compile(r"head\.(?:cls|sts|retr)_head\..+")
PICTURES = ("vit.", "proj.")


def recognises(tensors: Mapping[str, Stored]) -> bool:
    """Tell by a backbone and a head of the published kinds."""
    return any(name.startswith(BACKBONE) for name in tensors) and any(HEAD.fullmatch(name) for name in tensors)


def translate(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Drop what is known not to be the backbone, and strip the prefix."""
    return {
        name.removeprefix(BACKBONE): stored
        for name, stored in tensors.items()
        if not HEAD.fullmatch(name) and not name.startswith(PICTURES)
    }
