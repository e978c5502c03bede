"""Random RWKV-7 weights in the shapes of the public models: as fast as real ones, and without any meaning.

Activations stay of order 1. Knows names and shapes; nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rwkv_runtime import generations, tokenizers
from rwkv_runtime.errors import ShapeError
from rwkv_runtime.model import Model
from rwkv_runtime.placement import Plan
from rwkv_runtime.weights import Weights

HEAD = 64
VOCABULARY = 65536
SIZES = {"0.1B": (12, 768), "0.4B": (24, 1024), "1.5B": (24, 2048), "2.9B": (32, 2560), "7.2B": (32, 4096)}
SIZES |= {"13.3B": (61, 4096)}


@dataclass(frozen=True)
class Shape:
    """Layers and width of a model; all else follows from them."""

    layers: int
    width: int
    vocabulary: int = VOCABULARY

    @classmethod
    def named(cls, name: str) -> Shape:
        """The shape of a public model ("0.1B"), or LAYERSxWIDTH ("12x768"). Raises ShapeError."""
        layers, _, width = name.partition("x")
        if name in SIZES:
            return cls(*SIZES[name])
        if layers.isdecimal() and width.isdecimal() and int(layers) and int(width) and int(width) % HEAD == 0:
            return cls(int(layers), int(width))
        raise ShapeError(f"size {name!r} is none of {', '.join(SIZES)}, nor LAYERSxWIDTH with a multiple of {HEAD}")

    def rank(self, letter: str) -> int:
        """The rank of a low-rank pair. Source: RWKV-LM/RWKV-v7/train_temp/src/model.py."""
        factor, power = {"w": (1.8, 0.5), "a": (1.8, 0.5), "v": (1.3, 0.5), "g": (0.6, 0.8)}[letter]
        blocks: int = round(factor * self.width**power / 32)
        return max(1, blocks) * 32


def model(shape: Shape, plan: Plan, seed: int = 0) -> Model:
    """A model of random weights, with the World tokenizer."""
    weights = Weights(f"random {shape.layers}x{shape.width}", tensors(shape, seed))
    network = generations.read(weights, plan)
    weights.finish()
    fingerprint = f"random {shape.layers}x{shape.width}x{shape.vocabulary} {seed}"
    return Model(network, tokenizers.load(None), fingerprint, dtype=plan.name)


def tensors(shape: Shape, seed: int = 0) -> dict[str, Tensor]:
    """All tensors of a model, in bfloat16 as most files are."""
    generator, width = torch.Generator().manual_seed(seed), shape.width

    def normal(*sizes: int, spread: float = 1.0) -> Tensor:
        return torch.randn(*sizes, generator=generator).mul_(spread).bfloat16()

    def norm(name: str, weight: float = 1.0) -> dict[str, Tensor]:
        return {f"{name}.weight": torch.full((width,), weight), f"{name}.bias": torch.zeros(width)}

    def layer(prefix: str) -> dict[str, Tensor]:
        att, ffn, scale = f"{prefix}att.", f"{prefix}ffn.", width**-0.5
        made = {f"{att}x_{letter}": torch.rand(1, 1, width, generator=generator) for letter in "rwkvag"}
        made |= {f"{att}{letter}0": normal(1, 1, width, spread=0.5) for letter in "av"}
        made[f"{att}w0"] = (torch.linspace(-6, 1, width) + normal(width, spread=0.3)).view(1, 1, width)
        for letter in "wavg":
            made[f"{att}{letter}1"] = normal(width, shape.rank(letter), spread=scale)
            made[f"{att}{letter}2"] = normal(shape.rank(letter), width, spread=0.1)
        made |= {f"{att}k_k": torch.full((1, 1, width), 0.85), f"{att}k_a": torch.ones(1, 1, width)}
        made[f"{att}r_k"] = normal(width // HEAD, HEAD, spread=0.1)
        for name, gain in (("receptance", 0.5), ("key", 0.3), ("value", 0.8), ("output", 0.3)):
            made[f"{att}{name}.weight"] = normal(width, width, spread=gain * scale)
        made[f"{ffn}x_k"] = torch.rand(1, 1, width, generator=generator)
        made[f"{ffn}key.weight"] = normal(4 * width, width, spread=0.8 * scale)
        made[f"{ffn}value.weight"] = normal(width, 4 * width, spread=0.15 * scale)
        return made | norm(f"{prefix}ln1") | norm(f"{prefix}ln2") | norm(f"{att}ln_x", 0.5)

    made = {"emb.weight": normal(shape.vocabulary, width, spread=0.5), **norm("blocks.0.ln0"), **norm("ln_out")}
    for index in range(shape.layers):
        made |= layer(f"blocks.{index}.")
    return made | {"head.weight": normal(shape.vocabulary, width, spread=width**-0.5)}
