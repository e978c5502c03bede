"""The dimensions of a model, as its tensors show them. Knows nothing of torch or of files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """`generation` names the architecture ("7"); widths are in channels, `vocab_size` in rows of the embedding."""

    generation: str
    n_layer: int
    n_embd: int
    n_head: int
    head_size: int
    n_ffn: int
    vocab_size: int
