"""PyTorch files (.pth) as named tensors: a state dict, perhaps nested as training wrappers leave it.

The pickle inside is read by torch's restricted unpickler: it may make tensors and plain containers, and never
runs code. Knows nothing of which tensors a model needs.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.weights.deferred import Stored

NAME = "PyTorch"
ZIP = b"PK\x03\x04"  # torch.save since 1.6; can be memory-mapped
LEGACY = b"\x80\x02"  # torch.save before: several pickles in a row, read into memory
WRAPPERS = ("state_dict", "model")
DEEPEST = 4  # wrappers in each other; a pickle can hold a dict that contains itself


def recognises(head: bytes, path: Path) -> bool:
    """Tell from a file's first bytes whether it is a torch.save file."""
    return head.startswith((ZIP, LEGACY))


def read(path: Path) -> dict[str, Stored]:
    """Return the tensors by name, on the CPU, memory-mapped where the format allows it.

    Raises ModelFileError if the file is damaged, holds code, or is no plain set of named tensors.
    """
    content = _unwrap(_load(path))
    if not isinstance(content, Mapping):
        raise ModelFileError(f"{path}: holds a {type(content).__name__}, not named tensors; save model.state_dict()")
    if "_strategy" in content:
        raise ModelFileError(
            f"{path}: was converted by the rwkv package for the strategy {content['_strategy']!r}, which changes "
            "the weights for good; use the original .pth that it was converted from"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not _is_dense_tensor(value):
            raise ModelFileError(
                f"{path}: entry {name!r} is a {type(value).__name__}, not a dense tensor; save only model.state_dict()"
            )
    return {name: value.detach() for name, value in content.items()}


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        # torch.load maps only what it opens itself, and takes what is named .safetensors for that, whatever it is.
        mapped = file.read(len(ZIP)) == ZIP and path.suffix != ".safetensors"
        file.seek(0)
        _refuse_compressed(path, file)
        file.seek(0)
        return _load_safely(path, path if mapped else file, mapped)


def _refuse_compressed(path: Path, file: BinaryIO) -> None:
    """torch.save never compresses; a compressed entry can be a thousand times as large as the file."""
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = [(entry.file_size, entry.compress_size) for entry in archive.infolist()]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return  # an older format, or damage that loading will find
    if any(whole > stored for whole, stored in sizes):
        raise ModelFileError(f"{path}: has compressed entries, which torch.save does not write; get the original file")


def _load_safely(path: Path, source: Path | BinaryIO, mapped: bool) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"asks to run {refused[1]}" if refused else "is damaged or holds more than tensors"
        raise ModelFileError(
            f"{path}: its pickle {what}; nothing in it was run: get the model as .safetensors or a plain state dict"
        ) from error
    except Exception as error:  # a damaged file can make the unpickler raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{path}: is damaged or incomplete ({reason}); download it again") from error


def _unwrap(content: Any) -> Any:
    """Go down to the state dict that a trainer put beside optimizer states and counters."""
    for _ in range(DEEPEST):
        if isinstance(content, Mapping):
            content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    return content


def _is_dense_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided
