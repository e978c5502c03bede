"""Names and shapes of flash-linear-attention's RWKV-7 (RWKV7ForCausalLM on Hugging Face).

Low-rank matrices are stored as linear layers, so transposed. Older files have the six mixes in one tensor. Its
RWKV-6 is recognised and refused: its projections are other tensors.
Source: flash-linear-attention, fla/models/rwkv7/modeling_rwkv7.py and utils/convert_from_rwkv7.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.weights.deferred import Stored, changed

NAME = "flash-linear-attention"

LAYER = re.compile(r"(?:model\.|rwkv7\.)?layers\.(\d+)\.(.+)")
WHOLE = re.compile(r"(?:model\.|rwkv7\.)?(embeddings|norm|lm_head)\.(weight|bias)")
MODULES = {"embeddings": "emb", "norm": "ln_out", "lm_head": "head"}
LOW_RANK = re.compile(r"attn\.([wavg])_lora\.lora\.(0\.weight|2\.weight|2\.bias)")
SIDES = {"0.weight": "1", "2.weight": "2", "2.bias": "0"}
NORM = re.compile(r"(pre_norm|attn_norm|ffn_norm|attn\.g_norm)\.(weight|bias)")
NORMS = {"pre_norm": "ln0", "attn_norm": "ln1", "ffn_norm": "ln2", "attn.g_norm": "att.ln_x"}
PROJECTION = re.compile(r"attn\.([rkvo])_proj\.weight")
PROJECTIONS = {"r": "receptance", "k": "key", "v": "value", "o": "output"}


def recognises(tensors: Mapping[str, Stored]) -> bool:
    """Tell by layers with an `attn`, as blocks are called there."""
    return any((found := LAYER.fullmatch(name)) and found[2].startswith("attn.") for name in tensors)


def translate(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Rename and transpose. Raises UnsupportedModelError for its RWKV-6."""
    if any(".attn.x_proj." in f".{name}" for name in tensors):
        raise UnsupportedModelError(
            "an RWKV-6 model of flash-linear-attention, whose tensors differ from RWKV-LM's; use the original .pth"
        )
    return {new: stored for item in tensors.items() for new, stored in _translated(*item)}


def _translated(name: str, stored: Stored) -> Iterator[tuple[str, Stored]]:
    if whole := WHOLE.fullmatch(name):
        yield f"{MODULES[whole[1]]}.{whole[2]}", stored
        return
    layer = LAYER.fullmatch(name)
    if layer is None:
        yield name, stored
        return
    block, rest = f"blocks.{layer[1]}.", layer[2]
    if low_rank := LOW_RANK.fullmatch(rest):
        bias = low_rank[2] == "2.bias"
        new = f"{block}att.{low_rank[1]}{SIDES[low_rank[2]]}"
        yield new, stored if bias else changed(stored, lambda x: x.transpose(-1, -2))
    elif norm := NORM.fullmatch(rest):
        yield f"{block}{NORMS[norm[1]]}.{norm[2]}", stored
    elif projection := PROJECTION.fullmatch(rest):
        yield f"{block}att.{PROJECTIONS[projection[1]]}.weight", stored
    elif rest == "attn.x_x" and stored.shape[0] == len("rwkvag"):
        for index, letter in enumerate("rwkvag"):
            yield f"{block}att.x_{letter}", changed(stored, lambda x, i=index: x[i])  # type: ignore[misc]
    else:
        yield block + re.sub(r"^attn\.", "att.", rest), stored
