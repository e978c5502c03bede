"""LoRA files merged into a model: W + lora_B @ lora_A * alpha / rank, computed when W is taken.

A file may also hold whole tensors that were trained beside the adapters (norms, time parameters); they take the place
of the model's. The alpha of the training is in no file and must be known. Knows nothing of generations.
Source: Blealtan/RWKV-LM-LoRA, RWKV-v4neo/merge_lora.py; the names of web-rwkv: convert_safetensors.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rwkv_runtime.errors import WeightsError
from rwkv_runtime.weights import Weights
from rwkv_runtime.weights.deferred import Stored, computed, made

DOWN, UP = ".lora_A", ".lora_B"  # [rank, in] and [out, rank]
WEB_DOWN, WEB_UP = ".lora.0", ".lora.1"  # [in, rank] and [out, rank]


def merged(base: Weights, adapter: Weights, alpha: float) -> Weights:
    """Return the model with the adapter in it. Raises WeightsError if the adapter does not fit the model."""
    tensors = dict(base.stored())
    added = _with_rwkv_lm_names(adapter.stored())
    pairs = {name.removesuffix(DOWN) for name in added if name.endswith(DOWN)}
    if not pairs:
        raise WeightsError(f"{adapter.source}: has no lora_A; give the file of a LoRA, or load it as a model")
    for name, stored in added.items():
        if not name.endswith((DOWN, UP)):
            tensors[name] = _replacing(adapter, tensors, name, stored)
    for pair in sorted(pairs):
        name = f"{pair}.weight"
        tensors[name] = _updated(adapter, tensors, name, (added[pair + DOWN], added.get(pair + UP)), alpha)
    if stray := sorted(name for name in added if name.endswith(UP) and name.removesuffix(UP) not in pairs):
        raise WeightsError(f"{adapter.source}: has {stray[0]}, but not its lora_A; get the whole file")
    return Weights(base.source, tensors, container=base.container, naming=base.naming)


def _with_rwkv_lm_names(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    renamed: dict[str, Stored] = {}
    for name, stored in tensors.items():
        if name.endswith(WEB_DOWN):
            renamed[name.removesuffix(WEB_DOWN) + DOWN] = made(stored).transpose(-1, -2)
        else:
            renamed[name.removesuffix(WEB_UP) + UP if name.endswith(WEB_UP) else name] = stored
    return renamed


def _replacing(adapter: Weights, tensors: Mapping[str, Stored], name: str, stored: Stored) -> Stored:
    if name not in tensors:
        raise WeightsError(f"{adapter.source}: {name} has no place in the model; it belongs to another kind of model")
    return stored


def _updated(
    adapter: Weights, tensors: Mapping[str, Stored], name: str, pair: tuple[Stored, Stored | None], alpha: float
) -> Stored:
    down, up = pair
    if name not in tensors or up is None:
        missing = f"{name} is not in the model" if up is not None else f"{name} has no lora_B"
        raise WeightsError(f"{adapter.source}: {missing}; the LoRA belongs to another model or is incomplete")
    weight, rank = tensors[name], down.shape[0]
    if (tuple(up.shape), tuple(down.shape)) != ((weight.shape[0], rank), (rank, weight.shape[-1])):
        raise WeightsError(
            f"{adapter.source}: {list(up.shape)} times {list(down.shape)} does not fit {name} of {list(weight.shape)}; "
            "the LoRA belongs to another model"
        )

    def add(whole: Tensor) -> Tensor:
        return whole.float().addmm(made(up).float(), made(down).float(), alpha=alpha / rank)

    return computed(weight, add)
