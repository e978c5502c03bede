"""Tiny random models of every generation for tests: any size, seeded, with a byte tokenizer.

Values are such that activations stay of order 1 and that some channels forget at once while others hardly forget,
so that a comparison between two implementations means something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_runtime import generations, native
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.model import Model
from rwkv_runtime.native.operations import NativeOperations
from rwkv_runtime.placement import CPU, Plan
from rwkv_runtime.pooling import EmbeddingHead
from rwkv_runtime.tokenizers import Encoding, TokenStream, decode_utf8, encoding_of
from rwkv_runtime.weights import Weights

KERNELS = ("torch", "native")
GENERATIONS = ("4", "5.0", "5.1", "5.2", "6", "7", "7a")
RANKS = {"w": 8, "a": 8, "v": 6, "g": 10}
MIX_RANK = DECAY_RANK = 8
EMBEDDING_RANK = 32
"""Of RWKV-7a: the `rwkv` package knows no other."""


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
    *,
    generation: str = "7",
    vocabulary: int = 257,
    width: int = 64,
    head_size: int = 16,
    layers: int = 3,
    seed: int = 1,
) -> dict[str, Tensor]:
    """All tensors of a model, with RWKV-LM names and shapes."""
    draw = Draw(seed)
    tensors = {"emb.weight": draw.normal(vocabulary, width, spread=0.5), **draw.norm("blocks.0.ln0", width)}
    for layer in range(layers):
        block = f"blocks.{layer}."
        tensors |= draw.norm(f"{block}ln1", width) | draw.norm(f"{block}ln2", width)
        time_mix = _time_mix(draw, generation, width, head_size)
        channel_mix = _channel_mix(draw, generation, width, vocabulary)
        tensors |= {f"{block}att.{name}": tensor for name, tensor in time_mix.items()}
        tensors |= {f"{block}ffn.{name}": tensor for name, tensor in channel_mix.items()}
    tensors |= draw.norm("ln_out", width)
    tensors["head.weight"] = draw.matrix(vocabulary, width, gain=2.0)
    return tensors


def tiny_perceptron(*, width: int = 64, dimensions: int = 24, hidden: int = 40, seed: int = 3) -> dict[str, Tensor]:
    """What an embedding head has besides, if it has a perceptron."""
    draw = Draw(seed)
    layers = {
        "up.weight": draw.matrix(hidden, width + dimensions, gain=2.0),
        "up.bias": draw.normal(hidden),
        "down.weight": draw.matrix(dimensions, hidden, gain=2.0),
    }
    return {f"embed_head.mlp.{name}": tensor for name, tensor in layers.items()}


def tiny_words(words: Sequence[Sequence[int]], *, dimensions: int = 24, seed: int = 4) -> dict[str, Tensor]:
    """What an embedding head has besides, if these words of several tokens have vectors of their own."""
    longest = max(map(len, words))
    return {
        "embed_head.words.weight": Draw(seed).normal(len(words), dimensions, spread=2.0),
        "embed_head.words.tokens": torch.tensor([[*one, *[-1] * (longest - len(one))] for one in words]).int(),
    }


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


def plan_of(kernels: str, dtype: str = "fp32") -> Plan:
    """A plan for the CPU with "torch" or "native" operations. Skips the test where there are no native ones."""
    plan = Plan.uniform(CPU, PRECISIONS[dtype])
    if kernels == "torch":
        return plan
    library = native.load()
    if library is None:
        pytest.skip(native.status().reason)
    return plan.computed_by(NativeOperations(library))


def tiny_model(
    *,
    head: bool = False,
    fingerprint: str = "tiny",
    generation: str = "7",
    kernels: str = "torch",
    dtype: str = "fp32",
    **sizes: int,
) -> Model:
    """A model in memory; `sizes` are those of `tiny_tensors`."""
    weights = Weights("tiny", tiny_tensors(generation=generation, **sizes))
    network = generations.read(weights, plan_of(kernels, dtype))
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


def _time_mix(draw: Draw, generation: str, width: int, head_size: int) -> dict[str, Tensor]:
    heads = width // head_size
    if generation == "4":
        return _mixes(draw, "time_mix_", "kvr", width) | {
            "time_decay": draw.uniform(width, low=-5.0, high=1.5),
            "time_first": draw.normal(width, spread=0.7),
            **_matrices(draw, width),
        }
    if generation in ("7", "7a"):
        return _time_mix_of_seven(draw, width, head_size)
    tensors = _matrices(draw, width) | draw.norm("ln_x", width)
    if generation != "5.0":
        tensors["gate.weight"] = draw.matrix(width, width)
    if generation == "6":
        return tensors | _time_mix_of_six(draw, width) | {"time_faaaa": draw.normal(heads, head_size, spread=0.5)}
    tensors |= _mixes(draw, "time_mix_", "kvr" if generation == "5.0" else "kvrg", width)
    shape = (heads, head_size) if generation == "5.2" else (heads,)
    tensors["time_decay"] = draw.uniform(*shape, low=-6.0, high=1.0)
    if generation == "5.0":
        return tensors | {"time_first": draw.uniform(*shape, low=-2.0, high=0.5)}
    return tensors | {"time_faaaa": draw.normal(*shape, spread=0.5)}


def _channel_mix(draw: Draw, generation: str, width: int, vocabulary: int) -> dict[str, Tensor]:
    hidden = 4 * width if generation in ("4", "5.0", "7", "7a") else int(width * 3.5 // 32 * 32)
    if generation in ("7", "7a"):
        tensors = {"x_k": draw.uniform(1, 1, width)}
    else:
        tensors = _mixes(draw, "time_maa_" if generation == "6" else "time_mix_", "kr", width)
        tensors["receptance.weight"] = draw.matrix(width, width)
    tensors |= {"key.weight": draw.matrix(hidden, width), "value.weight": draw.matrix(width, hidden)}
    if generation == "7a":
        rank = EMBEDDING_RANK
        tensors |= {
            "s0": 1 + draw.normal(1, 1, hidden, spread=0.1),
            "s1": draw.normal(width, rank, spread=1 / math.sqrt(width)),
            "s2": draw.normal(rank, hidden, spread=0.2 / math.sqrt(rank)),
            "s_emb.weight": draw.normal(vocabulary, rank * rank, spread=0.3 / math.sqrt(rank)),
            "s_emb_x.weight": draw.matrix(rank * rank, width, gain=0.1),
        }
    return tensors


def _time_mix_of_six(draw: Draw, width: int) -> dict[str, Tensor]:
    return _mixes(draw, "time_maa_", "xwkvrg", width) | {
        "time_maa_w1": draw.normal(width, 5 * MIX_RANK, spread=1 / math.sqrt(width)),
        "time_maa_w2": draw.normal(5, MIX_RANK, width, spread=0.3 / math.sqrt(MIX_RANK)),
        "time_decay": draw.uniform(1, 1, width, low=-6.0, high=1.0),
        "time_decay_w1": draw.normal(width, DECAY_RANK, spread=1 / math.sqrt(width)),
        "time_decay_w2": draw.normal(DECAY_RANK, width, spread=0.5 / math.sqrt(DECAY_RANK)),
    }


def _mixes(draw: Draw, prefix: str, letters: str, width: int) -> dict[str, Tensor]:
    return {prefix + letter: draw.uniform(1, 1, width) for letter in letters}


def _matrices(draw: Draw, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": draw.matrix(width, width) for name in ("receptance", "key", "value", "output")}


def _time_mix_of_seven(draw: Draw, width: int, head_size: int) -> dict[str, Tensor]:
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
    return tensors | _matrices(draw, width) | draw.norm("ln_x", width)
