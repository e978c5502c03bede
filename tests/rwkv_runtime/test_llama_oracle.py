"""GGUF files of RWKV-6 and 7 against llama.cpp: constants that it gave always, itself where it is installed."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rwkv_runtime
from rwkv_runtime.model import Model
from tests.rwkv_runtime import llama_oracle
from tests.rwkv_runtime.llama_oracle import GENERATIONS, GOLDEN, LENGTHS, TOKENS, fingerprint, tensors_of, write
from tests.rwkv_runtime.test_rwkv_oracle import random_pieces, read_in

WITHIN = 2e-2
needs_llama = pytest.mark.skipif(
    not llama_oracle.installed(), reason="llama-cpp-python is not installed (it is built from source: extra `oracles`)"
)


@pytest.fixture(scope="module", params=GENERATIONS)
def generation(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf")


def assert_same_choice(found: np.ndarray, expected: np.ndarray, within: float) -> None:
    """The most likely token is the same wherever it leads by more than the two may differ."""
    best = np.sort(expected, axis=-1)
    leading = best[..., -1] - best[..., -2] > 2 * within
    assert (found.argmax(axis=-1) == expected.argmax(axis=-1))[leading].all()


def read_ours(model: Model, length: int, way: str) -> np.ndarray:
    tokens = TOKENS[:length]
    pieces = {"whole": [tokens], "pieces": random_pieces(tokens, length), "tokens": [[token] for token in tokens]}
    scores = read_in(model, pieces[way]).logits
    assert scores is not None
    return scores.numpy()


@pytest.mark.parametrize("way", ["whole", "pieces", "tokens"])
def test_logits_are_those_that_llama_cpp_gave(generation, way, folder):
    constants, tensors = json.loads(GOLDEN.read_text())[generation], tensors_of(generation)
    made_of = "the tiny models have changed: run python -m tests.rwkv_runtime.llama_oracle"
    assert fingerprint(tensors) == constants["tensors_sha256"], made_of
    model = rwkv_runtime.load(write(folder / f"constants-{generation}.gguf", tensors, generation, "F16"))
    for length in LENGTHS:
        expected = np.array(constants["logits"][str(length)], np.float32)
        found = read_ours(model, length, way)
        assert np.abs(found - expected).max() < WITHIN
        assert_same_choice(found, expected, WITHIN)


@needs_llama
@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_every_logit_is_that_of_llama_cpp_with_the_same_weights(generation, kind, folder, tmp_path):
    tensors = tensors_of(generation)
    path = write(folder / f"{kind}-{generation}.gguf", tensors, generation, kind)
    exact = path if kind == "F16" else write(folder / "r.gguf", llama_oracle.rounded(tensors, path), generation, "F32")
    model = rwkv_runtime.load(path)
    found = model.forward(TOKENS, model.initial_state(), "all").logits.numpy()
    expected = llama_oracle.logits(exact, tmp_path)
    assert np.abs(found - expected).max() < WITHIN
    assert_same_choice(found, expected, WITHIN)


@needs_llama
def test_q8_0_is_as_far_from_llama_cpp_as_its_rounding_of_the_inputs_takes_it(generation, folder, tmp_path):
    path = write(folder / f"quantized-{generation}.gguf", tensors_of(generation), generation, "Q8_0")
    model = rwkv_runtime.load(path)
    found = model.forward(TOKENS, model.initial_state(), "all").logits.numpy()
    expected = llama_oracle.logits(path, tmp_path)
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.04
    assert_same_choice(found, expected, float(np.abs(found - expected).max()))
