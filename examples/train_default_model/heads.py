"""What is read off the residual stream: sentence vectors, and from those, where sections begin and what is central.

The vector of a span is that of `rwkv_runtime.pooling.EmbeddingHead`, of which these are the trainable parameters. The
heads on vectors take them as they are (no gradient reaches the trunk). Knows nothing of how spans are found.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

NORM_EPS = 1e-5


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm over the last axis, with a norm's weights."""
    return F.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, NORM_EPS)


class Perceptron(nn.Module):
    """down relu(up x + bias)^2: what a vector has beyond a linear function of its span. Begins with nothing."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs, bias=False)
        nn.init.zeros_(self.down.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """[n, outputs] of [n, inputs]."""
        return torch.relu(rows @ self.up.weight.T + self.up.bias).square() @ self.down.weight.T


class SentenceHead(nn.Module):
    """Gated means over a span of hidden states and of static token vectors, and the last hidden state.

    With `hidden` numbers between its layers, a perceptron adds to their weighted sum what no weighted sum can say.
    """

    def __init__(self, vocabulary: int, width: int, size: int, hidden: int = 0) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.w_mean, self.w_last = nn.Linear(width, size, bias=False), nn.Linear(width, size, bias=False)
        for layer in (self.w_mean, self.w_last):
            nn.init.normal_(layer.weight, std=2.4e-3)
        self.static = nn.Embedding(vocabulary, size)
        self.mlp = Perceptron(width + size, hidden, size) if hidden else None

    def forward(self, residual: Tensor, tokens: Tensor, spans: Tensor) -> Tensor:
        """Vectors [n, E], not yet of unit length, of spans [n, 3]: row, first token, one behind the last token."""
        return self.with_static(residual, self.static(tokens), spans)

    def with_static(self, residual: Tensor, static: Tensor, spans: Tensor) -> Tensor:
        """The same, of spans whose tokens have these static vectors [rows, T, E]."""
        hidden = layer_norm(residual, self.ln)
        gate = torch.sigmoid(hidden @ self.gate.weight.T + self.gate.bias)
        summed = torch.cat([gate * hidden, gate * static, gate], -1).cumsum(1)
        summed = F.pad(summed, (0, 0, 1, 0))
        row, begin, end = spans.unbind(1)
        sums = summed[row, end] - summed[row, begin]
        width = hidden.shape[-1]
        means = sums[:, :-1] / sums[:, -1:]
        return self.vectors(means[:, :width], means[:, width:], hidden[row, end - 1])

    def vectors(self, mean: Tensor, static: Tensor, last: Tensor) -> Tensor:
        """Vectors [n, E] from gated means of hidden states [n, D] and static vectors [n, E], and the last [n, D]."""
        linear = mean @ self.w_mean.weight.T + last @ self.w_last.weight.T + static
        if self.mlp is None:
            return linear
        bent: Tensor = self.mlp(torch.cat([mean, F.normalize(static, dim=-1)], -1))
        return linear + bent


class PairHead(nn.Module):
    """A score of two vectors that says whether a section begins between them, or how central the first is to the other.

    score = out . tanh(hidden [u * v, |u - v|]); both vectors have unit length.
    """

    def __init__(self, size: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * size, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores [n] of pairs of [n, E]."""
        features = torch.cat([first * second, (first - second).abs()], -1)
        scores: Tensor = self.out(torch.tanh(self.hidden(features)))[..., 0]
        return scores
