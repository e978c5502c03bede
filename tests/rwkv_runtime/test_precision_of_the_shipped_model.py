"""How near the shipped model stays to float32 in the precisions that somebody would read documents in."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from torch import Tensor

import rwkv_runtime

DOCUMENTS = Path(__file__).parents[2] / "examples" / "documents"


@cache
def hidden(name: str, dtype: str) -> Tensor:
    model = rwkv_runtime.load(dtype=dtype)
    tokens = model.tokenizer.encode((DOCUMENTS / name).read_text("utf-8")[:4000])[:512]
    return model.forward(tokens, model.initial_state(), logits="none").hidden


@pytest.mark.parametrize("document", ["moby-dick.txt", "rfc9001.md"])
@pytest.mark.parametrize(("dtype", "error"), [("fp16", 0.0005), ("bf16", 0.005), ("int8", 0.02)])
def test_hidden_states_are_those_of_float32_within(dtype, error, document):
    exact = hidden(document, "fp32")
    assert float((hidden(document, dtype) - exact).norm() / exact.norm()) <= error
