"""The int8 files of Albatross: RWKV-LM names, matrices as int8 [out, in] with a scale for each row in NAME_scale.

Its 4-bit floating point files are recognised and refused.
Source: BlinkDL/Albatross, faster3a_2605/quantize_int8.py and quantize_nf4.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rwkv_runtime.errors import UnsupportedModelError, WeightsError
from rwkv_runtime.weights.deferred import Deferred, Stored, made

NAME = "Albatross"
SCALE = "_scale"
FOUR_BIT = ".nf4_b_scale"


def recognises(tensors: Mapping[str, Stored]) -> bool:
    """Tell by int8 matrices with scales, or by the scales of the 4-bit files."""
    return any(name.endswith(FOUR_BIT) or _is_quantized(tensors, name) for name in tensors)


def translate(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Multiply by the scales, when a matrix is needed. Raises UnsupportedModelError for 4-bit files."""
    if any(name.endswith(FOUR_BIT) for name in tensors):
        raise UnsupportedModelError("a 4-bit (NVFP4) file of Albatross; use its int8 file or the original .pth")
    quantized = {name for name in tensors if _is_quantized(tensors, name)}
    plain = {name: stored for name, stored in tensors.items() if name.removesuffix(SCALE) not in quantized}
    return plain | {name: _scaled(name, tensors[name], tensors[name + SCALE]) for name in quantized}


def _is_quantized(tensors: Mapping[str, Stored], name: str) -> bool:
    return name + SCALE in tensors and tensors[name].dtype is torch.int8


def _scaled(name: str, weights: Stored, scale: Stored) -> Deferred:
    if len(weights.shape) != 2 or tuple(scale.shape) != (weights.shape[0],):
        raise WeightsError(
            f"{name} of shape {list(weights.shape)} has scales of shape {list(scale.shape)}, one a row is needed; "
            "the file is damaged"
        )

    def multiplied() -> Tensor:
        return made(weights).float() * made(scale).float().unsqueeze(1)

    return Deferred(tuple(weights.shape), torch.float32, "int8", multiplied)
