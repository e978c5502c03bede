"""What a model file is: container, naming, generation, sizes, ways of storing, tokenizer, without running it.

Reads headers and maps tensors; quantized ones are not unpacked. A model of a generation that does not run here is
described like any other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rwkv_runtime import generations, weights
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.identity import SUFFIXES, ModelFiles, find
from rwkv_runtime.weights import INTEGERS, Weights


@dataclass(frozen=True)
class Description:
    """What `inspect` found. Sizes are None where the tensors do not show them."""

    path: Path
    container: str
    naming: str
    generation: str | None
    runs_here: bool
    n_layer: int
    n_embd: int | None
    n_head: int | None
    head_size: int | None
    n_ffn: int | None
    vocab_size: int | None
    parameters: int
    nbytes: int
    stored_as: Mapping[str, int]
    tokenizer: str
    tensors: Mapping[str, tuple[int, ...]]


def inspect(source: str | Path) -> Description:
    """Describe a model. Raises ModelFileError if it is none, TokenizerError if its tokenizer is of an unknown kind."""
    files = find(source)
    stored = weights.read(files.weights_path)
    shapes = {name: stored.shape(name) for name in sorted(stored.names())}
    recognised = generations.recognise(stored)
    width = _axis(shapes, "emb.weight", -1)
    heads, ways = _heads(shapes), _ways_of_storing(stored)
    return Description(
        path=files.weights_path,
        container=stored.container,
        naming=stored.naming,
        generation=recognised.generation if recognised else None,
        runs_here=recognised is not None and recognised.refused_for is None,
        n_layer=len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
        n_embd=width,
        n_head=heads,
        head_size=width // heads if width and heads else None,
        n_ffn=_axis(shapes, "blocks.0.ffn.key.weight", 0),
        vocab_size=_axis(shapes, "emb.weight", 0),
        parameters=sum(ways.values()),
        nbytes=sum(path.stat().st_size for path in files.parts),
        stored_as=ways,
        tokenizer=_tokenizer(files),
        tensors=shapes,
    )


def models_below(folder: Path) -> list[Description]:
    """Describe the files below a folder that are whole models by their content; what is none is passed over."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(SUFFIXES):
            try:
                one = inspect(path)
            except RwkvError:
                continue
            if one.generation is not None and {"emb.weight", "head.weight"} <= one.tensors.keys():
                found.append(one)
    return found


def _ways_of_storing(stored: Weights) -> dict[str, int]:
    """Parameters by how they are stored, most first; tables of tokens are none."""
    found: Counter[str] = Counter()
    for name in stored.names():
        if stored.dtype(name) in INTEGERS:
            continue
        found[stored.stored_as(name)] += math.prod(stored.shape(name))
    return dict(found.most_common())


def _axis(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int | None:
    shape = shapes.get(name)
    return shape[axis] if shape else None


def _heads(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The number of heads, by the first tensor that has one axis of that length; RWKV-4 has none."""
    if "blocks.0.att.ln_x.weight" not in shapes:
        return None
    for name in ("r_k", "time_faaaa", "time_decay"):
        if shape := shapes.get(f"blocks.0.att.{name}"):
            return shape[0]
    return None


def _tokenizer(files: ModelFiles) -> str:
    """Where the tokenizer comes from, for people."""
    if files.tokenizer_path is None:
        return "World vocabulary"
    return "inside the file" if files.tokenizer_path == files.weights_path else files.tokenizer_path.name
