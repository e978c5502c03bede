"""Checkpoints of EmbeddingRWKV: an RWKV-7 whose names start with `rwkv.`, beside heads for sentence vectors.

Its heads become `eos_heads.{cls,sts,retr}.*`; they want another way of reading (several end-of-text tokens in each
text). Parts for pictures have nothing to read here.
Source: howard-hou/EmbeddingRWKV.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rwkv_runtime.weights.deferred import Stored

NAME = "EmbeddingRWKV"
BACKBONE = "rwkv."
HEAD = re.compile(r"head\.(cls|sts|retr)_head\.(.+)")
PICTURES = ("vit.", "proj.")


def recognises(tensors: Mapping[str, Stored]) -> bool:
    """Tell by a backbone and a head of the published kinds."""
    return any(name.startswith(BACKBONE) for name in tensors) and any(HEAD.fullmatch(name) for name in tensors)


def translate(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Drop what reads pictures, strip the prefix, and name the heads apart."""
    return {
        HEAD.sub(r"eos_heads.\1.\2", name.removeprefix(BACKBONE)): stored
        for name, stored in tensors.items()
        if not name.startswith(PICTURES)
    }
