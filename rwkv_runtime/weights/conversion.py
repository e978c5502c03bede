"""Any model file as one safetensors file with RWKV-LM names, which is memory-mapped when it is loaded.

Tensors are written one after the other, so that the largest of them bounds the memory. The file appears whole or not
at all. Knows nothing of generations: what cannot be run can still be converted.
Source: the format's description in huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from rwkv_runtime import gguf_header, weights
from rwkv_runtime.errors import ModelFileError, RwkvError
from rwkv_runtime.identity import ModelFiles, find
from rwkv_runtime.tokenizers import gguf
from rwkv_runtime.weights import INTEGERS, Weights
from rwkv_runtime.whole_files import write_whole

CODES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
CODES |= {torch.int64: "I64", torch.int32: "I32"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ALIGNMENT = 8  # bytes; the header is padded with spaces to a multiple


class TargetError(RwkvError):
    """The file cannot be written as asked, whatever is in the model."""


def convert(source: str | Path, target: Path, dtype: str = "auto") -> Path:
    """Write the model's tensors to `target`, and its tokenizer.json beside it if it has one of its own.

    `dtype` is fp32, bf16, fp16, or auto: as stored, and fp32 for what is quantized, which changes no value. Tables of
    tokens stay as they are. Raises TargetError if that cannot be written or would overwrite something, ModelFileError
    if the source cannot be read, and for tensors that are not finite, before or after they are made smaller.
    """
    _check_target(target, dtype)
    files = find(source)
    stored = weights.read(files.weights_path)
    tokenizer = _tokenizer_json(files)
    beside = target.with_name("tokenizer.json")
    if beside.exists() and beside.read_bytes() != tokenizer:
        raise TargetError(f"{beside}: is there already and is not this model's tokenizer; write to another folder")
    new = tokenizer is not None and not beside.exists()
    if tokenizer is not None and new:  # first, as a model without its tokenizer would be taken for another
        _write_whole(beside, lambda file: _write(file, tokenizer))
    try:
        _write_whole(target, lambda file: _write_tensors(file, stored, DTYPES.get(dtype)))
    except BaseException:
        if new:
            beside.unlink()
        raise
    return target


def _check_target(target: Path, dtype: str) -> None:
    if dtype not in ("auto", *DTYPES):
        raise TargetError(f"{target}: the type {dtype!r} is unknown; use auto, {', '.join(DTYPES)}")
    if target.suffix != ".safetensors":
        raise TargetError(f"{target}: the file to write must be named .safetensors")
    if target.exists():
        raise TargetError(f"{target}: is there already; give another name, or remove it first")


def _tokenizer_json(files: ModelFiles) -> bytes | None:
    """The model's own tokenizer as a tokenizer.json, or None for the World vocabulary."""
    path = files.tokenizer_path
    if path is None:
        return None
    if path.suffix == ".json":
        return path.read_bytes()
    inside = gguf.inside(gguf_header.read(path))
    if inside is None or inside.suffix != ".json":
        raise ModelFileError(
            f"{path}: has a World vocabulary of its own, which only a GGUF file can carry; use the file as it is"
        )
    return inside.content


def _write_tensors(file: BinaryIO, stored: Weights, dtype: torch.dtype | None) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    types: dict[str, torch.dtype] = {}
    end = 0
    for name in sorted(stored.names()):
        whole = stored.dtype(name) in INTEGERS
        types[name] = stored.dtype(name) if whole or dtype is None else dtype
        if types[name] not in CODES:
            raise ModelFileError(f"{stored.source}: {name} is stored as {stored.stored_as(name)}, no kind of weights")
        begin, end = end, end + math.prod(stored.shape(name)) * types[name].itemsize
        header[name] = {"dtype": CODES[types[name]], "shape": stored.shape(name), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    _write(file, struct.pack("<Q", len(text)) + text)
    for name, target_type in types.items():
        take = stored.take_integers if target_type in INTEGERS else stored.take
        tensor = take(name, *stored.shape(name)).to(target_type).contiguous()
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"{stored.source}: {name} has values that {CODES[target_type]} cannot hold; use bf16")
        _write(file, _bytes_of(tensor))


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _write(file: BinaryIO, content: bytes | memoryview) -> None:
    file.write(content)


def _write_whole(target: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write the file whole or not at all. Raises TargetError if it cannot be written."""
    try:
        write_whole(target, write)
    except OSError as error:
        raise TargetError(f"{target}: cannot be written ({error.strerror}); check the folder and its space") from error
