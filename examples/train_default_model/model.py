"""RWKV-7 as it is trained: the reference initialisation, a forward pass over streams with resets, and its parameters.

Parameters have the names and shapes of RWKV-LM, so what is saved is what `rwkv_runtime` loads. Matrix products run in
bfloat16 unless told otherwise; residuals, decays, normalisations and the recurrence in float32. Knows nothing of losses
or data.

Shapes, for B rows, T tokens, width D and H heads of size N: activations [B, T, D]; a layer's state is (the last input
of its time mix [B, D], the matrix memory [B, H, N, N], the last input of its channel mix [B, D]). `keep` [B, T] is 0
at the first token of a new context, else 1: there the token shift sees zeros and the memory is emptied.
Source: RWKV-LM/RWKV-v7/train_temp/src/model.py (initialisation) and rwkv_v7_numpy.py (the network).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from examples.train_default_model.heads import SentenceHead, layer_norm
from examples.train_default_model.profiles import ModelProfile
from examples.train_default_model.wkv import Kernel

LOG_DECAY_SCALE = -0.606531
GROUP_NORM_EPS = 64e-5

LayerState = tuple[Tensor, Tensor, Tensor]
State = list[LayerState]
Activation = Callable[[Tensor], Tensor]
Mixed = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def product(x: Tensor, matrix: Tensor, precision: torch.dtype) -> Tensor:
    """x @ matrix in a precision, with a result of the type of x."""
    return (x.to(precision) @ matrix.to(precision)).to(x.dtype)


def _unchanged(x: Tensor) -> Tensor:
    return x


class TimeMix(nn.Module):
    """The recurrent half of a layer: its parameters, as the reference initialises them."""

    def __init__(self, profile: ModelProfile, layer: int) -> None:
        super().__init__()
        width, size = profile.width, profile.head_size
        later, earlier = layer / max(1, profile.layers - 1), 1 - layer / profile.layers
        place = torch.arange(width) / width
        for name, power in zip("rwkvag", (0.2, 0.9, 0.7, 0.7, 0.9, 0.2), strict=True):
            self.register_parameter(f"x_{name}", _row(1 - place ** (power * earlier)))
        centred = torch.arange(width) / (width - 1) - 0.5
        zigzag = ((torch.arange(width) % size) - (size - 1) / 2) / ((size - 1) / 2)
        zigzag = zigzag * zigzag.abs()
        decay, rate, blend, gate = profile.ranks
        base = -6 + 6 * (torch.arange(width) / (width - 1)) ** (1 + later**0.3)
        self.w0, self.w1, self.w2 = _row(base + 0.5 + zigzag * 2.5), _zeros(width, decay), _orthogonal(decay, width)
        self.a0, self.a1 = _row(-0.19 + zigzag * 0.3 + centred * 0.4), _zeros(width, rate)
        self.a2 = _orthogonal(rate, width)
        if layer:
            self.v0, self.v1, self.v2 = _row(0.73 - centred * 0.4), _zeros(width, blend), _orthogonal(blend, width)
        self.g1, self.g2 = _zeros(width, gate), _orthogonal(gate, width)
        self.k_k, self.k_a = _row(0.71 - centred * 0.1), _row(torch.full((width,), 1.02))
        self.r_k = nn.Parameter(torch.full((width // size, size), -0.04))
        self.receptance, self.key = _linear(width, width, 0.5), _linear(width, width, 0.05)
        self.value, self.output = _linear(width, width, 0.5), _linear(width, width, 0.0)
        self.ln_x = nn.GroupNorm(width // size, width, eps=GROUP_NORM_EPS)
        nn.init.constant_(self.ln_x.weight, ((1 + layer) / profile.layers) ** 0.7)


class ChannelMix(nn.Module):
    """The half of a layer that works on each token."""

    def __init__(self, profile: ModelProfile, layer: int) -> None:
        super().__init__()
        width = profile.width
        self.x_k = _row(1 - (torch.arange(width) / width) ** ((1 - layer / profile.layers) ** 4))
        self.key, self.value = _linear(width, 4 * width, 0.5), _linear(4 * width, width, 0.0)


class Block(nn.Module):
    """One layer, in two halves around the recurrence, so that each half can be compiled."""

    def __init__(self, profile: ModelProfile, layer: int, precision: torch.dtype) -> None:
        super().__init__()
        self.is_first, self.head_size, self.precision = layer == 0, profile.head_size, precision
        if self.is_first:
            self.ln0 = nn.LayerNorm(profile.width)
        self.ln1, self.ln2 = nn.LayerNorm(profile.width), nn.LayerNorm(profile.width)
        self.att, self.ffn = TimeMix(profile, layer), ChannelMix(profile, layer)

    def before(
        self, x: Tensor, first_value: Tensor, previous: Tensor, keep: Tensor
    ) -> tuple[Mixed, Tensor, Tensor, Tensor]:
        """What goes into the recurrence: ((r, decay, k, v, removal, insertion) by head, gate, first value, last)."""
        att, kept = self.att, keep[..., None]
        normed = layer_norm(x, self.ln1)
        shift = torch.cat([previous[:, None], normed[:, :-1]], 1) * kept - normed
        x_r, x_w, x_k, x_v, x_a, x_g = (normed + shift * getattr(att, f"x_{name}") for name in "rwkvag")
        receptance, key, value = (
            self._product(one, layer.weight.T)
            for one, layer in ((x_r, att.receptance), (x_k, att.key), (x_v, att.value))
        )
        decay = (
            torch.exp(LOG_DECAY_SCALE * torch.sigmoid(att.w0 + self._low_rank(x_w, att.w1, att.w2, torch.tanh))) * kept
        )
        rate = torch.sigmoid(att.a0 + self._low_rank(x_a, att.a1, att.a2))
        gate = self._low_rank(x_g, att.g1, att.g2, torch.sigmoid)
        direction = self._by_head(key * att.k_k)
        direction = direction * torch.rsqrt(direction.square().sum(-1, keepdim=True).clamp_min(1e-24))
        key = key * (1 + (rate - 1) * att.k_a)
        if self.is_first:
            first_value = value
        else:
            value = value + (first_value - value) * torch.sigmoid(att.v0 + self._low_rank(x_v, att.v1, att.v2))
        removal, insertion = -direction * kept[..., None], direction * self._by_head(rate)
        split = self._by_head
        mixed = (split(receptance), split(decay), split(key), split(value), removal, insertion)
        return mixed, gate, first_value, normed[:, -1]

    def after(
        self, x: Tensor, reads: Tensor, mixed: Mixed, gate: Tensor, previous: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The layer's output and the last input of its channel mix."""
        att, receptance, key, value = self.att, mixed[0], mixed[2], mixed[3]
        centred = reads - reads.mean(-1, keepdim=True)
        normed = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + GROUP_NORM_EPS)
        bonus = (receptance * key * att.r_k).sum(-1, keepdim=True) * value
        mixture = normed.flatten(-2) * att.ln_x.weight + att.ln_x.bias + bonus.flatten(-2)
        x = x + self._product(mixture * gate, att.output.weight.T)
        inputs = layer_norm(x, self.ln2)
        shift = torch.cat([previous[:, None], inputs[:, :-1]], 1) * keep[..., None] - inputs
        hidden = torch.relu(self._product(inputs + shift * self.ffn.x_k, self.ffn.key.weight.T))
        return x + self._product(hidden.square(), self.ffn.value.weight.T), inputs[:, -1]

    def _product(self, x: Tensor, matrix: Tensor) -> Tensor:
        return product(x, matrix, self.precision)

    def _low_rank(self, x: Tensor, down: Tensor, up: Tensor, between: Activation = _unchanged) -> Tensor:
        """x through a narrow waist: between(x @ down) @ up."""
        return self._product(between(self._product(x, down)), up)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.head_size)


class Student(nn.Module):
    """The whole network with its head for next tokens and its head for sentence vectors."""

    def __init__(
        self, profile: ModelProfile, vocabulary: int, kernel: Kernel, precision: torch.dtype = torch.bfloat16
    ) -> None:
        """`precision` is that of matrix products; all else has the parameters' type."""
        super().__init__()
        self.profile, self.kernel, self.precision = profile, kernel, precision
        self.emb = nn.Embedding(vocabulary, profile.width)
        nn.init.uniform_(self.emb.weight, -1e-4, 1e-4)
        layers = [Block(profile, layer, precision) for layer in range(profile.layers)]
        self.blocks = nn.ModuleList(layers)
        self.ln_out = nn.LayerNorm(profile.width)
        self.head = nn.Linear(profile.width, vocabulary, bias=False)
        nn.init.orthogonal_(self.head.weight, gain=0.5 * math.sqrt(max(1.0, vocabulary / profile.width)))
        self.embed_head = SentenceHead(vocabulary, profile.width, profile.vector_size, profile.mlp)
        self._halves = [(block.before, block.after) for block in layers]

    def compile_layers(self) -> None:
        """Let torch.compile fuse what stands between the matrix products."""
        self._halves = [(torch.compile(before), torch.compile(after)) for before, after in self._halves]

    def initial_state(self, rows: int) -> State:
        """Zeros: nothing was read."""
        width, size, device = self.profile.width, self.profile.head_size, self.emb.weight.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(rows, *shape, device=device, dtype=self.emb.weight.dtype)

        return [(zeros(width), zeros(width // size, size, size), zeros(width)) for _ in range(self.profile.layers)]

    def forward(self, tokens: Tensor, keep: Tensor, state: State) -> tuple[Tensor, State]:
        """Read [B, T] tokens; returns (the residual stream behind the last layer, the state, cut off the graph)."""
        norm = self.blocks[0].get_submodule("ln0")
        assert isinstance(norm, nn.LayerNorm)
        x = layer_norm(self.emb(tokens), norm)
        first_value, reached = x, []
        for (before, after), (time, memory, channel) in zip(self._halves, state, strict=True):
            mixed, gate, first_value, time = before(x, first_value, time, keep)
            reads, memory = self.kernel(*mixed, memory)
            x, channel = after(x, reads, mixed, gate, channel, keep)
            reached.append((time.detach(), memory.detach(), channel.detach()))
        return x, reached

    def logits(self, residual: Tensor) -> Tensor:
        """Scores of the next token, [..., vocabulary]."""
        return product(layer_norm(residual, self.ln_out), self.head.weight.T, self.precision)


def _row(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.float().view(1, 1, -1).clone())


def _zeros(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(rows, columns))


def _orthogonal(rows: int, columns: int) -> nn.Parameter:
    matrix = torch.empty(rows, columns)
    nn.init.orthogonal_(matrix, gain=0.1 * (math.sqrt(rows / columns) if rows > columns else 1))
    return nn.Parameter(matrix)


def _linear(inputs: int, outputs: int, spread: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.uniform_(layer.weight, -spread / math.sqrt(inputs), spread / math.sqrt(inputs))
    return layer
