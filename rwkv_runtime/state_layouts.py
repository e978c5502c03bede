"""States as other programs lay them out, to and from ours.

Ours is named tensors of [L, ...] for L layers: for RWKV-4 `att_shift`, `wkv_num`, `wkv_den`, `wkv_max` and `ffn_shift`,
each [L, D]; for the others `att_shift` [L, D], `wkv` and `ffn_shift` [L, D], with `wkv` [L, H, K, V] in RWKV-5 and 6
and [L, H, V, K] in RWKV-7. A program's name is in each function's name. What is handed out may be written; what is
handed in is copied, to float32. All raise StateError for a generation that the program has no such layout for, and
every `from_*` for shapes that are not those of the model's state. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rwkv_runtime.errors import StateError
from rwkv_runtime.state import State

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

FOUR, FIVE, SIX, SEVEN = ("4",), ("5.0", "5.1", "5.2"), ("6",), ("7", "7a")
TRANSFORMERS = ("ffn_shift", "att_shift", "wkv_num", "wkv_den", "wkv_max")
RWKV_CPP = {**dict.fromkeys(FOUR, TRANSFORMERS), **dict.fromkeys(SEVEN, ("ffn_shift", "att_shift", "wkv"))}

AlbatrossOrder = Literal["vk_v1", "kv_v2"]


def to_rwkv(state: State) -> list[Tensor]:
    """The list of the `rwkv` package (0.8.32): layer after layer, a layer's tensors in our order."""
    layers = len(state.tensors["att_shift"])
    return [tensor[layer].clone() for layer in range(layers) for tensor in state.tensors.values()]


def from_rwkv(slots: Sequence[Tensor], model: Model, tokens_seen: int) -> State:
    """A state from the list of the `rwkv` package."""
    names = list(model.initial_state().tensors)
    _check(len(slots), model.config.n_layer * len(names), "tensors")
    stacked = (torch.stack([slot.float() for slot in slots[place :: len(names)]]) for place in range(len(names)))
    return _state(dict(zip(names, stacked, strict=True)), model, tokens_seen)


def to_transformers(state: State) -> list[Tensor]:
    """The five tensors [1, D, L] of transformers' RwkvModel, for RWKV-4."""
    _check_generation(state.generation, "transformers", FOUR)
    return [state.tensors[name].T.unsqueeze(0).clone() for name in TRANSFORMERS]


def from_transformers(slots: Sequence[Tensor], model: Model, tokens_seen: int) -> State:
    """A state from the five tensors [1, D, L] of transformers' RwkvModel, for RWKV-4."""
    _check_generation(model.config.generation, "transformers", FOUR)
    _check([tuple(slot.shape) for slot in slots], [(1, model.config.n_embd, model.config.n_layer)] * 5, "as shapes")
    return _state({name: slot[0].T for name, slot in zip(TRANSFORMERS, slots, strict=True)}, model, tokens_seen)


def to_rwkv_cpp(state: State) -> Tensor:
    """The numbers of rwkv.cpp, for RWKV-4 and 7: layer after layer, with the shift of the channel mix first."""
    _check_generation(state.generation, "rwkv.cpp", (*FOUR, *SEVEN))
    return torch.cat([state.tensors[name].flatten(1) for name in RWKV_CPP[state.generation]], dim=1).flatten()


def from_rwkv_cpp(numbers: Tensor, model: Model, tokens_seen: int) -> State:
    """A state from the numbers of rwkv.cpp, for RWKV-4 and 7."""
    _check_generation(model.config.generation, "rwkv.cpp", (*FOUR, *SEVEN))
    start = model.initial_state().tensors
    _check(tuple(numbers.shape), (sum(tensor.numel() for tensor in start.values()),), "as a shape")
    names = RWKV_CPP[model.config.generation]
    parts = torch.split(numbers.view(model.config.n_layer, -1), [start[name][0].numel() for name in names], dim=1)
    shaped = {name: part.reshape(start[name].shape) for name, part in zip(names, parts, strict=True)}
    return _state(shaped, model, tokens_seen)


def to_web_rwkv(state: State) -> Tensor:
    """The rows [L, N + 2, D] of web-rwkv, for RWKV-5, 6 and 7: att_shift, one per key channel, ffn_shift."""
    _check_generation(state.generation, "web-rwkv", (*FIVE, *SIX, *SEVEN))
    rows = _by_key(state.tensors["wkv"], state.generation).transpose(1, 2).flatten(2)
    shifts = [state.tensors[name].unsqueeze(1) for name in ("att_shift", "ffn_shift")]
    return torch.cat([shifts[0], rows, shifts[1]], dim=1)


def from_web_rwkv(rows: Tensor, model: Model, tokens_seen: int) -> State:
    """A state from the rows [L, N + 2, D] of web-rwkv, for RWKV-5, 6 and 7."""
    config = model.config
    _check_generation(config.generation, "web-rwkv", (*FIVE, *SIX, *SEVEN))
    _check(tuple(rows.shape), (config.n_layer, config.head_size + 2, config.n_embd), "as a shape")
    heads = rows[:, 1:-1].reshape(config.n_layer, config.head_size, config.n_head, config.head_size).transpose(1, 2)
    wkv = _by_key(heads, config.generation)
    return _state({"att_shift": rows[:, 0], "wkv": wkv, "ffn_shift": rows[:, -1]}, model, tokens_seen)


def to_albatross(state: State, order: AlbatrossOrder) -> tuple[Tensor, Tensor]:
    """The shifts [L, 2, 1, D] and the memory [L, 1, H, N, N] of Albatross, for RWKV-7.

    `order` is its own name for the last two axes: "vk_v1" is ours, "kv_v2" (the default since 2026-07) the other.
    """
    _check_generation(state.generation, "Albatross", SEVEN)
    wkv = state.tensors["wkv"] if order == "vk_v1" else state.tensors["wkv"].mT
    shifts = torch.stack([state.tensors["att_shift"], state.tensors["ffn_shift"]], dim=1)
    return shifts.unsqueeze(2), wkv.unsqueeze(1).clone()


def from_albatross(shifts: Tensor, wkv: Tensor, order: AlbatrossOrder, model: Model, tokens_seen: int) -> State:
    """A state from the shifts [L, 2, 1, D] and the memory [L, 1, H, N, N] of Albatross, for RWKV-7."""
    config = model.config
    _check_generation(config.generation, "Albatross", SEVEN)
    memory = (config.n_layer, 1, config.n_head, config.head_size, config.head_size)
    _check((tuple(shifts.shape), tuple(wkv.shape)), ((config.n_layer, 2, 1, config.n_embd), memory), "as shapes")
    ours = wkv.squeeze(1) if order == "vk_v1" else wkv.squeeze(1).mT
    return _state({"att_shift": shifts[:, 0, 0], "wkv": ours, "ffn_shift": shifts[:, 1, 0]}, model, tokens_seen)


def _by_key(wkv: Tensor, generation: str) -> Tensor:
    """Our memory [L, H, ...] as [L, H, K, V], or that as ours: the same, except in RWKV-7, which is transposed."""
    return wkv.mT if generation in SEVEN else wkv


def _state(tensors: Mapping[str, Tensor], model: Model, tokens_seen: int) -> State:
    start = model.initial_state()
    for name, tensor in start.tensors.items():
        _check(tuple(tensors[name].shape), tuple(tensor.shape), f"as the shape of {name}")
    ours = {name: tensors[name].to(torch.float32, copy=True).contiguous() for name in start.tensors}
    return State(start.generation, start.model_fingerprint, tokens_seen, ours)


def _check(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise StateError(f"{found} {what} should be {wanted}; use a state of this model, of one sequence")


def _check_generation(generation: str, program: str, known: tuple[str, ...]) -> None:
    if generation not in known:
        raise StateError(
            f"no layout of {program} for RWKV-{generation} is known, only for RWKV-{', '.join(known)}; "
            "use that of the rwkv package"
        )
