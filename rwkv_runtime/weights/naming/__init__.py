"""Names and layouts of tensors other than RWKV-LM's, one family a file, whatever container they come in.

A naming has `NAME`, `recognises(tensors)`, which looks at names and shapes alone, and `translate(tensors)`, which
hands on RWKV-LM names and shapes. What it does not know keeps its name, so that the loader refuses it. Knows nothing
of containers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rwkv_runtime.weights.deferred import Stored
from rwkv_runtime.weights.naming import albatross, embedding_rwkv, fla, transformers, web_rwkv

RWKV_LM = "RWKV-LM"


class Naming(Protocol):
    """What a module of this folder offers."""

    NAME: str

    def recognises(self, tensors: Mapping[str, Stored]) -> bool: ...

    def translate(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]: ...


NAMINGS: tuple[Naming, ...] = (transformers, fla, embedding_rwkv, albatross, web_rwkv)


def normalised(tensors: Mapping[str, Stored]) -> tuple[str, dict[str, Stored]]:
    """Return (the naming that was found, the tensors with RWKV-LM names and shapes)."""
    for naming in NAMINGS:
        if naming.recognises(tensors):
            return naming.NAME, naming.translate(tensors)
    return RWKV_LM, dict(tensors)
