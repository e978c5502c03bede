"""A trained reader of spans, kept beside a model: which of some sentences answers a question, or none.

It sees the per-token features of the embedding head, [g*h | g*static | g | h]. Tokens of both are mapped into one small
space; a sentence is scored by how near to each of the question's tokens its nearest token is there, and in the static
table, by the same of its passage (Khattab and Zaharia, ColBERT, 2020), and by a bilinear form of the two vectors. Knows
nothing of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rwkv_runtime.errors import WeightsError
from rwkv_runtime.identity import SPAN_READER
from rwkv_runtime.pooling import Floats

FILE: Final = SPAN_READER
PREFIX: Final = "span_head."
FITTED_ON: Final = "fitted_on"
"""The key of the file's metadata with the fingerprint of the model that the reader was fitted on."""

NAMES: Final = (
    *("said.weight", "asked.weight", "weigh.weight", "of_sentence.weight", "of_question.weight"),
    *("hidden.weight", "hidden.bias", "out.weight", "out.bias"),
)
FEATURES: Final = 7
"""Of a sentence, that its score is made of."""
MIXED: Final = 5
"""What its score, those of words and products of both are multiplied with."""
LENGTH_SCALE: Final = 4
MIXTURE: Final = "mixture"
THRESHOLDS: Final = "thresholds"


@dataclass(frozen=True)
class Asked:
    """A question: the features of its tokens [m, F] and its unit vector [E]."""

    features: Floats
    vector: Floats


@dataclass(frozen=True)
class Said:
    """n sentences: the features of all their tokens [T, F], which sentence each token is of [T], from 0 on, the number
    of the passage of each sentence [n], and their unit vectors [n, E]."""

    features: Floats
    owner: NDArray[np.int64]
    passages: NDArray[np.int64]
    vectors: Floats


@dataclass(frozen=True)
class SpanReader:
    """The weights, by name; what its scores count beside those of words [5]; from which log-odds on a question is
    answered, and from which on it is not said to be absent.

    With width D of the model and vectors of E numbers: `said` and `asked` [r, D + E], `weigh` [1, D], `of_sentence`
    and `of_question` [r, E], `hidden` [16, 7], `out` [1, 16]; the last two have biases.
    """

    weights: Mapping[str, Tensor]
    mixture: NDArray[np.float64]
    answered: float
    unsure: float

    @classmethod
    def read(cls, path: Path) -> SpanReader:
        """Read a file. Raises WeightsError if it is damaged, lacks a tensor, or has one of another shape."""
        with _opened(path) as file:
            weights = {name: file.get_tensor(PREFIX + name).float() for name in NAMES}
            mixture = file.get_tensor(PREFIX + MIXTURE).double().numpy()
            answered, unsure = file.get_tensor(PREFIX + THRESHOLDS).tolist()
            _check_shapes({name: tuple(tensor.shape) for name, tensor in weights.items()} | {MIXTURE: mixture.shape})
        return cls(weights, mixture, answered, unsure)

    def sentence_scores(self, asked: Asked, said: Said) -> Floats:
        """How likely each sentence answers, in log-odds against no answer [n]."""
        with torch.inference_mode():
            hidden, static = self._inputs(asked.features)
            weights = torch.softmax((hidden @ self.weights["weigh.weight"].T)[:, 0], 0)
            others, others_static = self._inputs(said.features)
            near = _mapped(others, others_static, self.weights["said.weight"])
            likeness = torch.stack(
                [near @ _mapped(hidden, static, self.weights["asked.weight"]).T, others_static @ static.T]
            )
            return self._scores(likeness, weights, asked, said)

    def _scores(self, likeness: Tensor, weights: Tensor, asked: Asked, said: Said) -> Floats:
        _, passages = np.unique(said.passages, return_inverse=True)
        own = _most(likeness, torch.from_numpy(said.owner), len(said.passages))
        around = _most(own, torch.from_numpy(passages), int(passages.max()) + 1)[:, passages]
        vectors, vector = torch.from_numpy(said.vectors), torch.from_numpy(asked.vector)
        bilinear = (vectors @ self.weights["of_sentence.weight"].T) @ (self.weights["of_question.weight"] @ vector)
        length = torch.log1p(torch.from_numpy(np.bincount(said.owner, minlength=len(passages))).float())
        features = [*(own @ weights), *(around @ weights), vectors @ vector, bilinear, length / LENGTH_SCALE]
        inner = torch.tanh(torch.stack(features, 1) @ self.weights["hidden.weight"].T + self.weights["hidden.bias"])
        found: Floats = (inner @ self.weights["out.weight"][0] + self.weights["out.bias"]).numpy()
        return found

    def _inputs(self, features: Floats) -> tuple[Tensor, Tensor]:
        """The hidden states [T, D] and the static vectors of unit length [T, E] among features."""
        width = self.weights["weigh.weight"].shape[1]
        read = torch.from_numpy(features)
        return read[:, -width:], F.normalize(read[:, width : -width - 1], dim=1)


def _check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless the shapes are those of one reader, whatever the sizes of its model and its own."""
    for name, shape in shapes.items():
        if len(shape) != (1 if name in (MIXTURE, "hidden.bias", "out.bias") else 2):
            raise ValueError(f"{name} has the shape {list(shape)}")
    dimensions, width = shapes["of_sentence.weight"][-1:], shapes["weigh.weight"][-1:]
    small, hidden = shapes["said.weight"][:1], shapes["hidden.bias"]
    joined = (sum(width + dimensions),)
    expected = {
        "said.weight": small + joined,
        "asked.weight": small + joined,
        "weigh.weight": (1, *width),
        "of_sentence.weight": shapes["of_question.weight"][:1] + dimensions,
        "of_question.weight": shapes["of_sentence.weight"][:1] + dimensions,
        "hidden.weight": (*hidden, FEATURES),
        "hidden.bias": hidden,
        "out.weight": (1, *hidden),
        "out.bias": (1,),
        MIXTURE: (MIXED,),
    }
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ValueError(f"{name} has the shape {list(shapes[name])}, beside the others it is {list(shape)}")


def fitted_on(path: Path) -> str:
    """The fingerprint of the model that a reader was fitted on; empty for a file that does not say."""
    with _opened(path) as file:
        return str((file.metadata() or {}).get(FITTED_ON, ""))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of a reader. What is wrong with it, or lacking when it is read, becomes a WeightsError."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: is no reader of spans ({error}); fit it anew or remove it") from error


def _mapped(hidden: Tensor, static: Tensor, weight: Tensor) -> Tensor:
    """Tokens in the small space, of unit length [T, r]."""
    inputs = torch.cat([hidden / hidden.shape[1] ** 0.5, static], 1)
    return F.normalize(inputs @ weight.T, dim=1)


def _most(likeness: Tensor, owner: Tensor, count: int) -> Tensor:
    """The largest of each owner's rows: [2, T, m] to [2, count, m]."""
    index = owner[None, :, None].expand_as(likeness)
    empty = likeness.new_full((likeness.shape[0], count, likeness.shape[2]), -1.0)
    return empty.scatter_reduce(1, index, likeness, "amax")
