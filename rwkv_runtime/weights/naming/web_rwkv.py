"""The layout of web-rwkv and Ai00 (.st): low-rank matrices transposed, `maa` called `mix`, `faaaa` called `first`.

A safetensors file may just as well have RWKV-LM's own layout, so each matrix is judged by its shape: the axis that is
as long as the model is wide tells which way it lies.
Source: cryscan/web-rwkv, assets/scripts/convert_safetensors.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rwkv_runtime.weights.deferred import Stored, changed

NAME = "web-rwkv"

DOWN = re.compile(r"blocks\.\d+\.att\.(?:[wavg]1|time_(?:mix|maa)_w1|time_decay_w1)")  # [D, rank] in RWKV-LM
UP = re.compile(r"blocks\.\d+\.att\.(?:[wavg]2|time_(?:mix|maa)_w2|time_decay_w2)")  # [..., rank, D]
FIRST = re.compile(r"blocks\.\d+\.att\.time_first")
SIX = "blocks.0.att.time_mix_x"
GROUP_NORM = "blocks.0.att.ln_x.weight"


def recognises(tensors: Mapping[str, Stored]) -> bool:
    """Tell by the renamed tensors of RWKV-5 and 6, or by a matrix that lies the other way."""
    if "emb.weight" not in tensors:
        return False
    width = tensors["emb.weight"].shape[-1]
    return SIX in tensors or any(
        _is_transposed(name, stored, width) or _is_raw_bonus(tensors, name) for name, stored in tensors.items()
    )


def translate(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Rename and transpose."""
    width = tensors["emb.weight"].shape[-1]
    six = SIX in tensors
    found: dict[str, Stored] = {}
    for name, stored in tensors.items():
        new = name.replace(".time_mix_", ".time_maa_") if six else name
        if _is_raw_bonus(tensors, name):
            new = name.replace("time_first", "time_faaaa")
        turned = _is_transposed(name, stored, width)
        found[new] = changed(stored, lambda x: x.transpose(-1, -2)) if turned else stored
    return found


def _is_transposed(name: str, stored: Stored, width: int) -> bool:
    shape = stored.shape
    if len(shape) < 2 or shape[-1] == shape[-2]:
        return False
    return (bool(DOWN.fullmatch(name)) and shape[-1] == width) or (bool(UP.fullmatch(name)) and shape[-2] == width)


def _is_raw_bonus(tensors: Mapping[str, Stored], name: str) -> bool:
    """RWKV-5 and 6 have one bonus for each channel, raw; where RWKV-LM says time_first it is one a head, as a log."""
    if not FIRST.fullmatch(name) or GROUP_NORM not in tensors:
        return False
    return SIX in tensors or sum(length > 1 for length in tensors[name].shape) == 2
