"""The RWKV architectures, one file each, and how tensor names tell them apart.

`recognise` knows all generations by name, so that a model of another one is refused by its name; `read` makes a
network of those that run here.
"""

from __future__ import annotations

from collections.abc import Callable

from rwkv_runtime.errors import UnsupportedModelError, WeightsError
from rwkv_runtime.generations.v7 import Rwkv7
from rwkv_runtime.weights import Weights

READERS: dict[str, Callable[[Weights], Rwkv7]] = {"7": Rwkv7.read}


def read(weights: Weights) -> Rwkv7:
    """Take the tensors of a network. Raises UnsupportedModelError for a generation without a reader."""
    generation = recognise(weights.names())
    if generation is None:
        raise WeightsError(
            f"{weights.source}: no tensor names of an RWKV language model among {len(weights.names())} tensors; "
            "is it a LoRA, a tuned state or another kind of model?"
        )
    if generation not in READERS:
        raise UnsupportedModelError(
            f"{weights.source}: an RWKV-{generation} model; this version runs RWKV-{', '.join(READERS)} only"
        )
    return READERS[generation](weights)


def recognise(names: frozenset[str]) -> str | None:
    """Name the generation that a set of RWKV-LM tensor names belongs to, or None. Order does not matter.

    Source: the names in RWKV-LM's model files; v5 subversions are not told apart, as none of them runs here.
    """
    kinds = {name.split(".", 2)[2] for name in names if name.startswith("blocks.") and name.count(".") >= 2}
    if "att.r_k" in kinds:
        return _recognise_seven(kinds)
    if "att.time_maa_x" in kinds or "att.time_maa_r" in kinds:
        return "6"
    if "att.time_decay" in kinds:
        return "5" if "att.ln_x.weight" in kinds else "4"
    if "att.time_w" in kinds:
        return "3 or older"
    return None


def _recognise_seven(kinds: set[str]) -> str:
    if "ffn.enn.weight" in kinds:
        return "8"
    if "qkv.k1" in kinds:
        return "7b"
    return "7a" if "ffn.s_emb.weight" in kinds else "7"
