"""Frozen maps of vectors and the files that hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rwkv_runtime import profiles
from rwkv_runtime.engine import Engine
from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.model import Model
from rwkv_runtime.profiles import LinearMap, Profile
from tests.rwkv_runtime.tiny import tiny_model, tokens_of


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def vectors(count: int, size: int, seed: int = 0) -> np.ndarray:
    spread = np.linspace(3, 0.1, size)
    return (np.random.RandomState(seed).standard_normal((count, size)) * spread + 2).astype(np.float32)


def test_f0_leaves_the_directions_between_the_ends_of_the_spectrum() -> None:
    head = torch.randn(500, 40, generator=torch.Generator().manual_seed(1)) * torch.linspace(4, 0.2, 40)
    found = profiles.from_head(head)
    _, values, directions = torch.linalg.svd(head.double(), full_matrices=False)

    assert found.matrix.shape == (40, 40 - 2 - 10)
    kept = directions[2:30].float().numpy()
    assert np.allclose(np.abs((kept * found.matrix.T).sum(axis=1)), 1, atol=1e-4)
    assert bool((values[:-1] >= values[1:]).all())


@pytest.mark.parametrize("dropped", [0, 1, 3])
def test_f1_leaves_centred_vectors_in_directions_of_falling_spread(dropped: int) -> None:
    sample = vectors(400, 12)
    found = profiles.from_vectors(sample, dropped)
    mapped = (sample - found.mean) @ found.matrix

    assert mapped.shape == (400, 12 - dropped)
    assert np.abs(mapped.mean(axis=0)).max() < 1e-3
    spreads = mapped.std(axis=0)
    assert bool((spreads[:-1] >= spreads[1:] - 1e-4).all())
    whole = np.linalg.svd(sample - sample.mean(axis=0), compute_uv=False) / np.sqrt(400)
    assert np.allclose(spreads, whole[dropped:], rtol=1e-3)


def test_a_mapped_vector_has_length_one_and_depends_on_its_row_alone() -> None:
    sample = vectors(50, 12)
    found = profiles.from_vectors(sample, 1)

    mapped = found(sample)
    assert np.allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-6)
    assert np.array_equal(np.concatenate([found(sample[i : i + 1]) for i in range(50)]), mapped)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_profile_survives_its_file(model: Model, tmp_path: Path, mapped: bool) -> None:
    kept = Profile(model.fingerprint, (2,), "echo", profiles.from_vectors(vectors(90, 64), 1) if mapped else None)
    path = tmp_path / "a.safetensors"
    path.write_bytes(kept.to_bytes())
    found = profiles.read(path)

    assert (found.model_fingerprint, found.layers, found.pooling) == (kept.model_fingerprint, (2,), "echo")
    assert found.to_bytes() == kept.to_bytes()
    pooler = found.pooler(model)
    assert (pooler.layers, pooler.dimensions) == ((2,), 63 if mapped else 64)
    output = model.forward_padded([(tokens_of(9), model.initial_state())], 1, 64, pooler.layers)[0]
    rows = pooler.features(output, tokens_of(9))
    expected = rows.mean(axis=0)[None]
    expected /= np.linalg.norm(expected)
    found_vector = pooler.finish(rows.sum(axis=0)[None], rows[-1:], np.array([9]))
    assert np.allclose(found_vector, kept.map(expected) if kept.map else expected, atol=1e-5)
    assert Engine(model, window=64, lanes=1, pooling=pooler).pooler is pooler


def test_a_profile_of_another_model_or_a_damaged_one_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    other = Profile("other", (), "isolated", LinearMap(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), "x"))
    path.write_bytes(other.to_bytes())

    with pytest.raises(ModelFileError, match="made with the model other, and this is tiny"):
        profiles.read(path).pooler(model)
    with pytest.raises(ModelFileError, match="is not the profile that the job was started with"):
        profiles.read(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelFileError, match="is no profile"):
        profiles.read(path)
    with pytest.raises(ModelFileError, match="cannot be read"):
        profiles.read(tmp_path / "none")
