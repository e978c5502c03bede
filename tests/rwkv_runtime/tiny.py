"""Tiny random RWKV-7 models for tests: any size, seeded, with a byte tokenizer.

Values are such that activations stay of order 1 and that some channels forget at once while others hardly forget,
so that a comparison between two implementations means something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rwkv_runtime import generations
from rwkv_runtime.model import Model
from rwkv_runtime.pooling import EmbeddingHead
from rwkv_runtime.tokenizers import Encoding, TokenStream, decode_utf8, encoding_of
from rwkv_runtime.weights import Weights

RANKS = {"w": 8, "a": 8, "v": 6, "g": 10}


class Draw:
    """Random tensors from one seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self._generator) * spread

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=self._generator) * (high - low) + low

    def matrix(self, rows: int, columns: int, gain: float = 1.0) -> Tensor:
        """A matrix that takes inputs of order 1, along its second axis, to outputs of the order of `gain`."""
        return self.normal(rows, columns, spread=gain / math.sqrt(columns))

    def norm(self, name: str, width: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + self.normal(width, spread=0.1),
            f"{name}.bias": self.normal(width, spread=0.1),
        }


def tiny_tensors(
    *, vocabulary: int = 257, width: int = 64, head_size: int = 16, layers: int = 3, seed: int = 1
) -> dict[str, Tensor]:
    """All tensors of an RWKV-7 model, with RWKV-LM names and shapes."""
    draw = Draw(seed)
    tensors = {"emb.weight": draw.normal(vocabulary, width, spread=0.5), **draw.norm("blocks.0.ln0", width)}
    for layer in range(layers):
        block = f"blocks.{layer}."
        tensors |= draw.norm(f"{block}ln1", width) | draw.norm(f"{block}ln2", width)
        tensors |= {f"{block}att.{name}": tensor for name, tensor in _time_mix(draw, width, head_size).items()}
        tensors |= {
            f"{block}ffn.x_k": draw.uniform(1, 1, width),
            f"{block}ffn.key.weight": draw.matrix(4 * width, width),
            f"{block}ffn.value.weight": draw.matrix(width, 4 * width),
        }
    tensors |= draw.norm("ln_out", width)
    tensors["head.weight"] = draw.matrix(vocabulary, width, gain=2.0)
    return tensors


def tiny_head(*, vocabulary: int = 257, width: int = 64, dimensions: int = 24, seed: int = 2) -> dict[str, Tensor]:
    """The tensors of an embedding head."""
    draw = Draw(seed)
    head = {
        **draw.norm("ln", width),
        "gate.weight": draw.matrix(1, width),
        "gate.bias": draw.normal(1),
        "static.weight": draw.normal(vocabulary, dimensions),
        "w_mean.weight": draw.matrix(dimensions, width),
        "w_last.weight": draw.matrix(dimensions, width),
        "rotation": torch.linalg.qr(draw.normal(dimensions, dimensions)).Q,
    }
    return {f"embed_head.{name}": tensor for name, tensor in head.items()}


def tiny_model(*, head: bool = False, fingerprint: str = "tiny", **sizes: int) -> Model:
    """A model in memory; `sizes` are those of `tiny_tensors`."""
    weights = Weights("tiny", tiny_tensors(**sizes))
    network = generations.read(weights)
    weights.finish()
    trained = None
    if head:
        width, vocabulary = network.config.n_embd, network.config.vocab_size
        trained = EmbeddingHead.read(Weights("tiny", tiny_head(vocabulary=vocabulary, width=width)), width, vocabulary)
    return Model(network, ByteTokenizer(), fingerprint, trained)


def save_pth(path: Path, tensors: dict[str, Tensor]) -> Path:
    """Write a .pth file as RWKV-LM does."""
    torch.save(tensors, path)
    return path


def tokens_of(count: int, seed: int = 0, vocabulary: int = 257) -> list[int]:
    """Random token ids."""
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


class ByteTokenizer:
    """Token = byte + 1; token 0 is the end of text."""

    name = "bytes"
    vocab_size = 257
    fingerprint = "bytes"

    def encode(self, text: str) -> list[int]:
        return [byte + 1 for byte in text.encode()]

    def encode_with_offsets(self, text: str) -> Encoding:
        return encoding_of([(token, 1) for token in self.encode(text)])

    def decode(self, ids: Sequence[int]) -> str:
        return decode_utf8(self.token_bytes(token) for token in ids)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token - 1]) if token else b""

    def stream(self, snapshot: bytes = b"") -> TokenStream:
        raise NotImplementedError("model tests encode whole texts")


def _time_mix(draw: Draw, width: int, head_size: int) -> dict[str, Tensor]:
    tensors = {f"x_{letter}": draw.uniform(1, 1, width) for letter in "rwkvag"}
    tensors |= {
        "w0": draw.uniform(1, 1, width, low=-7.0, high=2.0),
        "a0": draw.normal(1, 1, width, spread=0.5),
        "v0": draw.normal(1, 1, width, spread=0.5) + 0.7,
        "k_k": draw.uniform(1, 1, width, low=0.5, high=1.0),
        "k_a": draw.uniform(1, 1, width, low=0.7, high=1.1),
        "r_k": draw.normal(width // head_size, head_size, spread=0.2),
    }
    for letter, rank in RANKS.items():
        tensors[f"{letter}1"] = draw.matrix(width, rank)
        tensors[f"{letter}2"] = draw.normal(rank, width, spread=(2.0 if letter == "g" else 0.5) / math.sqrt(rank))
    for name in ("receptance", "key", "value", "output"):
        tensors[f"{name}.weight"] = draw.matrix(width, width)
    return tensors | draw.norm("ln_x", width)
