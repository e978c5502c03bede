"""GGUF files of llama.cpp (architectures rwkv6 and rwkv7) as named tensors, memory-mapped where they are plain.

Undoes what llama.cpp's converter did: its names, fused mixes, transposed low-rank matrices, and for rwkv6 the
rescaling of deeper layers. Knows nothing of which tensors a model needs.
Source: llama.cpp, convert_hf_to_gguf.py (Rwkv6Model, Rwkv7Model) and src/llama-model.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rwkv_runtime import gguf_header
from rwkv_runtime.errors import ModelFileError, UnsupportedModelError, WeightsError
from rwkv_runtime.gguf_header import GgufHeader
from rwkv_runtime.weights import blocks
from rwkv_runtime.weights.deferred import Stored, changed, computed

NAME = "GGUF"
NORM_EPS = 1e-5

WHOLE = {"token_embd": "emb", "token_embd_norm": "blocks.0.ln0", "output_norm": "ln_out", "output": "head"}
LAYER = {
    "attn_norm": "ln1",
    "attn_norm_2": "ln2",
    "time_mix_ln": "att.ln_x",
    "time_mix_key": "att.key",
    "time_mix_value": "att.value",
    "time_mix_receptance": "att.receptance",
    "time_mix_output": "att.output",
    "time_mix_gate": "att.gate",
    "channel_mix_key": "ffn.key",
    "channel_mix_value": "ffn.value",
    "channel_mix_receptance": "ffn.receptance",
}
"""Modules, which keep their .weight and .bias. Everything else has a bare name in RWKV-LM."""

SEVEN = {
    "channel_mix_lerp_k": "ffn.x_k",
    **{f"time_mix_{name}": f"att.{name}" for name in ("w0", "a0", "v0", "k_k", "k_a", "r_k")},
}
SEVEN_TRANSPOSED = {f"time_mix_{letter}{side}": f"att.{letter}{side}" for letter in "wavg" for side in "12"}
SIX = {
    "channel_mix_lerp_k": "ffn.time_maa_k",
    "channel_mix_lerp_r": "ffn.time_maa_r",
    "time_mix_first": "att.time_faaaa",
    "time_mix_decay": "att.time_decay",
    **{f"time_mix_lerp_{letter}": f"att.time_maa_{letter}" for letter in "xwkvrg"},
}
SIX_TRANSPOSED = {
    "time_mix_w1": "att.time_maa_w1",
    "time_mix_w2": "att.time_maa_w2",
    "time_mix_decay_w1": "att.time_decay_w1",
    "time_mix_decay_w2": "att.time_decay_w2",
}
FUSED = {"rwkv6": "wkvrg", "rwkv7": "rwkvag"}
"""The order of the mixes in time_mix_lerp_fused."""
RESCALED = ("time_mix_output", "channel_mix_value")
UNUSED = re.compile(r"blk\.0\.time_mix_v[012]\.weight")  # copies of a0, a1 and a2 that fill a place


def recognises(head: bytes, path: Path) -> bool:
    """Tell from a file's first bytes whether it is a GGUF file."""
    return gguf_header.recognises(head)


def read(path: Path) -> dict[str, Stored]:
    """Return the tensors by RWKV-LM name, on the CPU; quantized ones are unpacked when they are needed.

    Raises ModelFileError if the file is damaged or its metadata does not fit its tensors, UnsupportedModelError if
    it holds another architecture.
    """
    header = gguf_header.read(path)
    _check_norm(header)
    content = blocks.mapped(path)
    found: dict[str, Stored] = {}
    for place in header.tensors:
        if header.architecture == "rwkv7" and UNUSED.fullmatch(place.name):
            continue
        if not blocks.unpacks(place.kind):
            raise UnsupportedModelError(
                f"{path}: {place.name} is {place.kind}, newer than the installed gguf; run `pip install -U gguf`"
            )
        stored = blocks.tensor(content[place.begin : place.begin + place.nbytes], place.kind, place.shape)
        found.update(_translated(header, place.name, stored))
    _check_sizes(header, found)
    return found


def _translated(header: GgufHeader, name: str, stored: Stored) -> Iterator[tuple[str, Stored]]:
    """Turn one tensor into those that RWKV-LM has in its place. An unknown one keeps its name, and is refused later."""
    parts = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if parts is None:
        yield name, stored
        return
    layer, kind, end = parts[1], parts[2], parts[3]
    if layer is None:
        yield (f"{WHOLE[kind]}.{end}" if kind in WHOLE else name), stored
        return
    seven = header.architecture == "rwkv7"
    bare, transposed = (SEVEN, SEVEN_TRANSPOSED) if seven else (SIX, SIX_TRANSPOSED)
    block = f"blocks.{layer}."
    if kind in LAYER:
        yield f"{block}{LAYER[kind]}.{end}", _rescaled(header, kind, int(layer), stored)
    elif kind == "time_mix_lerp_fused":
        yield from _split(header, f"{block}att.{'x' if seven else 'time_maa'}_", stored)
    elif kind in transposed:
        yield block + transposed[kind], changed(stored, lambda x: x.transpose(-1, -2))
    elif kind == "time_mix_r_k":
        size = _positive(header, "wkv.head_size")
        if stored.shape[-1] % size:
            raise WeightsError(f"{header.path}: {name} of {stored.shape[-1]} channels has no heads of {size}")
        yield f"{block}att.r_k", changed(stored, lambda x: x.reshape(-1, size))
    else:
        yield (block + bare[kind] if kind in bare else name), stored


def _split(header: GgufHeader, prefix: str, stored: Stored) -> Iterator[tuple[str, Stored]]:
    letters = FUSED[header.architecture]
    if stored.shape[0] != len(letters):
        raise UnsupportedModelError(
            f"{header.path}: time_mix_lerp_fused has {stored.shape[0]} mixes instead of {len(letters)}, a variant of "
            f"{header.architecture} that is not supported"
        )
    for index, letter in enumerate(letters):
        yield prefix + letter, changed(stored, lambda x, i=index: x[i].reshape(1, 1, -1))  # type: ignore[misc]


def _rescaled(header: GgufHeader, kind: str, layer: int, stored: Stored) -> Stored:
    """Undo the halving every n layers with which llama.cpp keeps rwkv6 within float16."""
    every = int(header.number("rwkv6.rescale_every_n_layers") or 0)
    halvings = layer // every if every > 0 and kind in RESCALED else 0
    if not halvings:
        return stored
    return computed(stored, lambda x: x.float() * 2.0**halvings)


def _check_norm(header: GgufHeader) -> None:
    key = f"{header.architecture}.attention.layer_norm_epsilon"
    eps = header.number(key)
    if eps is not None and abs(eps - NORM_EPS) > NORM_EPS / 1000:
        raise UnsupportedModelError(f"{header.path}: {key} is {eps:g}, RWKV models have {NORM_EPS:g}")


def _check_sizes(header: GgufHeader, found: dict[str, Stored]) -> None:
    """Hold the sizes in the metadata against the tensors. Low-rank sizes are guesses of the converter and not held."""
    layers = {name.split(".")[1] for name in found if name.startswith("blocks.")}
    actual = {"block_count": len(layers)}
    if "emb.weight" in found:
        actual["embedding_length"] = found["emb.weight"].shape[-1]
    if "blocks.0.ffn.key.weight" in found:
        actual["feed_forward_length"] = found["blocks.0.ffn.key.weight"].shape[0]
    for key, size in actual.items():
        said = header.number(f"{header.architecture}.{key}")
        if said is not None and said != size:
            raise ModelFileError(
                f"{header.path}: its metadata gives {key} as {said}, but its tensors as {size}; download it again"
            )


def _positive(header: GgufHeader, key: str) -> int:
    found = header.number(f"{header.architecture}.{key}")
    if not isinstance(found, int) or found < 1:
        raise ModelFileError(f"{header.path}: {header.architecture}.{key} is {found}; convert the model again")
    return found
