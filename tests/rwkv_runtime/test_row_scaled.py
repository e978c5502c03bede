"""Matrices that a safetensors file keeps as int8 with a scale for each row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rwkv_runtime import weights
from rwkv_runtime.errors import WeightsError
from rwkv_runtime.weights.row_scaled import split


@given(seed=st.integers(0, 2**31 - 1), spread=st.sampled_from([1e-6, 1.0, 1e4]))
def test_a_split_matrix_is_within_half_a_step_of_what_was_stored(seed, spread):
    matrix = torch.randn(7, 33, generator=torch.Generator().manual_seed(seed)) * spread
    matrix[3] = 0
    stored, scale = split(matrix)
    assert stored.dtype == torch.int8
    assert ((stored * scale[:, None] - matrix).abs() <= 0.501 * scale[:, None]).all()
    assert torch.equal(stored[3], torch.zeros(33, dtype=torch.int8))


def test_a_file_hands_out_the_matrix_and_no_scale(tmp_path):
    matrix = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    stored, scale = split(matrix)
    path = tmp_path / "model.safetensors"
    save_file({"emb.weight": stored, "emb.weight.scale": scale, "other.scale": torch.ones(5)}, path)
    read = weights.read(path)
    assert read.names() == {"emb.weight", "other.scale"}
    assert (read.dtype("emb.weight"), read.stored_as("emb.weight")) == (torch.bfloat16, "int8 by row")
    torch.testing.assert_close(read.take("emb.weight", 5, 16).float(), matrix, rtol=0, atol=0.05)


def test_int8_without_a_scale_for_each_row_is_still_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"emb.weight": torch.zeros(5, 16, dtype=torch.int8), "emb.weight.scale": torch.ones(16)}, path)
    with pytest.raises(WeightsError, match="no way of quantizing"):
        weights.read(path).take("emb.weight", 5, 16)
