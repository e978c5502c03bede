"""The network against the `rwkv` package, which runs in a process of its own: it is set up by its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import rwkv_runtime
from rwkv_runtime import generations
from rwkv_runtime.model import Model, Output
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import ByteTokenizer, save_pth, tiny_tensors, tokens_of

CHILD = """
import sys
import numpy as np
from rwkv.model import RWKV
model = RWKV(model=sys.argv[1], strategy="cpu fp32")
logits, state = model.forward(np.load(sys.argv[2]).tolist(), None, full_output=True)
np.savez(sys.argv[3], logits=logits.numpy(), **{str(i): z.float().numpy() for i, z in enumerate(state)})
"""


def official(tensors: dict[str, Tensor], tokens: list[int], folder: Path) -> dict[str, np.ndarray]:
    """Logits [T, V] and the state of the package: per layer att_shift, wkv, ffn_shift."""
    save_pth(folder / "model.pth", tensors)
    np.save(folder / "tokens.npy", np.array(tokens))
    names = [str(folder / name) for name in ("model", "tokens.npy", "out.npz")]
    environment = os.environ | {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "OMP_NUM_THREADS": "1"}
    child = [sys.executable, "-c", CHILD, *names]
    done = subprocess.run(child, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "out.npz") as stored:
        return dict(stored)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def assert_official(output: Output, expected: dict[str, np.ndarray], within: float = 1e-4) -> None:
    assert output.logits is not None
    logits = expected["logits"] if output.logits.dim() == 2 else expected["logits"][-1]
    assert relative(output.logits.numpy(), logits) < within
    for layer in range(len(output.state.tensors["wkv"])):
        for slot, name in enumerate(("att_shift", "wkv", "ffn_shift")):
            tensor = output.state.tensors[name][layer].numpy()
            assert relative(tensor, expected[str(3 * layer + slot)].reshape(tensor.shape)) < within


@pytest.mark.parametrize("sizes", [{"vocabulary": 65}, {"vocabulary": 65, "width": 128, "head_size": 64, "layers": 2}])
def test_logits_and_state_of_random_weights_are_those_of_the_rwkv_package(sizes, tmp_path):
    tensors, tokens = tiny_tensors(**sizes), tokens_of(200, vocabulary=65)
    expected = official(tensors, tokens, tmp_path)
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    assert_official(model.forward(tokens, model.initial_state(), logits="all"), expected)


def test_the_shipped_model_is_that_of_the_rwkv_package_at_once_and_token_by_token(tmp_path):
    model = rwkv_runtime.load()
    stored = load_file(Path(rwkv_runtime.__file__).parent / "default" / "model.safetensors")
    tensors = {name: z.float() for name, z in stored.items() if not name.startswith("embed_head.")}
    tokens = tokens_of(200, vocabulary=12288)
    expected = official(tensors, tokens, tmp_path)

    assert_official(model.forward(tokens, model.initial_state(), logits="all"), expected)
    state = model.initial_state()
    for token in tokens:
        output = model.forward([token], state, logits="last")
        state = output.state
    assert_official(output, expected)


def test_the_comparison_notices_another_decay_constant(tmp_path, monkeypatch):
    tensors, tokens = tiny_tensors(vocabulary=65), tokens_of(40, vocabulary=65)
    expected = official(tensors, tokens, tmp_path)
    monkeypatch.setattr("rwkv_runtime.generations.v7.LOG_DECAY_SCALE", -0.61)
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    with pytest.raises(AssertionError):
        assert_official(model.forward(tokens, model.initial_state(), logits="all"), expected)
    assert torch.isfinite(model.forward(tokens, model.initial_state()).hidden).all()
