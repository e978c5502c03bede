"""Every generation against the `rwkv` package, which runs in a process of its own: it is set up by its environment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import rwkv_runtime
from rwkv_runtime import generations, state_layouts
from rwkv_runtime.model import Model, Output
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import GENERATIONS, KERNELS, ByteTokenizer, plan_of, save_pth, tiny_tensors, tokens_of

LENGTHS = (1, 2, 63, 64, 65, 300)
CHILD = """
import sys
import numpy as np
from rwkv.model import RWKV
model = RWKV(model=sys.argv[1], strategy="cpu fp32")
tokens, out = np.load(sys.argv[2]).tolist(), {}
for length in map(int, sys.argv[4:]):
    logits, state = model.forward(tokens[:length], None, full_output=True)
    out[f"{length} logits"] = logits.float().numpy().reshape(length, -1)
    out |= {f"{length} {place}": z.float().numpy() for place, z in enumerate(state)}
np.savez(sys.argv[3], **out)
"""
Expected = dict[int, tuple[np.ndarray, list[np.ndarray]]]


def official(tensors: dict[str, Tensor], tokens: list[int], folder: Path, *lengths: int) -> Expected:
    """Logits [T, V] and state of the package after the first so many tokens, by their number."""
    seven, deep = "blocks.0.att.r_k" in tensors, "blocks.0.ffn.s1" in tensors
    path = save_pth(folder / "model.pth", tensors)
    np.save(folder / "tokens.npy", np.array(tokens))
    names = [str(path.with_suffix("") if seven else path), str(folder / "tokens.npy"), str(folder / "out.npz")]
    switches = {"RWKV_V7_ON": str(int(seven)), "RWKV_DE_VERSION": str(int(deep)), "RWKV_JIT_ON": "0"}
    environment = os.environ | switches | {"RWKV_CUDA_ON": "0", "OMP_NUM_THREADS": "1"}
    child = [sys.executable, "-c", CHILD, *names, *map(str, lengths)]
    done = subprocess.run(child, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "out.npz") as stored:
        slots = (len(stored) // len(lengths)) - 1
        return {n: (stored[f"{n} logits"], [stored[f"{n} {slot}"] for slot in range(slots)]) for n in lengths}


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def assert_official(output: Output, expected: tuple[np.ndarray, list[np.ndarray]], within: float = 1e-4) -> None:
    assert output.logits is not None
    logits, slots = expected
    found = output.logits.numpy()
    assert np.abs(found - (logits if found.ndim == 2 else logits[-1])).max() < within
    for tensor, slot in zip(state_layouts.to_rwkv(output.state), slots, strict=True):
        assert relative(tensor.numpy(), slot.reshape(tensor.shape)) < within


def read_in(model: Model, pieces: Iterable[Sequence[int]]) -> Output:
    """Read one piece after another; the output is that of the last."""
    state = model.initial_state()
    for piece in pieces:
        output = model.forward(piece, state)
        state = output.state
    return output


def random_pieces(tokens: list[int], seed: int) -> list[list[int]]:
    cuts = sorted(random.Random(seed).sample(range(1, len(tokens)), min(4, len(tokens) - 1)))
    return [tokens[begin:end] for begin, end in pairwise([0, *cuts, len(tokens)])]


@pytest.fixture(scope="module", params=GENERATIONS)
def answers(request, tmp_path_factory) -> tuple[dict[str, torch.Tensor], list[int], Expected]:
    tensors, tokens = tiny_tensors(generation=request.param, vocabulary=65), tokens_of(max(LENGTHS), vocabulary=65)
    return tensors, tokens, official(tensors, tokens, tmp_path_factory.mktemp("official"), *LENGTHS)


@pytest.fixture(scope="module", params=KERNELS)
def case(request, answers) -> tuple[Model, list[int], Expected]:
    tensors, tokens, expected = answers
    network = generations.read(Weights("tiny", tensors), plan_of(request.param))
    return Model(network, ByteTokenizer(), "tiny"), tokens, expected


@pytest.mark.parametrize("length", LENGTHS)
def test_logits_and_state_are_those_of_the_rwkv_package_in_one_piece_in_pieces_and_token_by_token(case, length):
    model, tokens, expected = case
    tokens = tokens[:length]
    assert_official(model.forward(tokens, model.initial_state(), logits="all"), expected[length])
    assert_official(read_in(model, random_pieces(tokens, length)), expected[length])
    assert_official(read_in(model, [[token] for token in tokens]), expected[length])


def test_reading_goes_on_from_a_state_of_the_rwkv_package(case):
    model, tokens, expected = case
    slots = [torch.from_numpy(slot) for slot in expected[65][1]]
    state = state_layouts.from_rwkv(slots, model, tokens_seen=65)
    assert_official(model.forward(tokens[65:], state), expected[300])


@pytest.mark.parametrize("generation", ["5.0", "5.1"])
def test_both_names_of_the_bonus_are_read_as_in_the_rwkv_package(generation, tmp_path):
    newer = tiny_tensors(generation=generation, vocabulary=65)
    other = {"5.0": ("time_first", "time_faaaa", torch.exp), "5.1": ("time_faaaa", "time_first", torch.neg)}
    old, new, changed = other[generation]
    renamed = {name.replace(old, new): changed(z) if old in name else z for name, z in newer.items()}
    tokens = tokens_of(64, vocabulary=65)
    model = Model(generations.read(Weights("tiny", renamed)), ByteTokenizer(), "tiny")
    assert_official(model.forward(tokens, model.initial_state()), official(renamed, tokens, tmp_path, 64)[64])


@pytest.mark.parametrize("generation", ["5.2", "6", "7"])
def test_heads_of_the_usual_size_are_those_of_the_rwkv_package(generation, tmp_path):
    tensors = tiny_tensors(generation=generation, vocabulary=65, width=128, head_size=64, layers=2)
    tokens = tokens_of(200, vocabulary=65)
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    output = model.forward(tokens, model.initial_state(), logits="all")
    assert_official(output, official(tensors, tokens, tmp_path, 200)[200])


def test_the_shipped_model_is_that_of_the_rwkv_package_at_once_and_token_by_token(tmp_path):
    model = rwkv_runtime.load()
    stored = load_file(Path(rwkv_runtime.__file__).parent / "default" / "model.safetensors")
    scales = {name.removesuffix(".scale"): z for name, z in stored.items() if name.endswith(".scale")}
    tensors = {
        name: (z.float() * scales[name][:, None]).bfloat16().float() if name in scales else z.float()
        for name, z in stored.items()
        if not name.startswith("embed_head.") and not name.endswith(".scale")
    }
    tokens = tokens_of(200, vocabulary=16384)
    logits, slots = official(tensors, tokens, tmp_path, 200)[200]
    scale = float(np.abs(logits).max())

    at_once = model.forward(tokens, model.initial_state(), logits="all")
    for output in (at_once, read_in(model, [[token] for token in tokens])):
        assert_official(output, (logits, slots), within=1e-4 * max(1.0, scale))


def test_the_comparison_notices_another_decay_constant(tmp_path, monkeypatch):
    tensors, tokens = tiny_tensors(vocabulary=65), tokens_of(40, vocabulary=65)
    expected = official(tensors, tokens, tmp_path, 40)[40]
    monkeypatch.setattr("rwkv_runtime.generations.v7.LOG_DECAY_SCALE", -0.61)
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    with pytest.raises(AssertionError):
        assert_official(model.forward(tokens, model.initial_state(), logits="all"), expected)
    assert torch.isfinite(model.forward(tokens, model.initial_state()).hidden).all()
