"""The dimensions of a model, as its tensors show them. Knows nothing of torch or of files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """`generation` names the architecture ("4", "5.2", "7a"); widths are in channels, `vocab_size` in embedding rows.

    RWKV-4 has no heads: its recurrence goes by channel, which is `n_embd` heads of size 1.
    """

    generation: str
    n_layer: int
    n_embd: int
    n_head: int
    head_size: int
    n_ffn: int
    vocab_size: int
