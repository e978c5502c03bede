"""What happens between the matrices of a layer, as a few large operations, and all of them in torch.

A layer says what is computed; which `Operations` compute it is a value that it holds, so other implementations (see
native/) take the place of the ones here. They are the specification. Knows nothing of names, files or of how layers
are stacked.

Shapes, for B lanes, T tokens, width D, H heads of size N: rows are [B, T, D], a memory is [B, H, N, N]. Of each lane
only `lengths[lane]` tokens count; rows past them mean nothing, and no memory takes them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.kernels.wkv4 import Sums, wkv4_chunked, wkv4_recurrent
from rwkv_runtime.kernels.wkv6 import wkv6_chunked, wkv6_recurrent
from rwkv_runtime.kernels.wkv7 import wkv7_chunked, wkv7_recurrent
from rwkv_runtime.lengths import Lengths
from rwkv_runtime.matrices import Matrix, for_torch
from rwkv_runtime.network import Tensors
from rwkv_runtime.norms import HeadNorm, Norm

NORMALIZE_EPS = 1e-12


class Stream(NamedTuple):
    """The residual stream [B, T, D] and what is still to be added to it, which the next norm does in passing."""

    x: Tensor
    added: Tensor | None = None

    def on(self, device: torch.device) -> Stream:
        """The same on a device."""
        return Stream(self.x.to(device), None if self.added is None else self.added.to(device))

    def summed(self) -> Tensor:
        """The stream with all that is added to it."""
        return self.x if self.added is None else self.x + self.added


class Entered(NamedTuple):
    """What the first step of half a layer gives."""

    x: Tensor  # [B, T, D]: the stream with what was to be added
    mixes: Tensor  # [mixes, B, T, D] of its norms with those of the tokens before
    last: Tensor  # [B, D]: the norm of each lane's last token, or what was before its first if it has none


class Steps7(NamedTuple):
    """What the matrices of RWKV-7 make of each token, before any bias or activation. All are [B, T, D]."""

    receptance: Tensor
    key: Tensor
    value: Tensor
    gate: Tensor  # the gate itself
    decay: Tensor
    rate: Tensor
    blend: Tensor | None  # None, as the next one, in the first layer
    first_value: Tensor | None


@dataclass(frozen=True)
class Parameters7:
    """What RWKV-7 has per channel between its matrices: [D] but for the bonus."""

    decay_bias: Tensor
    rate_bias: Tensor
    blend_bias: Tensor | None
    removal_scale: Tensor
    key_rate: Tensor
    bonus: Tensor  # [H, N]
    norm: HeadNorm
    decay_scale: float  # the log decay of a channel that forgets fastest


@dataclass(frozen=True)
class Layer7:
    """All that a layer of RWKV-7 has, for a step through all layers at once."""

    attention_norm: Norm
    mix: Tensor  # [6, 1, 1, D]
    receptance: Matrix
    key: Matrix
    value: Matrix
    output: Matrix
    low_rank: Mapping[str, Matrix]  # decay_down, decay_up, and so for rate, gate and, but in the first layer, blend
    own: Parameters7
    feed_norm: Norm
    ffn_mix: Tensor  # [1, 1, 1, D]
    ffn_key: Matrix
    ffn_value: Matrix

    def matrices(self) -> dict[str, Matrix]:
        """All matrices by their names."""
        named = {name: matrix for name, matrix in vars(self).items() if name in LARGE}
        return {**named, **self.low_rank}


LARGE = ("receptance", "key", "value", "output", "ffn_key", "ffn_value")


class Steps6(NamedTuple):
    """What the matrices of RWKV-5 and 6 make of each token. All are [B, T, D]."""

    receptance: Tensor
    key: Tensor
    value: Tensor
    gate: Tensor | None  # before its SiLU; 5.0 has none
    decay: Tensor | None  # log(-log decay), without its bias; None where all tokens have the same


@dataclass(frozen=True)
class Parameters6:
    """What RWKV-5 and 6 have per channel between their matrices."""

    decay_bias: Tensor  # [D], added to log(-log decay)
    bonus: Tensor  # [H, N]
    norm: HeadNorm


class Steps4(NamedTuple):
    """What the matrices of RWKV-4 make of each token: [B, T, D]."""

    receptance: Tensor  # before its sigmoid
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class Parameters4:
    """What RWKV-4 has per channel: [D]."""

    log_decay: Tensor
    bonus: Tensor


class Step(Protocol):
    """One token of each lane through all layers."""

    @property
    def most_lanes(self) -> int:
        """How many lanes it takes."""

    def __call__(
        self, stream: Tensor, state: Tensors, lengths: Sequence[int], room: Tensors | None = None, /
    ) -> tuple[Tensor, Tensors]:
        """From embeddings [B, D] and a state [L, B, ...]; returns (the residual stream [B, D], the new state).

        A lane of length 0 has no token: its state stays, and its row means nothing. The new state is written to `room`,
        if that is given.
        """


class WindowStep(Protocol):
    """A window of tokens of each lane through all layers: what layer by layer gives, to the bit.

    What a token gives does not depend on how many there are, from `fewest_tokens` on.
    """

    @property
    def fewest_tokens(self) -> int:
        """Of all lanes together; fewer go layer by layer."""

    def __call__(
        self, x: Tensor, state: Tensors, lengths: Lengths, room: Tensors | None = None, /
    ) -> tuple[Tensor, Tensors]:
        """From embeddings [B, T, D] and a state [L, B, ...]; returns (the residual stream [B, T, D], the new state).

        Of each lane only the first `lengths[lane]` tokens are read; later rows of the residual mean nothing. The new
        state is written to `room`, if that is given.
        """

    def ending(self, x: Tensor, state: Tensors, lengths: Lengths, /) -> tuple[Tensor, Tensors]:
        """The row of each lane's last token [B, D], and the new state; of a lane of length 0 the row means nothing."""

    def advance(self, x: Tensor, state: Tensors, lengths: Lengths, /) -> Tensors:
        """The new state alone."""


class Operations(Protocol):
    """The steps of a layer between its matrices. Nothing passed in is written but `x` where it says so."""

    @property
    def name(self) -> str:
        """What computes, for people."""

    def keep(self, matrix: Matrix) -> Matrix:
        """The same matrix, as these operations multiply it."""

    def whole7(self, layers: Sequence[Layer7]) -> tuple[Step | None, WindowStep | None]:
        """Ways through all layers of an RWKV-7, for one token and for windows of many, where any are shorter than
        layer by layer."""

    def enter(
        self, stream: Stream, norm: Norm, previous: Tensor, mix: Tensor, lengths: Sequence[int], dtype: torch.dtype
    ) -> Entered:
        """Add, normalise, and mix each token with the one before it; before a lane's first stands `previous` [B, D].

        `mix` [mixes, 1, 1, D] says how much of the token before each mix has; `dtype` is what the mixes may be in
        beside float32.
        """

    def mixed_by(self, x: Tensor, previous: Tensor, amounts: Tensor, dtype: torch.dtype) -> Tensor:
        """Mix rows x with those before them by amounts [mixes, B, T, D]; in `dtype` or float32."""

    def time_mix7(
        self, steps: Steps7, own: Parameters7, wkv: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The time mix of RWKV-7; returns (rows for the output matrix, new wkv [B, H, V, K], the first value)."""

    def time_mix6(self, steps: Steps6, own: Parameters6, wkv: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The time mix of RWKV-5 and 6; returns (rows for the output matrix, new wkv [B, H, K, V])."""

    def time_mix4(self, steps: Steps4, own: Parameters4, sums: Sums, lengths: Sequence[int]) -> tuple[Tensor, Sums]:
        """The time mix of RWKV-4; returns (rows for the output matrix, new sums)."""

    def tanh(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent of x, which may be written."""

    def sigmoid(self, x: Tensor) -> Tensor:
        """The logistic function of x, which may be written."""

    def after_squared_relu(self, x: Tensor, matrix: Matrix) -> Tensor:
        """Apply a matrix to the squared ReLU of rows, which may be written."""


@dataclass(frozen=True)
class TorchOperations:
    """The operations in torch, in float32, on any device."""

    name: str = "torch"

    def keep(self, matrix: Matrix) -> Matrix:
        """The matrix as torch multiplies it."""
        return for_torch(matrix)

    def whole7(self, layers: Sequence[Layer7]) -> tuple[None, None]:
        """None: layer by layer is the way."""
        return None, None

    def enter(
        self, stream: Stream, norm: Norm, previous: Tensor, mix: Tensor, lengths: Sequence[int], dtype: torch.dtype
    ) -> Entered:
        """Add, normalise and mix."""
        x = stream.summed()
        normed = norm(x)
        return Entered(x, self.mixed_by(normed, previous, mix, dtype), _last(normed, previous, lengths))

    def mixed_by(self, x: Tensor, previous: Tensor, amounts: Tensor, dtype: torch.dtype) -> Tensor:
        """Mix rows with those before them."""
        return torch.lerp(x, _shifted(x, previous), amounts)

    def time_mix7(
        self, steps: Steps7, own: Parameters7, wkv: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The time mix of RWKV-7."""
        log_decay = (steps.decay + own.decay_bias).sigmoid_().mul_(own.decay_scale)
        rate = (steps.rate + own.rate_bias).sigmoid_()
        value, first = steps.value, steps.first_value
        if first is not None and steps.blend is not None and own.blend_bias is not None:
            blend = (steps.blend + own.blend_bias).sigmoid_()
            value = torch.lerp(value, first.to(value.dtype), blend)  # from other operations it comes in bfloat16

        heads = (*value.shape[:2], *own.bonus.shape)
        removal = F.normalize((steps.key * own.removal_scale).view(heads), dim=-1, eps=NORMALIZE_EPS)
        key = torch.addcmul(1 - own.key_rate, rate, own.key_rate).mul_(steps.key).view(heads)
        receptance, values = steps.receptance.view(heads), value.view(heads)
        recurrence = wkv7_recurrent if value.shape[1] == 1 else wkv7_chunked
        reads, wkv = recurrence(receptance, log_decay.view(heads), key, values, removal, rate.view(heads), wkv, lengths)
        strength = (receptance * key).mul_(own.bonus).sum(-1, keepdim=True)
        mixed = torch.addcmul(own.norm(reads).view(heads), strength, values).view(value.shape)
        return mixed.mul_(steps.gate), wkv, value if first is None else first

    def time_mix6(self, steps: Steps6, own: Parameters6, wkv: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The time mix of RWKV-5 and 6."""
        heads = (*steps.value.shape[:2], *own.bonus.shape)
        exponent = own.decay_bias if steps.decay is None else steps.decay + own.decay_bias
        log_decay = exponent.exp().neg_().expand(steps.value.shape).view(heads)
        recurrence = wkv6_recurrent if steps.value.shape[1] == 1 else wkv6_chunked
        receptance, key, value = (x.view(heads) for x in (steps.receptance, steps.key, steps.value))
        reads, wkv = recurrence(receptance, log_decay, key, value, own.bonus, wkv, lengths)
        mixed = own.norm(reads)
        return mixed if steps.gate is None else mixed.mul_(F.silu(steps.gate)), wkv

    def time_mix4(self, steps: Steps4, own: Parameters4, sums: Sums, lengths: Sequence[int]) -> tuple[Tensor, Sums]:
        """The time mix of RWKV-4."""
        recurrence = wkv4_recurrent if steps.value.shape[1] == 1 else wkv4_chunked
        reads, sums = recurrence(steps.key, steps.value, own.log_decay, own.bonus, sums, lengths)
        return steps.receptance.sigmoid().mul_(reads), sums

    def tanh(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent, in place."""
        return x.tanh_()

    def sigmoid(self, x: Tensor) -> Tensor:
        """The logistic function, in place."""
        return x.sigmoid_()

    def after_squared_relu(self, x: Tensor, matrix: Matrix) -> Tensor:
        """Apply a matrix to the squared ReLU of rows."""
        return matrix(x.relu_().square_())


def _shifted(x: Tensor, previous: Tensor) -> Tensor:
    """Each token's predecessor; the first token's is `previous` [B, D]."""
    return torch.cat([previous.unsqueeze(1), x[:, :-1]], dim=1)


def _last(x: Tensor, previous: Tensor, lengths: Sequence[int]) -> Tensor:
    """The row of each lane's last token, or `previous` where a lane has none: [B, D]."""
    return torch.stack([x[lane, n - 1] if n else previous[lane] for lane, n in enumerate(lengths)])
