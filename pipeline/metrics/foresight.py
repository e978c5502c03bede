"""How well a model foresees a text as it reads it: bits for each byte. Knows nothing of where texts come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

_WINDOW: Final = 512


def bits_per_byte(model: Model, tokens: Sequence[int], stretches: Sequence[tuple[int, int]]) -> list[float]:
    """Bits per byte of each stretch [begin, end) of tokens, all read from the first; that one is given."""
    state, nats = model.initial_state(), [0.0]
    for begin in range(0, len(tokens) - 1, _WINDOW):
        window = tokens[begin : begin + _WINDOW + 1]
        output = model.forward(window[:-1], state, logits="all")
        assert output.logits is not None  # they were asked for
        state = output.state
        target = torch.tensor(window[1:])
        nats += torch.nn.functional.cross_entropy(output.logits, target, reduction="none").tolist()
    sizes = [len(model.tokenizer.token_bytes(token)) for token in tokens]
    return [sum(nats[a:b]) / math.log(2) / sum(sizes[max(a, 1) : b]) for a, b in stretches]
