"""The shipped model against the values that were computed when it was trained, and the public face."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import rwkv_runtime
from rwkv_runtime.errors import ModelFileError, StrategyError, TokenizerError, UnsupportedModelError, WeightsError
from rwkv_runtime.identity import DEFAULT_FINGERPRINT, identify
from rwkv_runtime.model import Model
from tests.rwkv_runtime.tiny import tiny_tensors

FOLDER = Path(rwkv_runtime.__file__).parent / "default"


@pytest.fixture(scope="module")
def model() -> Model:
    return rwkv_runtime.load()


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(FOLDER / "reference.safetensors")


def vectors(model: Model, ids: list[int], spans: list[list[int]]) -> np.ndarray:
    head = model.embedding_head
    assert head is not None
    features = head.features(model.forward(ids, model.initial_state(), logits="none"), ids)
    sums = np.stack([features[begin:end].sum(axis=0) for begin, end in spans])
    last = np.stack([features[end - 1] for _, end in spans])
    return head.finish(sums, last, np.array([end - begin for begin, end in spans]))


def test_its_dimensions_are_those_of_its_card(model):
    card = json.loads((FOLDER / "config.json").read_text())
    config = model.config
    assert (config.generation, config.n_layer, config.n_embd, config.n_head) == ("7", 6, 256, 4)
    assert (config.head_size, config.n_ffn, config.vocab_size) == (64, card["dim_ffn"], card["vocab_size"])
    assert model.initial_state().nbytes == card["state_fp32_bytes"]
    assert model.embedding_head is not None and model.embedding_head.dimensions == card["embed_head"]["dim"]


def test_its_files_are_those_that_the_code_names():
    assert identify("default").fingerprint == DEFAULT_FINGERPRINT


def test_sentence_vectors_read_off_a_stream_are_the_reference(model, reference):
    found = vectors(model, reference["doc_ids"].tolist(), reference["doc_spans"].tolist())
    np.testing.assert_allclose(found, reference["stream"].numpy(), atol=2e-6)


def test_vectors_of_isolated_sentences_are_the_reference(model, reference):
    for row, expected in enumerate(reference["isolated"]):
        ids = reference[f"isolated_ids.{row}"].tolist()
        np.testing.assert_allclose(vectors(model, ids, [[0, len(ids)]])[0], expected.numpy(), atol=2e-6)


def test_the_residual_stream_is_the_reference(model, reference):
    residual = model.forward(reference["doc_ids"].tolist(), model.initial_state(), logits="none").residual
    torch.testing.assert_close(residual, reference["final_hidden_doc"], rtol=1e-5, atol=2e-3)


def test_logits_and_state_after_a_prompt_are_the_reference(model, reference):
    output = model.forward(reference["prompt_ids"].tolist(), model.initial_state(), logits="all")
    torch.testing.assert_close(output.logits, reference["prompt_logits"], rtol=1e-5, atol=1e-4)
    for name, stored in (("att_shift", "att_prev"), ("ffn_shift", "ffn_prev"), ("wkv", "wkv")):
        expected = reference[f"state_{stored}_after_prompt"]
        torch.testing.assert_close(output.state.tensors[name], expected, rtol=1e-4, atol=1e-4)


def test_its_tokenizer_gives_the_ids_of_the_reference(model, reference):
    text = "The history of the city begins in"
    assert model.tokenizer.encode(text) == reference["prompt_ids"].tolist()
    assert isinstance(model.generate(text, max_tokens=3), str)


def test_the_embedding_and_the_head_stay_as_they_are_stored(model):
    network = model._network
    assert network.embedding.dtype == network.head_weight.dtype == torch.bfloat16
    assert network.layers[0].time_mix.key.precision == "fp32"


def test_vectors_are_the_same_with_and_without_native_kernels():
    spans = [(0, 9), (9, 40), (3, 33)]
    found = []
    for kernels in ("auto", "torch"):
        model = rwkv_runtime.load("default", kernels=kernels)
        tokens, head = list(range(100, 140)), model.embedding_head
        assert head is not None and head.perceptron is not None
        features = head.features(model.forward(tokens, model.initial_state()), tokens)
        sums, last = np.stack([features[a:b].sum(0) for a, b in spans]), np.stack([features[b - 1] for _, b in spans])
        found.append(head.finish(sums, last, np.array([b - a for a, b in spans])))
    np.testing.assert_allclose(*found, atol=1e-5)


def test_importing_the_package_loads_no_torch():
    code = "import sys, rwkv_runtime; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_every_public_name_can_be_had_and_unknown_ones_not(model):
    assert all(getattr(rwkv_runtime, name) is not None for name in rwkv_runtime.__all__)
    assert isinstance(model, rwkv_runtime.Model)
    assert callable(rwkv_runtime.load)
    with pytest.raises(AttributeError, match="nothing"):
        _ = rwkv_runtime.nothing


def test_what_this_version_cannot_compute_is_refused():
    with pytest.raises(StrategyError, match="device 'cuda:99' is not there"):
        rwkv_runtime.load(device="cuda:99")
    with pytest.raises(UnsupportedModelError, match="dtype 'fp8' is not supported; use fp32, bf16, fp16, int8, int4"):
        rwkv_runtime.load(dtype="fp8")


def world_sized(**changes: Tensor) -> dict[str, Tensor]:
    return tiny_tensors(vocabulary=65536, width=16, head_size=8, layers=2) | changes


def test_weights_of_one_kind_load_alike_from_both_containers(tmp_path):
    tensors = world_sized()
    torch.save(tensors, tmp_path / "model.pth")
    save_file(tensors, tmp_path / "model.safetensors")
    one, other = (rwkv_runtime.load(tmp_path / name) for name in ("model.pth", "model.safetensors"))
    ids = one.tokenizer.encode("A text, ein Text, 文.")
    left, right = (model.forward(ids, model.initial_state()) for model in (one, other))
    assert torch.equal(left.logits, right.logits)
    assert one.embedding_head is None


def test_tensors_left_over_missing_or_cut_off_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(world_sized(**{"blocks.0.att.extra": torch.zeros(2)}), path)
    with pytest.raises(WeightsError, match=r"blocks\.0\.att\.extra"):
        rwkv_runtime.load(path)
    tensors = world_sized()
    del tensors["ln_out.weight"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"ln_out\.weight is missing"):
        rwkv_runtime.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError):
        rwkv_runtime.load(path)


def test_a_vocabulary_that_does_not_fit_the_weights_is_refused(tmp_path):
    save_file(tiny_tensors(vocabulary=65, width=16, head_size=8, layers=2), tmp_path / "model.safetensors")
    with pytest.raises(TokenizerError, match="65 embedding rows"):
        rwkv_runtime.load(tmp_path)
