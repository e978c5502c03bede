"""Files of rwkv.cpp (.bin, magic "ggmf") as named tensors.

The names are RWKV-LM's; undone are the transposed low-rank matrices, the fused mixes of v7 and the decays that were
stored as they are used. Every count is held against the size of the file. Knows nothing of which tensors a model
needs.
Source: RWKV/rwkv.cpp, python/convert_pytorch_to_ggml.py and rwkv_file_format.inc.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from rwkv_runtime.errors import ModelFileError, UnsupportedModelError
from rwkv_runtime.gguf_header import BLOCKS
from rwkv_runtime.weights import blocks
from rwkv_runtime.weights.blocks import Bytes
from rwkv_runtime.weights.deferred import Stored, changed, computed

NAME = "rwkv.cpp"
MAGIC = b"fmgg"  # 0x67676d66, little-endian
HEADER = struct.Struct("<4s5i")  # magic, version, vocabulary, width, layers, type
TENSOR = struct.Struct("<3i")  # axes, length of the name, type
FIRST_VERSION, VERSION = 100, 101
KINDS = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q5_0", 8: "Q5_1", 9: "Q8_0"}
SIZES = {name: (weights, nbytes) for name, weights, nbytes in BLOCKS.values()}
MOST_AXES = 4
LONGEST_NAME = 256
SMALLEST, LARGEST_BELOW_ONE = 1e-38, 1 - 2.0**-25
"""Bounds of a decay per token, such that its logarithms are finite: float32 may have rounded it to 0 or 1."""

TRANSPOSED = re.compile(r"blocks\.\d+\.att\.(?:[wavg][12]|time_maa_w[12]|time_decay_w[12])")
FUSED = re.compile(r"(blocks\.\d+\.att\.)x_rwkvag")
DECAY = re.compile(r"blocks\.\d+\.att\.time_decay")
FIRST = re.compile(r"(blocks\.\d+\.att\.)time_first")


def recognises(head: bytes, path: Path) -> bool:
    """Tell from a file's first bytes whether it is a file of rwkv.cpp."""
    return head.startswith(MAGIC)


def read(path: Path) -> dict[str, Stored]:
    """Return the tensors by RWKV-LM name, on the CPU; each is copied or unpacked when it is needed.

    Raises ModelFileError if the file is damaged, UnsupportedModelError for ways of quantizing that are no longer read.
    """
    content = blocks.mapped(path)
    try:
        raw = dict(_tensors(content))
    except (ValueError, struct.error) as error:
        raise ModelFileError(f"{path}: is a damaged rwkv.cpp (ggml) file ({error}); download it again") from error
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path}: {error}") from None
    promised = HEADER.unpack_from(content.data)[2:5]
    layers = {name.split(".")[1] for name in raw if name.startswith("blocks.")}
    found = (*(raw["emb.weight"].shape if "emb.weight" in raw else (0, 0)), len(layers))
    if found != promised:
        raise ModelFileError(
            f"{path}: promises {promised} tokens, channels and layers, but has {found}; download it again"
        )
    undo = _undo_decay(raw)
    return {name: tensor for stored in raw.items() for name, tensor in _translated(*stored, undo)}


def _tensors(content: Bytes) -> Iterator[tuple[str, Stored]]:
    """Walk through the file. Raises ValueError or struct.error where it ends too early."""
    _, version, *_ = HEADER.unpack_from(content.data)
    if version not in (FIRST_VERSION, VERSION):
        raise ValueError(f"its version is {version}, only {FIRST_VERSION} and {VERSION} are read")
    position = HEADER.size
    seen: set[str] = set()
    while position < len(content):
        name, kind, shape, position = _entry(content, position)
        if name in seen:
            raise ValueError(f"the tensor {name!r} is given twice")
        seen.add(name)
        if version == FIRST_VERSION and kind not in blocks.PLAIN:
            raise UnsupportedModelError(f"{name} is {kind} of version {version}, an older layout; quantize it again")
        weights, block = SIZES[kind]
        end = position + math.prod(shape) // weights * block
        if shape[-1] % weights or end > len(content):
            raise ValueError(f"{name!r} of shape {list(shape)} would end at {end} of {len(content)} bytes")
        yield name, blocks.tensor(content[position:end], kind, shape)
        position = end


def _entry(content: Bytes, position: int) -> tuple[str, str, tuple[int, ...], int]:
    """Read what stands before a tensor: its name, kind, shape (rows first), and where its bytes begin."""
    axes, length, kind = TENSOR.unpack_from(content.data, position)
    position += TENSOR.size
    if not (1 <= axes <= MOST_AXES and 1 <= length <= LONGEST_NAME):
        raise ValueError(f"an entry before byte {position} has {axes} axes and a name of {length} bytes")
    lengths = struct.unpack_from(f"<{axes}i", content.data, position)
    position += 4 * axes
    if min(lengths) < 1 or position + length > len(content):
        raise ValueError(f"an entry before byte {position} has the lengths {list(lengths)}")
    name = content[position : position + length].tobytes().decode("utf-8", errors="replace")
    if kind not in KINDS:
        readable = ", ".join(KINDS.values())
        raise UnsupportedModelError(f"{name[:60]!r} is stored as type {kind}; readable are {readable}")
    return name, KINDS[kind], tuple(reversed(lengths)), position + length


def _undo_decay(raw: Mapping[str, Stored]) -> Callable[[Tensor], Tensor] | None:
    """How a stored time_decay goes back to what RWKV-LM has: v4 stores -exp(x), v5 exp(-exp(x)), v6 x itself."""
    if "blocks.0.att.time_maa_x" in raw:
        return None
    return _from_decay if "blocks.0.att.ln_x.weight" in raw else _from_rate


def _from_rate(rate: Tensor) -> Tensor:
    return (-rate.double()).clamp(min=SMALLEST).log().float()


def _from_decay(decay: Tensor) -> Tensor:
    return (-decay.double().clamp(SMALLEST, LARGEST_BELOW_ONE).log()).log().float()


def _translated(
    name: str, stored: Stored, undo_decay: Callable[[Tensor], Tensor] | None
) -> Iterator[tuple[str, Stored]]:
    if TRANSPOSED.fullmatch(name):
        yield name, changed(stored, lambda x: x.transpose(-1, -2))
    elif fused := FUSED.fullmatch(name):
        if stored.shape[0] != len("rwkvag"):
            raise UnsupportedModelError(f"{name} has {stored.shape[0]} mixes instead of 6; not a released RWKV-7")
        for index, letter in enumerate("rwkvag"):
            yield f"{fused[1]}x_{letter}", changed(stored, lambda x, i=index: x[i].reshape(1, 1, -1))  # type: ignore[misc]
    elif DECAY.fullmatch(name) and undo_decay is not None:
        yield name, computed(stored, undo_decay)
    elif DECAY.fullmatch(name):  # v6: [H, N, 1] here
        yield name, changed(stored, lambda x: x.reshape(1, 1, -1))
    elif name.endswith("att.time_faaaa") and len(stored.shape) == 3:  # v6 again
        yield name, changed(stored, lambda x: x.squeeze(-1))
    elif (first := FIRST.fullmatch(name)) and undo_decay is _from_decay:
        yield f"{first[1]}time_faaaa", stored  # v5: the exponential is taken already, as in time_faaaa
    else:
        yield name, stored
