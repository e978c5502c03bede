"""Names of Hugging Face's RwkvForCausalLM (RWKV-4) and of the rwkv5 and rwkv6 models with code of their own.

Only tensors are used; no code of a model's folder is ever run. The rescaling of deeper layers happens there at run
time, so stored weights are as trained.
Source: transformers, models/rwkv/modeling_rwkv.py and convert_rwkv_checkpoint_to_hf.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rwkv_runtime.weights.deferred import Stored

NAME = "transformers"

BLOCK = re.compile(r"(?:rwkv\.)?blocks\.(\d+)\.(attention|feed_forward|pre_ln|ln1|ln2)\.(.+)")
PARTS = {"attention": "att", "feed_forward": "ffn", "pre_ln": "ln0"}
WHOLE = re.compile(r"(?:rwkv\.)?(embeddings|ln_out)\.(weight|bias)")
MIXES = {"key": "k", "value": "v", "receptance": "r", "gate": "g"}


def recognises(tensors: Mapping[str, Stored]) -> bool:
    """Tell by blocks with an `attention`, which no other naming has."""
    return any((found := BLOCK.fullmatch(name)) and found[2] == "attention" for name in tensors)


def translate(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Rename; shapes are RWKV-LM's."""
    return {_renamed(name): stored for name, stored in tensors.items()}


def _renamed(name: str) -> str:
    if block := BLOCK.fullmatch(name):
        layer, part, rest = block.groups()
        mix = rest.removeprefix("time_mix_")
        rest = f"time_mix_{MIXES[mix]}" if rest != mix and mix in MIXES else rest
        return f"blocks.{layer}.{PARTS.get(part, part)}.{rest}"
    if whole := WHOLE.fullmatch(name):
        return f"{'emb' if whole[1] == 'embeddings' else whole[1]}.{whole[2]}"
    return name
