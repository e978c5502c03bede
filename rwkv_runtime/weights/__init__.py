"""Model files as named tensors: RWKV-LM (BlinkDL) names and shapes, whatever the container.

`read` finds the container by its first bytes; each container has a reader of its own beside this file, a
function Path -> {name: tensor}. Names and layouts other than RWKV-LM's are put right by naming/. The loader
then takes every tensor by name and shape and says that it is done: a tensor that is missing, left over,
misshaped or not finite is an error, never a guess. Knows nothing of generations.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from rwkv_runtime.errors import ModelFileError, WeightsError
from rwkv_runtime.weights import gguf, naming, pth, rwkv_cpp, safetensors, sharded
from rwkv_runtime.weights.deferred import Stored, label, made

__all__ = ["CONTAINERS", "Container", "Weights", "read"]


class Container(Protocol):
    """What a reader beside this file offers."""

    NAME: str

    def recognises(self, head: bytes, path: Path) -> bool: ...

    def read(self, path: Path) -> dict[str, Stored]: ...


CONTAINERS: tuple[Container, ...] = (safetensors, gguf, rwkv_cpp, pth, sharded)

PREFIXES = ("model.", "module.", "_forward_module.", "rwkv.")
"""What training wrappers (DeepSpeed, Lightning, DataParallel, EmbeddingRWKV) put before every name."""

SUFFIXES = (".pth", ".safetensors", ".st", ".gguf", ".bin")
KINDS = "a .pth, .safetensors, .st, .gguf or .bin file, or the *.index.json of several"

INTEGERS = (torch.int32, torch.int64)
"""What tables of tokens are stored as, which are no weights."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Weights:
    """The tensors of one model file, each to be taken once."""

    def __init__(self, source: str, tensors: Mapping[str, Stored], *, container: str = "", naming: str = "") -> None:
        """`source` is the path, for messages; `container` and `naming` say how the file was read, for people."""
        self.source = source
        self.container = container
        self.naming = naming
        self._tensors = dict(tensors)
        self._device = torch.device("cpu")

    def on(self, device: torch.device) -> Weights:
        """Return the same weights, of which each can still be taken once, handed out on another device."""
        view = copy.copy(self)
        view._device = device
        return view

    def names(self) -> frozenset[str]:
        """Return the names not yet taken."""
        return frozenset(self._tensors)

    def stored(self) -> Mapping[str, Stored]:
        """Return what is not yet taken, as the readers handed it on; to be looked at, not to be kept."""
        return MappingProxyType(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape as stored. Raises WeightsError if there is no such tensor, or no longer."""
        return tuple(self._find(name).shape)

    def dtype(self, name: str) -> torch.dtype:
        """Return the type that `take` gives it. Raises WeightsError if there is no such tensor, or no longer."""
        return self._find(name).dtype

    def stored_as(self, name: str) -> str:
        """Return how the file stores it, such as bfloat16 or Q4_K. Raises WeightsError as `shape` does."""
        return label(self._find(name))

    def take(self, name: str, *shape: int) -> Tensor:
        """Hand out one tensor, in the type that it is stored in, and strike it off; without a copy if it is contiguous.

        What is quantized is unpacked to float32.
        Axes of length 1 are not compared, since files write the same vector as [D] and as [1, 1, D]; the
        tensor comes back in the shape asked for. Raises WeightsError if it is missing, of another shape, not
        a floating point tensor, or holds a NaN or an infinity.
        """
        tensor = made(self._of_shape(name, shape))
        if tensor.dtype not in FLOATS:
            raise WeightsError(
                f"{self.source}: {name} is stored as {str(tensor.dtype).removeprefix('torch.')}; no way of quantizing "
                "that is known here, use the model's original file"
            )
        if not _is_finite(tensor):
            raise WeightsError(f"{self.source}: {name} holds a NaN or an infinity; download the file again")
        del self._tensors[name]
        return tensor.reshape(shape).contiguous().to(self._device)

    def take_integers(self, name: str, *shape: int) -> Tensor:
        """Hand out a table of whole numbers, as it is stored, and strike it off.

        Raises WeightsError if it is missing, of another shape, or neither int32 nor int64.
        """
        stored = self._of_shape(name, shape)
        if stored.dtype not in INTEGERS:
            raise WeightsError(f"{self.source}: {name} is stored as {label(stored)}; int32 is needed")
        del self._tensors[name]
        return made(stored).reshape(shape).contiguous().to(self._device)

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

    def _of_shape(self, name: str, shape: tuple[int, ...]) -> Stored:
        """What is stored under a name. Raises WeightsError if it is missing or of another shape."""
        stored = self._find(name)
        if _wide_axes(stored.shape) != _wide_axes(shape):
            raise WeightsError(
                f"{self.source}: {name} should be {list(shape)}, but is {list(stored.shape)}; "
                "the file does not belong to this kind of model"
            )
        return stored

    def _find(self, name: str) -> Stored:
        if name not in self._tensors:
            raise WeightsError(
                f"{self.source}: {name} is missing (among the {len(self._tensors)} others: {_some(self._tensors, 3)})"
                "; a whole model with RWKV-LM names is needed"
            )
        return self._tensors[name]


def read(path: Path) -> Weights:
    """Open a model file, memory-mapped where its format allows it: tensors are read from disk when they are used.

    The content decides, not the suffix. Of a model in several files, the *.index.json is its file. Raises
    ModelFileError if the file is missing, damaged, or something else.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); give {KINDS}") from error
    container = next((one for one in CONTAINERS if one.recognises(head, path)), None)
    if container is None:
        raise ModelFileError(f"{path}: {_what_else(head, path.suffix)}")
    tensors = container.read(path)
    if not tensors:
        raise ModelFileError(f"{path}: holds no tensors; give the file of a whole model")
    try:
        family, tensors = naming.normalised(_without_prefixes(tensors))
    except ModelFileError as error:
        raise type(error)(f"{path}: {error}") from None
    return Weights(str(path), tensors, container=container.NAME, naming=family)


def _what_else(head: bytes, suffix: str) -> str:
    """Say what a file is that no reader recognises, and what to do."""
    text = head.lstrip().lower()
    if not head:
        return "is empty; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model itself; run `git lfs pull` in its folder"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a model; download the file itself (on Hugging Face: /resolve/, not /blob/)"
    if head.startswith((b"lmgg", b"tjgg")):
        return "is a ggml file of a kind that is no longer in use; use the model's .pth or .safetensors file"
    if head.startswith(b"RWKVMBLE"):
        return "is an .rmpack for one kind of telephone chip; use the model's .pth or .safetensors file"
    if suffix in SUFFIXES:
        return f"has the name of a {suffix} file, but not its content: damaged or incomplete; download it again"
    return f"is no model file; give {KINDS}"


def _without_prefixes(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
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


def _some(names: Mapping[str, Stored], count: int) -> str:
    return ", ".join(sorted(names)[:count]) + (", …" if len(names) > count else "")
