"""All layers of RWKV-7 in one call: for one token of each of a few lanes, and for windows of many.

The structs are those of src/abi.hpp. Knows matrices and the operations' values; nothing of how layers are read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rwkv_runtime import huge_pages
from rwkv_runtime.errors import StateError
from rwkv_runtime.lengths import Lengths
from rwkv_runtime.matrices import Matrix
from rwkv_runtime.native.library import DTYPES, LARGEST_HEAD, LARGEST_WIDTH, MOST_LANES, Library, Threads, address
from rwkv_runtime.native.matrices import FEW_ROWS, MatrixStruct, in_words, multipliable
from rwkv_runtime.native.matrices import described as described_matrix
from rwkv_runtime.network import Tensors
from rwkv_runtime.norms import HEAD_NORM_EPS, NORM_EPS
from rwkv_runtime.operations import LARGE, Layer7


class _Norm(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


_LOW_RANK = tuple(f"{name}_{half}" for name in ("decay", "rate", "gate", "blend") for half in ("down", "up"))
_MATRICES = ("receptance", "key", "value", "output", *_LOW_RANK, "ffn_key", "ffn_value")
_OWN = ("decay_bias", "rate_bias", "blend_bias", "removal_scale", "key_rate", "bonus")
_VECTORS = (*_OWN, "norm_weight", "norm_bias")


class _Layer7(Structure):
    _fields_ = (
        ("norm1", _Norm),
        ("norm2", _Norm),
        ("mix", c_void_p),
        ("ffn_mix", c_void_p),
        *((name, MatrixStruct) for name in _MATRICES),
        *((name, c_void_p) for name in _VECTORS),
    )


_STATE = ("att_shift", "wkv", "ffn_shift")


_SIZES = ("heads", "size", "hidden")
_REST: tuple[tuple[str, Any], ...] = (
    ("layer", POINTER(_Layer7)),
    ("lengths", c_void_p),
    ("stream", c_void_p),
    *((name, c_void_p) for name in _STATE),
    *((f"{name}_after", c_void_p) for name in _STATE),
    ("residual", c_void_p),
    ("scratch", c_void_p),
    *((name, c_float) for name in ("epsilon", "head_epsilon", "decay_scale")),
)


class _Decode7(Structure):
    _fields_ = (("threads", Threads), *((name, c_int64) for name in ("layers", "lanes", *_SIZES)), *_REST)


class _Window7(Structure):
    _fields_ = (
        ("threads", Threads),
        *((name, c_int64) for name in ("layers", "lanes", "tokens", *_SIZES)),
        ("ends", c_void_p),
        *_REST,
        ("dtype", c_int32),
    )


@dataclass(frozen=True)
class _Described:
    """All layers for the kernels, by address."""

    layers: Sequence[Layer7]  # whose tensors these are
    structs: ctypes.Array[_Layer7]
    hidden: int  # the most rows or columns of any matrix

    @classmethod
    def of(cls, layers: Sequence[Layer7]) -> _Described | None:
        """The layers, or None if the kernels take none of their size or with a kind of matrix among them."""
        matrices = _matrices(layers)
        heads, size = layers[0].own.bonus.shape
        if size > LARGEST_HEAD or heads * size > LARGEST_WIDTH or not all(map(multipliable, matrices)):
            return None
        # The low-rank matrices of every layer have a size of their own, and any may be the largest of all.
        hidden = max(max(one.rows, one.columns) for one in matrices)
        return cls(layers, (_Layer7 * len(layers))(*map(_described_layer, layers)), hidden)

    def fields(
        self, library: Library, x: Tensor, lengths: Tensor, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """What both calls say alike."""
        heads, size = self.layers[0].own.bonus.shape
        return {
            "threads": library.threads(),
            "layers": len(self.layers),
            "lanes": len(x),
            "heads": heads,
            "size": size,
            "hidden": self.hidden,
            "layer": self.structs,
            "lengths": lengths.data_ptr(),
            "stream": address(x),
            **{name: address(tensor) for name, tensor in before.items()},
            **{f"{name}_after": address(tensor) for name, tensor in after.items()},
            "epsilon": NORM_EPS,
            "head_epsilon": HEAD_NORM_EPS,
            "decay_scale": self.layers[0].own.decay_scale,
        }


@dataclass(frozen=True)
class Step7:
    """One token of each of a few lanes through all layers of an RWKV-7."""

    library: Library
    described: _Described

    @property
    def most_lanes(self) -> int:
        """What fits the kernels' buffers."""
        return MOST_LANES

    def __call__(
        self, stream: Tensor, state: Tensors, lengths: Sequence[int], room: Tensors | None = None
    ) -> tuple[Tensor, Tensors]:
        """From embeddings [B, D] and a state [L, B, ...]; returns (the residual stream [B, D], the new state)."""
        lanes, width = stream.shape
        residual, scratch = torch.empty_like(stream), torch.empty(lanes, 18 * width + 2 * self.described.hidden)
        before, after = _states(state, room)
        taken = torch.tensor(lengths)
        call = _Decode7(
            residual=residual.data_ptr(),
            scratch=scratch.data_ptr(),
            **self.described.fields(self.library, stream, taken, before, after),
        )
        self.library.call_filled("decode7", call)
        return residual, after


@dataclass(frozen=True)
class Window7:
    """Windows of many tokens through all layers of an RWKV-7: what layer by layer gives, to the bit."""

    library: Library
    described: _Described
    dtype: torch.dtype  # of what lies between two matrices

    @classmethod
    def of(cls, library: Library, described: _Described) -> Window7 | None:
        """The way through these layers, or None if the kernels lack one for their matrices."""
        layers = described.layers
        types = {one.activations for layer in layers for name, one in layer.matrices().items() if name in LARGE}
        if len(types) != 1 or not all(in_words(library, one) for one in _matrices(layers)):
            return None
        (dtype,) = types
        return cls(library, described, dtype)

    @property
    def fewest_tokens(self) -> int:
        """Of all lanes together; fewer are multiplied by other kernels, which add up in another order."""
        return FEW_ROWS + 1

    def __call__(
        self, x: Tensor, state: Tensors, lengths: Lengths, room: Tensors | None = None
    ) -> tuple[Tensor, Tensors]:
        """From embeddings [B, T, D] and a state [L, B, ...]; returns (the residual stream [B, T, D], the new state)."""
        residual = torch.empty_like(x)
        return residual, self._read(x, state, lengths, room, residual=residual.data_ptr())

    def ending(self, x: Tensor, state: Tensors, lengths: Lengths) -> tuple[Tensor, Tensors]:
        """The row of each lane's last token [B, D], and the new state. The last layer mixes channels of those alone."""
        ends = x.new_empty(len(x), x.shape[2])
        return ends, self._read(x, state, lengths, None, ends=ends.data_ptr())

    def advance(self, x: Tensor, state: Tensors, lengths: Lengths) -> Tensors:
        """The new state alone, without the channel mix of the last layer."""
        return self._read(x, state, lengths, None)

    def _read(
        self,
        x: Tensor,
        state: Tensors,
        lengths: Lengths,
        room: Tensors | None,
        *,
        residual: int | None = None,
        ends: int | None = None,
    ) -> Tensors:
        lanes, tokens, width = x.shape
        item, hidden = self.dtype.itemsize, self.described.hidden
        needed = lanes * tokens * (width * (8 + 16 * item) + hidden * (2 + item) + 4) + 1024
        scratch = huge_pages.room((-(-needed // 4),), x.device)
        before, after = _states(state, room)
        call = _Window7(
            tokens=tokens,
            residual=residual,
            ends=ends,
            scratch=scratch.data_ptr(),
            dtype=DTYPES[self.dtype],
            **self.described.fields(self.library, x, lengths.wide, before, after),
        )
        self.library.call_filled("window7", call)
        return after


def ways(library: Library, layers: Sequence[Layer7]) -> tuple[Step7 | None, Window7 | None]:
    """The ways of one token and of windows through these layers; None where the kernels lack one for their matrices."""
    described = _Described.of(layers)
    return (None, None) if described is None else (Step7(library, described), Window7.of(library, described))


def _matrices(layers: Sequence[Layer7]) -> list[Matrix]:
    return [matrix for layer in layers for matrix in layer.matrices().values()]


def _states(state: Tensors, room: Tensors | None) -> tuple[Tensors, Tensors]:
    """The state as kernels read it, and where they write the new one."""
    before = {name: state[name].contiguous() for name in _STATE}
    if room is not None:
        for name, one in before.items():
            if room[name].shape != one.shape:
                raise StateError(f"room for {name} is {list(room[name].shape)}, the state is {list(one.shape)}")
        return before, room
    return before, {name: huge_pages.room(one.shape, one.device) for name, one in before.items()}


def _described_layer(layer: Layer7) -> _Layer7:
    own = layer.own
    vectors = {name: getattr(own, name) for name in _OWN}
    vectors |= {"norm_weight": own.norm.weight, "norm_bias": own.norm.bias}
    return _Layer7(
        norm1=_Norm(address(layer.attention_norm.weight), address(layer.attention_norm.bias)),
        norm2=_Norm(address(layer.feed_norm.weight), address(layer.feed_norm.bias)),
        mix=address(layer.mix),
        ffn_mix=address(layer.ffn_mix),
        **{name: described_matrix(matrix) for name, matrix in layer.matrices().items()},
        **{name: None if vector is None else address(vector) for name, vector in vectors.items()},
    )
