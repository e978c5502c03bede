"""One token of each of a few lanes through all layers of RWKV-7 in one call.

The structs are those of src/abi.hpp. Knows matrices and the operations' values; nothing of how layers are read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from rwkv_runtime import huge_pages
from rwkv_runtime.native.library import LARGEST_HEAD, LARGEST_WIDTH, MOST_LANES, Library, Threads, address
from rwkv_runtime.native.matrices import MatrixStruct, described, multipliable
from rwkv_runtime.network import Tensors
from rwkv_runtime.norms import HEAD_NORM_EPS, NORM_EPS
from rwkv_runtime.operations import Layer7


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


class _Decode7(Structure):
    _fields_ = (
        ("threads", Threads),
        *((name, c_int64) for name in ("layers", "lanes", "heads", "size", "hidden")),
        ("layer", POINTER(_Layer7)),
        ("lengths", c_void_p),
        ("stream", c_void_p),
        *((name, c_void_p) for name in _STATE),
        *((f"{name}_after", c_void_p) for name in _STATE),
        ("residual", c_void_p),
        ("scratch", c_void_p),
        *((name, c_float) for name in ("epsilon", "head_epsilon", "decay_scale")),
    )


@dataclass(frozen=True)
class Step7:
    """One token of each of a few lanes through all layers of an RWKV-7."""

    library: Library
    layers: Sequence[Layer7]
    hidden: int  # the most rows or columns of any matrix
    described: ctypes.Array[_Layer7]  # the same for the kernel, by address

    @classmethod
    def of(cls, library: Library, layers: Sequence[Layer7]) -> Step7 | None:
        """The step through these layers, or None if the kernels lack one for a kind of matrix among them."""
        matrices = [matrix for layer in layers for matrix in layer.matrices().values()]
        heads, size = layers[0].own.bonus.shape
        if size > LARGEST_HEAD or heads * size > LARGEST_WIDTH or not all(map(multipliable, matrices)):
            return None
        # The low-rank matrices of every layer have a size of their own, and any may be the largest of all.
        hidden = max(max(one.rows, one.columns) for one in matrices)
        return cls(library, layers, hidden, (_Layer7 * len(layers))(*map(_described_layer, layers)))

    @property
    def most_lanes(self) -> int:
        """What fits the kernels' buffers."""
        return MOST_LANES

    def __call__(
        self, stream: Tensor, state: Tensors, lengths: Sequence[int], room: Tensors | None = None
    ) -> tuple[Tensor, Tensors]:
        """From embeddings [B, D] and a state [L, B, ...]; returns (the residual stream [B, D], the new state)."""
        heads, size = self.layers[0].own.bonus.shape
        residual, scratch = torch.empty_like(stream), torch.empty(len(stream), 18 * heads * size + 2 * self.hidden)
        taken = torch.tensor(lengths)
        before = {name: state[name].contiguous() for name in _STATE}
        after = {name: huge_pages.room(one.shape, one.device) for name, one in before.items()} if room is None else room
        call = _Decode7(
            threads=self.library.threads(),
            layers=len(self.layers),
            lanes=len(stream),
            lengths=taken.data_ptr(),
            heads=heads,
            size=size,
            hidden=self.hidden,
            layer=self.described,
            stream=address(stream),
            residual=residual.data_ptr(),
            scratch=scratch.data_ptr(),
            epsilon=NORM_EPS,
            head_epsilon=HEAD_NORM_EPS,
            decay_scale=self.layers[0].own.decay_scale,
            **{name: address(tensor) for name, tensor in before.items()},
            **{f"{name}_after": address(tensor) for name, tensor in after.items()},
        )
        self.library.call_filled("decode7", call)
        return residual, after


def _described_layer(layer: Layer7) -> _Layer7:
    own = layer.own
    vectors = {name: getattr(own, name) for name in _OWN}
    vectors |= {"norm_weight": own.norm.weight, "norm_bias": own.norm.bias}
    return _Layer7(
        norm1=_Norm(address(layer.attention_norm.weight), address(layer.attention_norm.bias)),
        norm2=_Norm(address(layer.feed_norm.weight), address(layer.feed_norm.bias)),
        mix=address(layer.mix),
        ffn_mix=address(layer.ffn_mix),
        **{name: described(matrix) for name, matrix in layer.matrices().items()},
        **{name: None if vector is None else address(vector) for name, vector in vectors.items()},
    )
