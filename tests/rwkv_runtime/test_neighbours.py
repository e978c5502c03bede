"""In every precision and with every kind of kernels: no bit of a result depends on what is read beside it."""

from __future__ import annotations

import pytest
import torch

from rwkv_runtime.decoding import LANES
from rwkv_runtime.model import Model
from tests.rwkv_runtime.tiny import KERNELS, tiny_model, tokens_of

WIDTH = 64


@pytest.fixture(params=["fp32", "bf16", "fp16", "int8", "int4"])
def dtype(request) -> str:
    return request.param


@pytest.fixture(params=KERNELS)
def model(request, dtype) -> Model:
    return tiny_model(kernels=request.param, dtype=dtype, width=96, head_size=32, layers=2)


def test_a_window_gives_the_same_bits_alone_and_among_others_and_after_other_work(model):
    start = model.initial_state()
    items = [(tokens_of(count, seed=count), start) for count in (1, 5, 63, 64, 17)]
    alone = [model.forward_padded([item], 1, WIDTH)[0] for item in items]
    model.forward(tokens_of(130), start)
    together = model.forward_padded(items[::-1], len(items), WIDTH)[::-1]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.hidden, other.hidden)
        assert one.state.to_bytes() == other.state.to_bytes()


def test_a_step_gives_a_lane_the_same_bits_wherever_it_stands_and_whoever_stands_beside_it(model):
    states = [model.forward(tokens_of(3 + lane, seed=lane), model.initial_state(), "none").state for lane in range(3)]
    tokens = [7 * lane + 1 for lane in range(LANES)]
    lanes = {
        name: torch.stack([states[lane % 3].tensors[name] for lane in range(LANES)], dim=1)
        for name in states[0].tensors
    }
    logits, after = model.step(tokens, lanes)
    order = torch.randperm(LANES, generator=torch.Generator().manual_seed(1)).tolist()
    moved, moved_after = model.step(
        [tokens[lane] for lane in order], {name: x[:, order].contiguous() for name, x in lanes.items()}
    )
    single, single_after = model.step([token if lane == 5 else None for lane, token in enumerate(tokens)], lanes)
    assert torch.equal(moved, logits[order])
    assert torch.equal(single[5], logits[5])
    for name, tensor in after.items():
        assert torch.equal(moved_after[name], tensor[:, order])
        assert torch.equal(single_after[name][:, 5], tensor[:, 5])
