"""What the generations of RWKV have in common: norms, token shift, a channel mix with a gate, and the stack of layers.

Each generation brings its own way to mix along time and, some of them, to mix channels; `Stack` runs them. All
arithmetic is float32 but for the products with large matrices (see matrices.py). The embedding stays as it is stored
(on a CPU memory-mapped), and its rows are cast when they are gathered. Knows the RWKV-LM names and shapes, not the
containers they come in; nothing of tokenizers, text or state files.

Shapes, for B lanes, T tokens, width D, H heads of size N: activations are [B, T, D]. A state has `att_shift` [L, B, D]
and `ffn_shift` [L, B, D], for L layers, and between the two whatever the recurrence of the generation carries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.errors import ShapeError, WeightsError
from rwkv_runtime.lengths import Lengths
from rwkv_runtime.matrices import Matrix
from rwkv_runtime.network import Tensors
from rwkv_runtime.norms import Norm
from rwkv_runtime.operations import Entered, Operations, Step, Stream, WindowStep
from rwkv_runtime.placement import CPU, Placement, Plan
from rwkv_runtime.weights import Weights


@dataclass(frozen=True)
class LowRank:
    """bias + (x @ down) @ up, with room for an activation between the two. The bias is float32."""

    down: Matrix
    up_matrix: Matrix
    bias: Tensor

    @classmethod
    def read(cls, weights: Weights, names: tuple[str, str, str], width: int, out: int, place: Placement) -> LowRank:
        """Take down, up and bias by their names, from `width` to `out` channels; the rank is what the file has."""
        down, up, bias = names
        rank = weights.shape(down)[-1]
        matrices = place.low_rank(weights, down, width, rank), place.low_rank(weights, up, rank, out)
        return cls(*matrices, channels(weights, bias, out))

    def up(self, hidden: Tensor) -> Tensor:
        """The second product, with the bias: [..., rank] to [..., out]."""
        return self.up_matrix(hidden).add_(self.bias)


@dataclass(frozen=True)
class Window:
    """The tokens being read, as every layer may look at them."""

    tokens: Tensor  # [B, T], on the CPU
    embedded: Tensor  # [B, T, D]: their embeddings after the first norm
    lengths: Lengths  # of each lane only so many tokens are read

    def on(self, device: torch.device) -> Window:
        """The same window with its embeddings on a device; the tokens stay where the tables are."""
        return self if self.embedded.device == device else replace(self, embedded=self.embedded.to(device))


class TimeMix(Protocol):
    """The recurrent half of a layer."""

    @property
    def mix(self) -> Tensor:
        """How much of the token before goes into each of the mixes: [mixes, 1, 1, D]."""

    @property
    def activations(self) -> torch.dtype:
        """The type that the mixes may be in beside float32."""

    def __call__(
        self, mixes: Tensor, state: Mapping[str, Tensor], handed: Tensor | None, window: Window, /
    ) -> tuple[Tensor, Tensors, Tensor | None]:
        """Mix along time, from this layer's part of the state and the mixes [mixes, B, T, D] of its tokens.

        `handed` is what the layer before hands on for the same tokens, None for the first. Returns (what is added to
        the residual, what of the state is new other than the shifts, what is handed on).
        """


class ChannelMix(Protocol):
    """The feed-forward half of a layer."""

    @property
    def mix(self) -> Tensor:
        """How much of the token before goes into each of the mixes: [mixes, 1, 1, D]."""

    @property
    def activations(self) -> torch.dtype:
        """The type that the mixes may be in beside float32."""

    def __call__(self, mixes: Tensor, window: Window, /) -> Tensor:
        """Mix the channels of tokens with the mixes [mixes, B, T, D]; returns what is added to the residual."""


@dataclass(frozen=True)
class GatedChannelMix:
    """The feed-forward half of RWKV-4, 5 and 6: key, squared ReLU, value, and a gate from the receptance."""

    mix: Tensor  # [2, 1, 1, D]: how much of the previous token goes into key and receptance
    key: Matrix
    value: Matrix
    receptance: Matrix
    operations: Operations

    @property
    def activations(self) -> torch.dtype:
        """What the matrices take."""
        return self.key.activations

    @classmethod
    def read(cls, weights: Weights, layer: int, config: ModelConfig, place: Placement) -> GatedChannelMix:
        """Take the tensors of `blocks.{layer}.ffn.` of RWKV-4 and 5."""
        mix = mixes_with_current(weights, f"blocks.{layer}.ffn.time_mix_", "kr", config.n_embd)
        return cls.read_beside(mix, weights, layer, config, place)

    @classmethod
    def read_beside(
        cls, mix: Tensor, weights: Weights, layer: int, config: ModelConfig, place: Placement
    ) -> GatedChannelMix:
        """Take the matrices of `blocks.{layer}.ffn.`, the mix being there already."""
        width, prefix = config.n_embd, f"blocks.{layer}.ffn."
        return cls(
            mix=mix,
            key=place.matrix(weights, f"{prefix}key.weight", config.n_ffn, width),
            value=place.matrix(weights, f"{prefix}value.weight", width, config.n_ffn),
            receptance=place.matrix(weights, f"{prefix}receptance.weight", width, width),
            operations=place.operations,
        )

    def __call__(self, mixes: Tensor, window: Window) -> Tensor:
        """Mix the channels; returns what is added to the residual."""
        x_k, x_r = mixes
        added = self.operations.after_squared_relu(self.key(x_k), self.value)
        return added.mul_(self.receptance(x_r).sigmoid_())


@dataclass(frozen=True)
class Layer:
    """Two normalised halves, each added to the residual, on one device."""

    attention_norm: Norm
    time_mix: TimeMix
    feed_norm: Norm
    channel_mix: ChannelMix
    device: torch.device
    operations: Operations

    def __call__(
        self, stream: Stream, state: Mapping[str, Tensor], handed: Tensor | None, window: Window
    ) -> tuple[Stream, Tensors, Tensor | None]:
        """Add both halves; returns (the stream after them, this layer's part of the new state, what is handed on)."""
        fed, after, handed = self._attended(stream, state, handed, window)
        return Stream(fed.x, self.channel_mix(fed.mixes, window)), after, handed

    def advanced(self, stream: Stream, state: Mapping[str, Tensor], handed: Tensor | None, window: Window) -> Tensors:
        """This layer's part of the new state alone, which does not need the channel mix."""
        return self._attended(stream, state, handed, window)[1]

    def _attended(
        self, stream: Stream, state: Mapping[str, Tensor], handed: Tensor | None, window: Window
    ) -> tuple[Entered, Tensors, Tensor | None]:
        """Add the first half; returns (what the second half starts with, the new state, what is handed on)."""
        attended = self._entered(stream, self.attention_norm, state["att_shift"], self.time_mix, window)
        added, after, handed = self.time_mix(attended.mixes, state, handed, window)
        fed = self._entered(Stream(attended.x, added), self.feed_norm, state["ffn_shift"], self.channel_mix, window)
        return fed, after | {"att_shift": attended.last, "ffn_shift": fed.last}, handed

    def _entered(
        self, stream: Stream, norm: Norm, previous: Tensor, half: TimeMix | ChannelMix, window: Window
    ) -> Entered:
        return self.operations.enter(stream, norm, previous, half.mix, window.lengths, half.activations)


@dataclass(frozen=True)
class Stack:
    """A network: the embedding, the layers one after another, and the head."""

    config: ModelConfig
    embedding: Tensor  # [vocabulary, D], as stored, on the CPU or, if the first layer is there, on an NVIDIA GPU
    first_norm: Norm
    layers: tuple[Layer, ...]
    final_norm: Norm
    head_weight: Tensor  # [vocabulary, D], as stored, on the CPU
    head_place: Placement
    start: Mapping[str, Tensor]  # the state before the first token, without the axis of lanes
    step: Step | None = None  # a shorter way through all layers for one token of each lane
    window_step: WindowStep | None = None  # and one for windows

    @classmethod
    def read(
        cls,
        weights: Weights,
        config: ModelConfig,
        time_mix: Callable[[Weights, int, ModelConfig, Placement], TimeMix],
        channel_mix: Callable[[Weights, int, ModelConfig, Placement], ChannelMix],
        memory: Tensors,
        plan: Plan,
    ) -> Stack:
        """Take every tensor of the network, of exactly the expected shape. Raises WeightsError otherwise.

        The two callables read a layer's halves; `memory` is what the recurrence carries, before the first token.
        """
        width = config.n_embd
        *places, head_place = plan.placements(config.n_layer)

        def layer(index: int, place: Placement) -> Layer:
            there = weights.on(place.device)
            return Layer(
                attention_norm=Norm.read(there, f"blocks.{index}.ln1", width),
                time_mix=time_mix(there, index, config, place),
                feed_norm=Norm.read(there, f"blocks.{index}.ln2", width),
                channel_mix=channel_mix(there, index, config, place),
                device=place.device,
                operations=place.operations,
            )

        shift = torch.zeros(config.n_layer, width)
        start = {"att_shift": shift, **memory, "ffn_shift": shift}
        return cls(
            config=config,
            embedding=weights.on(_beside_layer(places[0])).take("emb.weight", config.vocab_size, width),
            first_norm=Norm.read(weights.on(places[0].device), "blocks.0.ln0", width),
            layers=tuple(layer(index, place) for index, place in enumerate(places)),
            final_norm=Norm.read(weights.on(head_place.device), "ln_out", width),
            head_weight=weights.take("head.weight", config.vocab_size, width),
            head_place=head_place,
            start={name: tensor.to(places[0].device) for name, tensor in start.items()},
        )

    @property
    def device(self) -> torch.device:
        """Where states are: with the first layer."""
        return self.layers[0].device

    @property
    def output_device(self) -> torch.device:
        """Where residuals and logits are: with the head."""
        return self.head_place.device

    def initial_state(self) -> Tensors:
        """The state before the first token, of one sequence: without the axis of lanes."""
        return {name: tensor.clone() for name, tensor in self.start.items()}

    def window(
        self, tokens: Tensor, state: Tensors, lengths: Sequence[int], room: Tensors | None = None
    ) -> tuple[Tensor, Tensors]:
        """Read tokens [B, T]; returns (the residual stream after the last layer [B, T, D], the new state).

        Of each lane only the first `lengths[lane]` tokens are read; later rows of the residual mean nothing. `room` is
        an older state of the same shapes that nobody needs: the new one may be written there.
        """
        if self.step is not None and _is_step(tokens, self.step):
            residual, after = self.step(self._embedded(tokens).squeeze(1), state, lengths, room)
            return residual.unsqueeze(1).to(self.head_place.device), after
        if self.window_step is not None and tokens.numel() >= self.window_step.fewest_tokens:
            residual, after = self.window_step(self._embedded(tokens), state, Lengths.of(lengths), room)
            return residual.to(self.head_place.device), after
        stream, parts, handed, window = self._below_last(tokens, state, lengths)
        stream, last, _ = self.layers[-1](stream, self._part(state, -1), handed, window)
        return stream.summed().to(self.head_place.device), self._together(state, [*parts, last])

    def tapped(
        self, tokens: Tensor, state: Tensors, lengths: Sequence[int], layers: Sequence[int]
    ) -> tuple[Tensor, Tensors, Tensor]:
        """What `window` gives, and the mean of the normalised streams behind some layers, from 1 on: [B, T, D].

        Raises ShapeError for a layer that there is not.
        """
        if not layers or not all(1 <= layer <= len(self.layers) for layer in layers):
            raise ShapeError(f"layers {list(layers)} of a model of {len(self.layers)}; give some from 1 on")
        taken: list[Tensor] = []

        def look(index: int, stream: Stream) -> None:
            if index + 1 in layers:
                x = stream.summed()
                taken.append(F.layer_norm(x, x.shape[-1:]).to(self.head_place.device))

        stream, parts, handed, window = self._below_last(tokens, state, lengths, look)
        stream, last, _ = self.layers[-1](stream, self._part(state, -1), handed, window)
        look(len(self.layers) - 1, stream)
        residual = stream.summed().to(self.head_place.device)
        return residual, self._together(state, [*parts, last]), torch.stack(taken).mean(dim=0)

    def ending(self, tokens: Tensor, state: Tensors, lengths: Sequence[int]) -> tuple[Tensor, Tensors]:
        """What `window` gives, to the bit, but of the residual stream only each lane's last row: [B, D].

        That of a lane of length 0 means nothing.
        """
        is_step = self.step is not None and _is_step(tokens, self.step)
        if self.window_step is not None and not is_step and tokens.numel() >= self.window_step.fewest_tokens:
            ends, after = self.window_step.ending(self._embedded(tokens), state, Lengths.of(lengths))
            return ends.to(self.head_place.device), after
        residual, after = self.window(tokens, state, lengths)
        places = torch.tensor([max(length - 1, 0) for length in lengths], device=residual.device)
        return residual[torch.arange(len(places), device=residual.device), places], after

    def advance(self, tokens: Tensor, state: Tensors, lengths: Sequence[int]) -> Tensors:
        """The new state that `window` gives, to the bit, without the work that only its residual stream needs."""
        if self.step is not None and _is_step(tokens, self.step):
            return self.step(self._embedded(tokens).squeeze(1), state, lengths)[1]
        if self.window_step is not None and tokens.numel() >= self.window_step.fewest_tokens:
            return self.window_step.advance(self._embedded(tokens), state, Lengths.of(lengths))
        stream, parts, handed, window = self._below_last(tokens, state, lengths)
        last = self.layers[-1].advanced(stream, self._part(state, -1), handed, window)
        return self._together(state, [*parts, last])

    def narrowest(self, count: int, width: int) -> int:
        """The fewest tokens that a window of `count` may be padded to without a bit that is other than at `width`.

        In one call a token's bits do not depend on how many there are, from the fewest that it takes on; torch adds up
        in an order that may.
        """
        return width if self.window_step is None else min(width, max(count, self.window_step.fewest_tokens))

    def first_not_finite(self, tokens: Tensor, state: Tensors, lengths: Sequence[int]) -> int | None:
        """The first layer from which a NaN or an infinity comes when `window` reads these tokens, or None."""
        for count in range(1, len(self.layers) + 1):
            below = {name: tensor[:count] for name, tensor in state.items()}
            residual, after = self.lower(count).window(tokens, below, lengths)
            if not all(map(is_finite, [*(x[:n] for x, n in zip(residual, lengths, strict=True)), *after.values()])):
                return count - 1
        return None

    def lower(self, count: int) -> Stack:
        """The network of the first `count` layers alone."""
        return replace(self, layers=self.layers[:count], step=None, window_step=None)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [..., vocabulary], for hidden states after the final norm."""
        return self._head(hidden)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """The embeddings of tokens [B, T] after the first norm."""
        rows = F.embedding(tokens.to(self.embedding.device), self.embedding)
        return self.first_norm(rows.to(self.device).float())

    def _below_last(
        self,
        tokens: Tensor,
        state: Tensors,
        lengths: Sequence[int],
        look: Callable[[int, Stream], None] = lambda index, stream: None,
    ) -> tuple[Stream, list[Tensors], Tensor | None, Window]:
        """Run all layers but the last; returns (its input, their parts of the new state, what is handed on, ...).

        `look` is shown the stream behind each of them.
        """
        x = self._embedded(tokens)
        stream, window, handed = Stream(x), Window(tokens.cpu(), x, Lengths.of(lengths)), None
        parts: list[Tensors] = []
        for index, layer in enumerate(self.layers):
            stream, window = stream.on(layer.device), window.on(layer.device)
            handed = handed if handed is None else handed.to(layer.device)
            if index == len(self.layers) - 1:
                break
            stream, changed, handed = layer(stream, self._part(state, index), handed, window)
            look(index, stream)
            parts.append(changed)
        return stream, parts, handed, window

    def _part(self, state: Tensors, index: int) -> Tensors:
        """A layer's part of the state, where the layer is."""
        return {name: tensor[index].to(self.layers[index].device) for name, tensor in state.items()}

    def _together(self, state: Tensors, parts: Sequence[Tensors]) -> Tensors:
        return {name: torch.stack([part[name].to(self.device) for part in parts]) for name in state}

    @cached_property
    def _head(self) -> Matrix:
        return self.head_place.keep(self.head_weight)


def _is_step(tokens: Tensor, step: Step) -> bool:
    """Whether tokens [B, T] are one for each of no more lanes than a step takes."""
    lanes, length = tokens.shape
    return length == 1 and 0 < lanes <= step.most_lanes


def _beside_layer(place: Placement) -> torch.device:
    """Where the embedding goes: to a GPU of the first layer, which would wait for rows, else it stays mapped."""
    return place.device if place.device.type == "cuda" and not place.streamed else CPU


def configuration(weights: Weights, generation: str, heads: int, size: int, shown_by: str) -> ModelConfig:
    """The dimensions, from the shapes; `shown_by` names the tensor that heads and their size were read from.

    Raises WeightsError if the heads do not make the width.
    """
    layers = {name.split(".")[1] for name in weights.names() if name.startswith("blocks.")}
    vocabulary, width = matrix_shape(weights, "emb.weight")
    ffn, _ = matrix_shape(weights, "blocks.0.ffn.key.weight")
    if heads * size != width:
        raise WeightsError(
            f"{weights.source}: {heads} heads of size {size} ({shown_by}) do not make the width {width} of "
            "emb.weight; the file is damaged or of another architecture"
        )
    return ModelConfig(generation, len(layers), width, heads, size, ffn, vocabulary)


def matrix_shape(weights: Weights, name: str) -> tuple[int, int]:
    """The shape of what must be a matrix. Raises WeightsError if it is none."""
    shape = weights.shape(name)
    if len(shape) != 2:
        raise WeightsError(
            f"{weights.source}: {name} must be a matrix, but has the shape {list(shape)}; "
            "the file does not belong to this kind of model"
        )
    return shape[0], shape[1]


def matrix_memory(config: ModelConfig) -> Tensors:
    """An empty matrix per layer and head: [L, H, N, N]."""
    return {"wkv": torch.zeros(config.n_layer, config.n_head, config.head_size, config.head_size)}


def channels(weights: Weights, name: str, width: int) -> Tensor:
    """Take a number per channel: [D]."""
    return weights.take(name, 1, 1, width).float().flatten()


def mixes_with_current(weights: Weights, prefix: str, letters: str, width: int) -> Tensor:
    """Take how much of the token itself each mix has; returns how much of the previous one: [mixes, 1, 1, D]."""
    stored = [channels(weights, prefix + letter, width) for letter in letters]
    return 1 - torch.stack(stored).view(-1, 1, 1, width)


def is_finite(x: Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity; one pass, and a second only where finite numbers add up to one."""
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())
