"""Sentence vectors from per-token features that are summed over a span.

A span may lie in several windows: features add up, so a reader keeps one sum per open span and needs no token again.
Knows nothing of sentences or documents: who sums over what is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from rwkv_runtime.errors import RwkvError, ShapeError, WeightsError
from rwkv_runtime.matrices import RowByRow, RowProduct
from rwkv_runtime.weights import Weights
from rwkv_runtime.words import Words

if TYPE_CHECKING:
    from rwkv_runtime.model import Output

PREFIX = "embed_head."
NORM_EPS = 1e-5

Floats = NDArray[np.float32]


class SpanPooler(Protocol):
    """Makes a vector of unit length from what is summed over a span's tokens."""

    @property
    def name(self) -> str:
        """What the vectors are recorded as."""

    @property
    def dimensions(self) -> int:
        """Numbers per vector."""

    @property
    def feature_size(self) -> int:
        """Numbers per token that are summed: F."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, counted from 1, whose streams `features` wants in `Output.tapped`; none for hidden states."""

    def features(self, output: Output, tokens: Sequence[int], before: Sequence[int] = ()) -> Floats:
        """Per token of an output of `tokens`: [T, F].

        `before` are the tokens in front of them, as many as are known: words may begin there.
        """

    def finish(self, sums: Floats, last: Floats, counts: NDArray[np.int64]) -> Floats:
        """Vectors [n, dimensions] of n spans, each from its row alone (bit for bit).

        `sums` [n, F] are features summed over each span, `last` [n, F] those of its last token, `counts` [n] its
        tokens. Raises ShapeError for a span without tokens.
        """


@dataclass(frozen=True)
class Perceptron:
    """What a head adds that is no linear function of what is summed over a span: down relu(up x + bias)^2."""

    up: RowProduct  # [hidden, D + E]
    bias: Tensor  # [hidden]
    down: RowProduct  # [E, hidden]

    def __call__(self, rows: Tensor) -> Tensor:
        """Apply to [n, D + E]; returns [n, E]."""
        return self.down(torch.relu(self.up(rows) + self.bias).square())


@dataclass(frozen=True)
class EmbeddingHead:
    """A trained head: gated means of hidden states and of static vectors, and the last hidden state.

    A token's static vector is v = static[token], and, where the weights have `words`, + words.weight[w] at the last
    token of a word w, the longest of those that end there; it does not matter where a span or a window begins.
    With h = LayerNorm(residual) and g = sigmoid(gate . h), the features of a token are g*h, g*v, g and h.
    With m = sum g*h / sum g and s = sum g*v / sum g, a span's vector is w_mean m + w_last h_last + s, and, where
    the weights have an `mlp`, + mlp.down relu(mlp.up [m | s / |s|] + mlp.up.bias)^2; all of it scaled to length 1.
    `rotation` [E, E] takes a vector into the space of the teacher model it was trained towards, or is None.
    """

    norm_weight: Tensor
    norm_bias: Tensor
    gate_weight: Tensor
    gate_bias: Tensor
    static: Tensor  # [vocabulary, E], as stored; rows are cast when they are gathered
    projection: RowProduct  # [E, 2 * D]: w_mean beside w_last
    rotation: Tensor | None
    perceptron: Perceptron | None = None
    name: str = "embed_head"
    layers: tuple[int, ...] = ()
    words: Words | None = None

    @classmethod
    def read(
        cls, weights: Weights, width: int, vocabulary: int, rows: Callable[[Tensor], RowProduct] = RowByRow
    ) -> EmbeddingHead:
        """Take the tensors `embed_head.*`, of which `rows` makes products.

        Raises WeightsError if one is missing or misshaped, or if the words are none (see `Words.of`).
        """

        def take(name: str, *shape: int) -> Tensor:
            return weights.take(PREFIX + name, *shape).float()

        size = weights.shape(f"{PREFIX}static.weight")[-1]
        rotated, bent = (f"{PREFIX}{name}" in weights.names() for name in ("rotation", "mlp.up.weight"))
        hidden = weights.shape(f"{PREFIX}mlp.up.weight")[0] if bent else 0
        return cls(
            norm_weight=take("ln.weight", width),
            norm_bias=take("ln.bias", width),
            gate_weight=take("gate.weight", 1, width),
            gate_bias=take("gate.bias", 1),
            static=weights.take(f"{PREFIX}static.weight", vocabulary, size),
            projection=rows(torch.cat([take("w_mean.weight", size, width), take("w_last.weight", size, width)], dim=1)),
            rotation=take("rotation", size, size) if rotated else None,
            perceptron=Perceptron(
                rows(take("mlp.up.weight", hidden, width + size)),
                take("mlp.up.bias", hidden),
                rows(take("mlp.down.weight", size, hidden)),
            )
            if bent
            else None,
            words=_words(weights, vocabulary, size) if f"{PREFIX}words.weight" in weights.names() else None,
        )

    @property
    def dimensions(self) -> int:
        """Numbers per vector: E."""
        return self.static.shape[1]

    @property
    def feature_size(self) -> int:
        """2 * D + E + 1."""
        return 2 * self.norm_weight.shape[0] + self.dimensions + 1

    def features(self, output: Output, tokens: Sequence[int], before: Sequence[int] = ()) -> Floats:
        """[g*h | g*v | g | h] per token, [T, 2 * D + E + 1]."""
        _check_rows(output, tokens)
        with torch.inference_mode():
            hidden = F.layer_norm(
                output.residual.cpu(), self.norm_weight.shape, self.norm_weight, self.norm_bias, NORM_EPS
            )
            # a sum per row, not a matrix product: one column would depend on how many rows there are
            gate = torch.sigmoid((hidden * self.gate_weight).sum(-1, keepdim=True) + self.gate_bias)
            features = torch.cat([gate * hidden, gate * self.static_vectors(tokens, before), gate, hidden], dim=-1)
        return _array(features)

    def static_vectors(self, tokens: Sequence[int], before: Sequence[int] = ()) -> Tensor:
        """What is known of tokens without reading them: v of each, [T, E] float32. `before` as in `features`."""
        static = F.embedding(torch.tensor(tokens, dtype=torch.long), self.static).float()
        return static if self.words is None else self.words.added(static, before, tokens)

    def finish(self, sums: Floats, last: Floats, counts: NDArray[np.int64]) -> Floats:
        """Vectors [n, E] of unit length."""
        _check_spans(self, sums, last, counts)
        width, size = self.norm_weight.shape[0], self.dimensions
        means = (sums[:, : width + size] / sums[:, width + size : width + size + 1]).astype(np.float32)
        mean, static = means[:, :width], means[:, width:]
        with torch.inference_mode():
            vectors = _array(self.projection(_joined(mean, last[:, -width:]))) + static
            if self.perceptron is not None:
                vectors += _array(self.perceptron(_joined(mean, unit(static))))
        return unit(vectors)


@dataclass(frozen=True)
class MeanPooler:
    """The mean of the hidden states after the final norm, for weights without a trained head.

    With `layers` it is the mean over the streams behind these layers instead, each normalised without weights.
    """

    width: int
    name: str = "mean"
    layers: tuple[int, ...] = ()

    @property
    def dimensions(self) -> int:
        """D."""
        return self.width

    @property
    def feature_size(self) -> int:
        """D."""
        return self.width

    def features(self, output: Output, tokens: Sequence[int], before: Sequence[int] = ()) -> Floats:
        """The hidden states themselves, or what was tapped, [T, D]."""
        _check_rows(output, tokens)
        if not self.layers:
            return _array(output.hidden)
        if output.tapped is None:
            raise ShapeError(f"an output without what is behind the layers {self.layers}; read it with `layers`")
        return _array(output.tapped)

    def finish(self, sums: Floats, last: Floats, counts: NDArray[np.int64]) -> Floats:
        """Vectors [n, D] of unit length."""
        _check_spans(self, sums, last, counts)
        means: Floats = (sums / counts[:, None]).astype(np.float32)
        return unit(means)


def choose(name: str, head: EmbeddingHead | None, width: int) -> SpanPooler:
    """The pooler of a name: "auto" is the trained head if the weights have one, else the mean. Raises ShapeError."""
    if name in ("auto", "embed_head") and head is not None:
        return head
    if name in ("auto", "mean"):
        return MeanPooler(width)
    raise ShapeError(f"pooling {name!r} is not possible with these weights; use auto or mean")


def unit(vectors: Floats) -> Floats:
    """Scale each row to length 1; a row of zeros stays as it is."""
    lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    scaled: Floats = (vectors / np.maximum(lengths, np.float32(1e-12))).astype(np.float32)
    return scaled


def _words(weights: Weights, vocabulary: int, size: int) -> Words:
    vectors, spelled = (f"{PREFIX}words.{name}" for name in ("weight", "tokens"))
    weight = weights.take(vectors, *weights.shape(vectors)[:-1], size)
    tokens = weights.take_integers(spelled, *weights.shape(spelled))
    try:
        return Words.of(weight, tokens, vocabulary)
    except RwkvError as error:
        raise WeightsError(f"{weights.source}: {spelled}: {error}") from None


def _joined(*columns: Floats) -> Tensor:
    return torch.from_numpy(np.concatenate(columns, axis=1))


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy()
    return array


def _check_rows(output: Output, tokens: Sequence[int]) -> None:
    if len(output.hidden) != len(tokens):
        raise ShapeError(f"{len(tokens)} tokens do not fit an output of {len(output.hidden)} rows; pass those it read")


def _check_spans(pooler: SpanPooler, sums: Floats, last: Floats, counts: NDArray[np.int64]) -> None:
    expected = (len(counts), pooler.feature_size)
    if sums.shape != expected or last.shape != expected:
        raise ShapeError(f"sums {sums.shape} and last {last.shape} must both be {expected} for {len(counts)} spans")
    if len(counts) and counts.min() < 1:
        raise ShapeError(f"span {int(counts.argmin())} has {counts.min()} tokens; only spans with tokens have a vector")
