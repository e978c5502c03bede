"""Model files as named tensors: RWKV-LM (BlinkDL) names and shapes, whatever the container.

`read` finds the container by its first bytes; each container has a reader of its own beside this file, a
function Path -> {name: tensor}. The loader then takes every tensor by name and shape and says that it is
done: a tensor that is missing, left over, misshaped or not finite is an error, never a guess. Knows nothing
of generations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rwkv_runtime.errors import ModelFileError, WeightsError
from rwkv_runtime.weights import pth, safetensors

__all__ = ["Weights", "read"]

PREFIXES = ("model.", "module.", "_forward_module.", "rwkv.")
"""What training wrappers (DeepSpeed, Lightning, DataParallel, EmbeddingRWKV) put before every name."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Weights:
    """The tensors of one model file, each to be taken once."""

    def __init__(self, source: str, tensors: Mapping[str, Tensor]) -> None:
        """`source` is the path, for messages."""
        self.source = source
        self._tensors = dict(tensors)

    def names(self) -> frozenset[str]:
        """Return the names not yet taken."""
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape as stored. Raises WeightsError if there is no such tensor, or no longer."""
        return tuple(self._find(name).shape)

    def take(self, name: str, *shape: int) -> Tensor:
        """Hand out one tensor, in the type that it is stored in and without a copy, and strike it off.

        Axes of length 1 are not compared, since files write the same vector as [D] and as [1, 1, D]; the
        tensor comes back in the shape asked for. Raises WeightsError if it is missing, of another shape, not
        a floating point tensor, or holds a NaN or an infinity.
        """
        tensor = self._find(name)
        if _wide_axes(tensor.shape) != _wide_axes(shape):
            raise WeightsError(
                f"{self.source}: {name} should be {list(shape)}, but is {list(tensor.shape)}; "
                "the file does not belong to this kind of model"
            )
        if tensor.dtype not in FLOATS:
            raise WeightsError(
                f"{self.source}: {name} is stored as {str(tensor.dtype).removeprefix('torch.')}; quantized "
                "files cannot be read, use the model's original file"
            )
        if not _is_finite(tensor):
            raise WeightsError(f"{self.source}: {name} holds a NaN or an infinity; download the file again")
        del self._tensors[name]
        return tensor.reshape(shape)

    def discard(self, name: str) -> None:
        """Strike off a tensor that is known to be of no use. Raises WeightsError if there is none."""
        self._find(name)
        del self._tensors[name]

    def finish(self) -> None:
        """Raise WeightsError if tensors are left: the model would not be what the file holds."""
        if self._tensors:
            raise WeightsError(
                f"{self.source}: {len(self._tensors)} tensor(s) have no place in this kind of model: "
                f"{_some(self._tensors, 5)}; the file holds another architecture or an adapter"
            )

    def _find(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise WeightsError(
                f"{self.source}: {name} is missing (among the {len(self._tensors)} others: {_some(self._tensors, 3)})"
                "; a whole model with RWKV-LM names is needed"
            )
        return self._tensors[name]


def read(path: Path) -> Weights:
    """Open a .pth or .safetensors file, memory-mapped: tensors are read from disk when they are used.

    The content decides, not the suffix. Raises ModelFileError if the file is missing, damaged, or something
    else.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); give a .pth or .safetensors file") from error
    if safetensors.recognises(head):
        tensors = safetensors.read(path)
    elif pth.recognises(head):
        tensors = pth.read(path)
    else:
        raise ModelFileError(f"{path}: {_what_else(head, path.suffix)}")
    if not tensors:
        raise ModelFileError(f"{path}: holds no tensors; give the file of a whole model")
    return Weights(str(path), _without_prefixes(tensors))


def _what_else(head: bytes, suffix: str) -> str:
    """Say what a file is that no reader recognises, and what to do."""
    text = head.lstrip().lower()
    if not head:
        return "is empty; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model itself; run `git lfs pull` in its folder"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a model; download the file itself (on Hugging Face: /resolve/, not /blob/)"
    if head.startswith((b"GGUF", b"fmgg", b"lmgg", b"tjgg")):
        return "is a GGUF or ggml file, which cannot be read; use the model's .pth or .safetensors file"
    if suffix in (".pth", ".safetensors"):
        return f"has the name of a {suffix} file, but not its content: damaged or incomplete; download it again"
    return "is neither a .pth nor a .safetensors file; give one of these"


def _without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip wrapper prefixes, as long as all names have the same one."""
    stripped = dict(tensors)
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in stripped)), None):
        stripped = {name.removeprefix(prefix): tensor for name, tensor in stripped.items()}
    return stripped


def _wide_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def _is_finite(tensor: Tensor) -> bool:
    """One pass without a temporary tensor: the extremes are NaN or infinite if any element is."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _some(names: Mapping[str, Tensor], count: int) -> str:
    return ", ".join(sorted(names)[:count]) + (", …" if len(names) > count else "")
