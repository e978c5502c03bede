"""RWKV-7 "Goose" (x070): which tensors it has, its start state, and what one window of tokens does to it.

Knows the RWKV-LM names and shapes, not the containers they come in; nothing of tokenizers, text or state files.
All arithmetic is float32. The embedding and the head stay as they are stored (memory-mapped), and rows of the
embedding are cast when they are gathered.

Shapes, for B lanes, T tokens, width D, H heads of size N: activations are [B, T, D]; a state is `att_shift`
[L, B, D], `wkv` [L, B, H, V, K] and `ffn_shift` [L, B, D], for L layers.
Source: RWKV-LM/RWKV-v7/rwkv_v7_numpy.py and the `rwkv` package 0.8.32 (class RWKV_x070).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.errors import WeightsError
from rwkv_runtime.kernels.wkv7 import wkv7_chunked, wkv7_recurrent
from rwkv_runtime.weights import Weights

LOG_DECAY_SCALE = -0.606531
"""The constant that the official code uses for -exp(-1/2)."""
NORM_EPS = 1e-5
GROUP_NORM_EPS = 64e-5
NORMALIZE_EPS = 1e-12


@dataclass(frozen=True)
class Norm:
    """LayerNorm over the channels."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def read(cls, weights: Weights, name: str, width: int) -> Norm:
        """Take `name`.weight and `name`.bias."""
        return cls(weights.take(f"{name}.weight", width).float(), weights.take(f"{name}.bias", width).float())

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise [..., D]."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, NORM_EPS)


@dataclass(frozen=True)
class LowRank:
    """bias + (x @ down) @ up, with room for an activation between the two."""

    down: Tensor
    up: Tensor
    bias: Tensor

    @classmethod
    def read(cls, weights: Weights, prefix: str, letter: str, width: int) -> LowRank:
        """Take the three tensors of a letter; the rank is what the file has."""
        rank = weights.shape(f"{prefix}{letter}1")[-1]
        down = weights.take(f"{prefix}{letter}1", width, rank).float()
        up = weights.take(f"{prefix}{letter}2", rank, width).float()
        bias = weights.take(f"{prefix}{letter}0", 1, 1, width).float().flatten()
        return cls(_columns(down), _columns(up), bias)


@dataclass(frozen=True)
class TimeMix:
    """The recurrent half of a layer."""

    mix: Tensor  # [6, 1, 1, D]: how much of the previous token goes into r, w, k, v, a, g
    receptance: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    decay: LowRank
    rate: LowRank
    gate_down: Tensor
    gate_up: Tensor
    blend: LowRank | None  # how far a later layer's value goes towards the first layer's
    removal_scale: Tensor
    key_rest: Tensor  # 1 - k_a
    key_rate: Tensor  # k_a
    bonus: Tensor  # [H, N]
    group_norm: Norm

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig) -> TimeMix:
        """Take the tensors of `blocks.{layer}.att.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.att."

        def matrix(name: str) -> Tensor:
            return weights.take(f"{prefix}{name}.weight", width, width).float()

        def channels(name: str) -> Tensor:
            return weights.take(f"{prefix}{name}", 1, 1, width).float().flatten()

        gate_rank = weights.shape(f"{prefix}g1")[-1]
        key_rate = channels("k_a")
        return cls(
            mix=torch.stack([channels(f"x_{letter}") for letter in "rwkvag"]).view(6, 1, 1, width),
            receptance=matrix("receptance"),
            key=matrix("key"),
            value=matrix("value"),
            output=matrix("output"),
            decay=LowRank.read(weights, prefix, "w", width),
            rate=LowRank.read(weights, prefix, "a", width),
            gate_down=_columns(weights.take(f"{prefix}g1", width, gate_rank).float()),
            gate_up=_columns(weights.take(f"{prefix}g2", gate_rank, width).float()),
            blend=LowRank.read(weights, prefix, "v", width) if layer else None,
            removal_scale=channels("k_k"),
            key_rest=1 - key_rate,
            key_rate=key_rate,
            bonus=weights.take(f"{prefix}r_k", config.n_head, config.head_size).float(),
            group_norm=Norm.read(weights, f"{prefix}ln_x", width),
        )

    def __call__(
        self, x: Tensor, previous: Tensor, wkv: Tensor, first_value: Tensor | None, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix along time; returns (what is added to the residual, the new wkv, the value for later layers)."""
        tokens = x.shape[1]
        x_r, x_w, x_k, x_v, x_a, x_g = torch.lerp(x, _shifted(x, previous), self.mix)
        receptance, key, value = F.linear(x_r, self.receptance), F.linear(x_k, self.key), F.linear(x_v, self.value)
        hidden_decay = F.linear(x_w, self.decay.down).tanh_()
        log_decay = F.linear(hidden_decay, self.decay.up, self.decay.bias).sigmoid_().mul_(LOG_DECAY_SCALE)
        rate = F.linear(F.linear(x_a, self.rate.down), self.rate.up, self.rate.bias).sigmoid_()
        gate = F.linear(F.linear(x_g, self.gate_down).sigmoid_(), self.gate_up)
        if self.blend is not None and first_value is not None:
            blend = F.linear(F.linear(x_v, self.blend.down), self.blend.up, self.blend.bias).sigmoid_()
            value = torch.lerp(value, first_value, blend)

        heads = (*x.shape[:2], *self.bonus.shape)
        removal = F.normalize((key * self.removal_scale).view(heads), dim=-1, eps=NORMALIZE_EPS)
        key = torch.addcmul(self.key_rest, rate, self.key_rate).mul_(key)
        receptance, key, value = receptance.view(heads), key.view(heads), value.view(heads)
        recurrence = wkv7_recurrent if tokens == 1 else wkv7_chunked
        reads, wkv = recurrence(receptance, log_decay.view(heads), key, value, removal, rate.view(heads), wkv, lengths)

        normed = F.layer_norm(reads, reads.shape[-1:], eps=GROUP_NORM_EPS).view(x.shape)
        normed = torch.addcmul(self.group_norm.bias, normed, self.group_norm.weight)
        strength = (receptance * key).mul_(self.bonus).sum(-1, keepdim=True)
        mixed = torch.addcmul(normed.view(heads), strength, value).view(x.shape).mul_(gate)
        return F.linear(mixed, self.output), wkv, value.view(x.shape) if first_value is None else first_value


@dataclass(frozen=True)
class ChannelMix:
    """The feed-forward half of a layer: key, squared ReLU, value."""

    mix: Tensor
    key: Tensor
    value: Tensor

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig) -> ChannelMix:
        """Take the tensors of `blocks.{layer}.ffn.`."""
        width, prefix = config.n_embd, f"blocks.{layer}.ffn."
        return cls(
            mix=weights.take(f"{prefix}x_k", 1, 1, width).float().flatten(),
            key=weights.take(f"{prefix}key.weight", config.n_ffn, width).float(),
            value=weights.take(f"{prefix}value.weight", width, config.n_ffn).float(),
        )

    def __call__(self, x: Tensor, previous: Tensor) -> Tensor:
        """Mix the channels of [B, T, D]; returns what is added to the residual."""
        mixed = torch.lerp(x, _shifted(x, previous), self.mix)
        return F.linear(F.linear(mixed, self.key).relu_().square_(), self.value)


@dataclass(frozen=True)
class Layer:
    """Two normalised halves, each added to the residual."""

    attention_norm: Norm
    time_mix: TimeMix
    feed_norm: Norm
    channel_mix: ChannelMix


@dataclass(frozen=True)
class Rwkv7:
    """The network between token ids and the residual stream, and the head on top of it."""

    config: ModelConfig
    embedding: Tensor  # [vocabulary, D], as stored
    first_norm: Norm
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Tensor  # [vocabulary, D], as stored

    @classmethod
    def read(cls, weights: Weights) -> Rwkv7:
        """Take every tensor of the network, of exactly the expected shape. Raises WeightsError otherwise."""
        config = _configuration(weights)
        for letter in "012":
            if f"blocks.0.att.v{letter}" in weights.names():  # some files carry these, no code uses them
                weights.discard(f"blocks.0.att.v{letter}")
        width = config.n_embd
        return cls(
            config=config,
            embedding=weights.take("emb.weight", config.vocab_size, width),
            first_norm=Norm.read(weights, "blocks.0.ln0", width),
            layers=tuple(_read_layer(weights, layer, config) for layer in range(config.n_layer)),
            final_norm=Norm.read(weights, "ln_out", width),
            head=weights.take("head.weight", config.vocab_size, width),
        )

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first token, of one sequence: zeros, without the axis of lanes."""
        layers, width, heads, size = (
            self.config.n_layer,
            self.config.n_embd,
            self.config.n_head,
            self.config.head_size,
        )
        return {
            "att_shift": torch.zeros(layers, width),
            "wkv": torch.zeros(layers, heads, size, size),
            "ffn_shift": torch.zeros(layers, width),
        }

    def run(self, tokens: Tensor, state: dict[str, Tensor], lengths: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Read tokens [B, T]; returns (the residual stream after the last layer [B, T, D], the new state).

        Of each lane only the first `lengths[lane]` tokens are read; later rows of the residual mean nothing.
        """
        x = self.first_norm(F.embedding(tokens, self.embedding).float())
        first_value: Tensor | None = None
        att_shift, wkv, ffn_shift = [], [], []
        for index, layer in enumerate(self.layers):
            previous = state["att_shift"][index]
            normed = layer.attention_norm(x)
            added, memory, first_value = layer.time_mix(normed, previous, state["wkv"][index], first_value, lengths)
            att_shift.append(_last(normed, previous, lengths))
            wkv.append(memory)
            x = x + added
            previous = state["ffn_shift"][index]
            normed = layer.feed_norm(x)
            ffn_shift.append(_last(normed, previous, lengths))
            x = layer.channel_mix(normed, previous).add_(x)
        return x, {
            "att_shift": torch.stack(att_shift),
            "wkv": torch.stack(wkv),
            "ffn_shift": torch.stack(ffn_shift),
        }

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [..., vocabulary], for hidden states after the final norm."""
        return F.linear(hidden, self._head)

    @cached_property
    def _head(self) -> Tensor:
        return self.head.float()


def _configuration(weights: Weights) -> ModelConfig:
    """Read the dimensions from the shapes."""
    layers = {name.split(".")[1] for name in weights.names() if name.startswith("blocks.")}
    shapes = [weights.shape(name) for name in ("emb.weight", "blocks.0.att.r_k", "blocks.0.ffn.key.weight")]
    if any(len(shape) != 2 for shape in shapes):
        raise WeightsError(
            f"{weights.source}: emb.weight, att.r_k and ffn.key.weight must be matrices, but have the shapes {shapes}; "
            "the file does not belong to this kind of model"
        )
    (vocabulary, width), (heads, size), (ffn, _) = shapes
    if heads * size != width:
        raise WeightsError(
            f"{weights.source}: {heads} heads of size {size} (blocks.0.att.r_k) do not make the width {width} of "
            "emb.weight; the file is damaged or of another architecture"
        )
    return ModelConfig("7", len(layers), width, heads, size, ffn, vocabulary)


def _read_layer(weights: Weights, layer: int, config: ModelConfig) -> Layer:
    return Layer(
        attention_norm=Norm.read(weights, f"blocks.{layer}.ln1", config.n_embd),
        time_mix=TimeMix.read(weights, layer, config),
        feed_norm=Norm.read(weights, f"blocks.{layer}.ln2", config.n_embd),
        channel_mix=ChannelMix.read(weights, layer, config),
    )


def _columns(matrix: Tensor) -> Tensor:
    """A stored [in, out] matrix as the [out, in] that F.linear takes."""
    return matrix.T.contiguous()


def _shifted(x: Tensor, previous: Tensor) -> Tensor:
    """Each token's predecessor; the first token's is `previous` [B, D]."""
    return torch.cat([previous.unsqueeze(1), x[:, :-1]], dim=1)


def _last(x: Tensor, previous: Tensor, lengths: Sequence[int]) -> Tensor:
    """The row of each lane's last token, or `previous` where a lane has none: [B, D]."""
    return torch.stack([x[lane, n - 1] if n else previous[lane] for lane, n in enumerate(lengths)])
