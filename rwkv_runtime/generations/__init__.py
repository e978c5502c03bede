"""The RWKV architectures, one file each, and how tensor names and shapes tell them apart.

Every module of this folder has `GENERATIONS`, the names of those it reads; `recognise(weights, kinds)`, which of them
these tensors are, or None; and `read(weights, plan)`, which takes the tensors of a network to where the plan puts them.
`kinds` are the names of tensors within a layer, without its number. What does not run here is refused by its name, with
the tensor that gives it away.
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from typing import NamedTuple, Protocol, cast

from rwkv_runtime.errors import UnsupportedModelError, WeightsError
from rwkv_runtime.network import Network
from rwkv_runtime.placement import Plan
from rwkv_runtime.weights import Weights


class Generation(Protocol):
    """What a module of this folder offers."""

    GENERATIONS: tuple[str, ...]

    def recognise(self, weights: Weights, kinds: frozenset[str]) -> str | None:
        """Name the generation, or None if the tensors are of none that this module reads."""

    def read(self, weights: Weights, plan: Plan) -> Network:
        """Take the tensors of a network. Raises WeightsError."""


class Recognised(NamedTuple):
    """What a set of tensors is, and the tensor for which it does not run here, or None if it does."""

    generation: str
    refused_for: str | None


REFUSED = (
    ("*rosa*", "8 with ROSA"),
    ("ffn.enn.*", "8, a release candidate"),
    ("qkv.k1", "7b, DeepEmbed with attention"),
    ("qkv.*", "8, a hybrid with attention"),
    ("att.time_maa_rk*", "6, the research variant x060b or x060c"),
    ("att.gate_w1", "6, the research variant x060a"),
    ("att*.time_w", "1"),
    ("att*.time_alpha", "1"),
    ("att*.time_mix", "2"),
    ("tiny_*", "model with tiny attention, a research variant"),
    ("ffnPre.*", "model with a channel mix as its first half, a research variant"),
    ("ffn.aa.*", "model with MishGLU, a research variant"),
    ("pos_emb*", "model with position embeddings, a research variant"),
    ("head_q.*", "model with attention in its head, a research variant"),
)
"""Tensors that nothing here has a use for, and which RWKV- has them. Source: the model files in RWKV-LM, v1 to v8."""


def read(weights: Weights, plan: Plan | None = None) -> Network:
    """Take the tensors of a network. Raises UnsupportedModelError for one that does not run here, by its name.

    Without a plan, everything is on the CPU in float32.
    """
    found = recognise(weights)
    if found is None:
        raise WeightsError(
            f"{weights.source}: no tensor names of an RWKV language model among {len(weights.names())} tensors; "
            "is it a LoRA, a tuned state or another kind of model?"
        )
    readers = {name: module for module in modules() for name in module.GENERATIONS}
    if found.refused_for is not None:
        raise UnsupportedModelError(
            f"{weights.source}: an RWKV-{found.generation}, as {found.refused_for} shows; this version runs RWKV-"
            f"{', '.join(readers)}"
        )
    return readers[found.generation].read(weights, plan or Plan())


def recognise(weights: Weights) -> Recognised | None:
    """Say which generation the tensors are of, or None if of none that is known. Their order does not matter."""
    kinds = {_kind(name): name for name in sorted(weights.names(), reverse=True)}
    for pattern, refused in REFUSED:
        if found := sorted(fnmatch.filter(kinds, pattern)):
            return Recognised(refused, kinds[found[0]])
    names = (module.recognise(weights, frozenset(kinds)) for module in modules())
    generation = next((name for name in names if name is not None), None)
    if generation == "4" and weights.shape(kinds["att.time_decay"])[1:] == (1,):
        return Recognised("3", f"{kinds['att.time_decay']} of {list(weights.shape(kinds['att.time_decay']))}")
    return None if generation is None else Recognised(generation, None)


def modules() -> list[Generation]:
    """The modules of this folder, in the order of their names."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return [cast(Generation, importlib.import_module(f"rwkv_runtime.generations.{name}")) for name in names]


def _kind(name: str) -> str:
    """A name without the number of its layer: blocks.3.att.key.weight → att.key.weight."""
    parts = name.split(".", 2)
    return parts[2] if parts[0] == "blocks" and len(parts) == 3 else name
