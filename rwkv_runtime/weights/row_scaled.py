"""Matrices stored as int8 with a scale for each row: half the size of bfloat16, and as near to what was trained.

A file keeps `name` [rows, columns] int8 and, beside it, `name.scale` [rows]; the matrix is their product. Knows nothing
of containers or of which tensors a model needs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rwkv_runtime.weights.deferred import Deferred, Stored

SUFFIX = ".scale"
LARGEST = 127


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Stored]:
    """Replace each int8 matrix and its scales by the matrix in bfloat16, made when it is needed."""
    found: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        scale = tensors.get(name + SUFFIX)
        if _belong_together(tensor, scale):
            assert scale is not None
            found[name] = _matrix(tensor, scale)
        elif not (name.endswith(SUFFIX) and _belong_together(tensors.get(name.removesuffix(SUFFIX)), tensor)):
            found[name] = tensor
    return found


def split(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """What is stored of a matrix: ([rows, columns] int8, scales [rows] float32). A row of zeros has scale 1."""
    largest = matrix.float().abs().amax(1)
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones(()))
    return torch.round(matrix.float() / scale[:, None]).to(torch.int8), scale


def _belong_together(matrix: Tensor | None, scale: Tensor | None) -> bool:
    """Whether these are an int8 matrix and a scale for each of its rows."""
    if matrix is None or scale is None or matrix.dtype != torch.int8 or matrix.dim() != 2:
        return False
    return scale.is_floating_point() and scale.shape == matrix.shape[:1]


def _matrix(matrix: Tensor, scale: Tensor) -> Deferred:
    def make() -> Tensor:
        return (matrix * scale.float()[:, None]).to(torch.bfloat16)

    return Deferred(tuple(matrix.shape), torch.bfloat16, "int8 by row", make)
