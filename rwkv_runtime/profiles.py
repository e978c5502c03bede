"""Profiles: which layers a model's vectors are taken from and the frozen linear map that is applied to them, in a file.

A map never changes while texts are read: it is made once, from the weights (`from_head`) or from vectors of a corpus
(`from_vectors`), and a profile is known by the hash of its file. Knows nothing of texts or of what is measured with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torch import Tensor

from rwkv_runtime import pooling as poolings
from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.pooling import Floats, MeanPooler, SpanPooler, unit

if TYPE_CHECKING:
    from rwkv_runtime.model import Model, Output

FORMAT: Final = "unspool-profile"
VERSION: Final = 1
TOP: Final = 0.05
BOTTOM: Final = 0.25
"""Shares of the spectrum of the output matrix whose directions carry little of a text's meaning (EmbedFilter)."""


@dataclass(frozen=True)
class LinearMap:
    """Takes a vector v [D] to (v - mean) @ matrix, of d numbers, scaled to length 1. `words` say what it is."""

    mean: Floats
    matrix: Floats
    words: str

    def __call__(self, vectors: Floats) -> Floats:
        """Vectors [n, d] of vectors [n, D], each from its row alone."""
        found = np.empty((len(vectors), self.matrix.shape[1]), np.float32)
        for row, vector in enumerate(vectors):
            found[row] = (vector - self.mean) @ self.matrix
        return unit(found)


@dataclass(frozen=True)
class Profile:
    """How vectors are made with a model: the layers whose streams are pooled (none: as the weights have it), and a map.

    `pooling` is the way of reading that was best when the profile was made.
    """

    model_fingerprint: str
    layers: tuple[int, ...]
    pooling: str
    map: LinearMap | None

    def pooler(self, model: Model, name: str = "auto") -> SpanPooler:
        """The pooler for a model. Raises ModelFileError if the profile was made with another one."""
        if self.model_fingerprint != model.fingerprint:
            raise ModelFileError(
                f"the profile was made with the model {self.model_fingerprint[:12]}, and this is "
                f"{model.fingerprint[:12]}; calibrate this one"
            )
        width = model.config.n_embd
        base: SpanPooler = poolings.choose(name, model.embedding_head, width)
        if self.layers:
            base = MeanPooler(width, "layers_" + "_".join(map(str, self.layers)), self.layers)
        return base if self.map is None else MappedPooler(base, self.map)

    def to_bytes(self) -> bytes:
        """The file's content: safetensors, and one text for the rest: equal profiles are equal files."""
        about = {
            "format": FORMAT,
            "version": VERSION,
            "model_fingerprint": self.model_fingerprint,
            "layers": self.layers,
            "pooling": self.pooling,
            "map": "" if self.map is None else self.map.words,
        }
        nothing = np.zeros(0, np.float32)
        tensors = {"mean": nothing, "matrix": nothing}
        if self.map is not None:
            tensors = {name: np.ascontiguousarray(getattr(self.map, name), np.float32) for name in tensors}
        return save_tensors(tensors, {FORMAT: json.dumps(about, sort_keys=True)})


@dataclass(frozen=True)
class MappedPooler:
    """A pooler whose vectors go through a map."""

    base: SpanPooler
    map: LinearMap

    @property
    def name(self) -> str:
        """That of the pooler and of the map."""
        return f"{self.base.name}, {self.map.words}"

    @property
    def dimensions(self) -> int:
        """What the map leaves."""
        return int(self.map.matrix.shape[1])

    @property
    def feature_size(self) -> int:
        """Those of the pooler."""
        return self.base.feature_size

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the pooler."""
        return self.base.layers

    def features(self, output: Output, tokens: Sequence[int], before: Sequence[int] = ()) -> Floats:
        """Those of the pooler."""
        return self.base.features(output, tokens, before)

    def finish(self, sums: Floats, last: Floats, counts: NDArray[np.int64]) -> Floats:
        """Vectors [n, dimensions] of unit length."""
        return self.map(self.base.finish(sums, last, counts))


def read(path: Path, sha256: str | None = None) -> Profile:
    """Read a profile. Raises ModelFileError if it is none, is damaged, or has another hash than expected."""
    try:
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][FORMAT])
        tensors = load_tensors(data)
        if (about["format"], about["version"]) != (FORMAT, VERSION):
            raise ValueError(f"{about['format']} version {about['version']}")
        words = about["map"]
        found = Profile(
            about["model_fingerprint"],
            tuple(about["layers"]),
            about["pooling"],
            LinearMap(tensors["mean"], tensors["matrix"], words) if words else None,
        )
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); give the path of a profile") from error
    except Exception as error:  # safetensors has errors of its own
        raise ModelFileError(f"{path}: is no profile ({error}); make one with `unspool calibrate`") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelFileError(f"{path}: is not the profile that the job was started with; put that one back")
    return found


def from_head(head: Tensor) -> LinearMap:
    """F0: without the directions of the largest and the smallest singular values of the output matrix [V, D].

    Needs no text. Source: EmbedFilter (arXiv 2606.07502), for other models than RWKV.
    """
    with torch.inference_mode():
        gram = torch.zeros(head.shape[1], head.shape[1], dtype=torch.float64)
        for begin in range(0, len(head), 4096):
            rows = head[begin : begin + 4096].double()
            gram += rows.T @ rows
        _, directions = torch.linalg.eigh(gram)  # in ascending order of the singular values
    width = len(gram)
    kept = directions[:, round(BOTTOM * width) : width - round(TOP * width)].flip(1)
    return LinearMap(np.zeros(width, np.float32), kept.float().numpy(), f"F0 {TOP:g} {BOTTOM:g}")


def from_vectors(vectors: Floats, dropped: int) -> LinearMap:
    """F1: less the mean of vectors [n, D] and without the directions in which they differ most, so many of them.

    What is left stands in the order of how much they differ, so that leading dimensions say most.
    Source: all-but-the-top (Mu and Viswanath, 2018).
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    _, directions = np.linalg.eigh(centred.T @ centred)
    kept = directions[:, ::-1][:, dropped:]
    return LinearMap(mean.astype(np.float32), kept.astype(np.float32), f"F1 {dropped} of {len(vectors)}")
