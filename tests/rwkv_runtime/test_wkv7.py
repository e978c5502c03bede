"""The two forms of the WKV-7 recurrence against each other and against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime.errors import ShapeError
from rwkv_runtime.kernels.wkv7 import wkv7_chunked, wkv7_recurrent

FASTEST, SLOWEST = -0.606531, 0.0
seeds = st.integers(0, 2**31 - 1)


def draw(lanes: int, tokens: int, seed: int, heads: int = 2, size: int = 16) -> tuple[list[Tensor], Tensor]:
    """receptance, log_decay, key, value, removal, rate, and a memory that is not empty."""
    g = torch.Generator().manual_seed(seed)
    shape = (lanes, tokens, heads, size)
    receptance, decay, key, value, removal, rate = (torch.randn(shape, generator=g) for _ in range(6))
    inputs = [receptance, FASTEST * torch.sigmoid(3 * decay - 1), key, value, F.normalize(removal, dim=-1)]
    return [*inputs, torch.sigmoid(rate)], torch.randn(lanes, heads, size, size, generator=g)


def part(inputs: list[Tensor], begin: int, end: int) -> list[Tensor]:
    return [x[:, begin:end] for x in inputs]


def assert_chunked_is_the_specification(inputs: list[Tensor], wkv: Tensor, within: float = 3e-6) -> None:
    lengths = [inputs[0].shape[1]] * len(wkv)
    exact_read, exact_wkv = wkv7_recurrent(*(x.double() for x in inputs), wkv.double(), lengths)
    read, last = wkv7_chunked(*inputs, wkv, lengths)
    assert (read - exact_read).norm() <= within * exact_read.norm()
    assert (last - exact_wkv).norm() <= within * exact_wkv.norm()


@given(length=st.integers(1, 12), cut=st.integers(0, 12), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_walking_in_two_parts_is_walking_at_once(length, cut, seed):
    inputs, wkv = draw(2, length, seed)
    cut = min(cut, length)
    first, middle = wkv7_recurrent(*part(inputs, 0, cut), wkv, [cut] * 2)
    second, last = wkv7_recurrent(*part(inputs, cut, length), middle, [length - cut] * 2)

    read, at_once = wkv7_recurrent(*inputs, wkv, [length] * 2)
    assert torch.equal(torch.cat([first, second], dim=1), read)
    assert torch.equal(last, at_once)


@given(length=st.integers(1, 150), cut=st.integers(0, 150), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_chunks_in_two_parts_are_chunks_at_once(length, cut, seed):
    inputs, wkv = draw(1, length, seed)
    cut = min(cut, length)
    first, middle = wkv7_chunked(*part(inputs, 0, cut), wkv, [cut])
    second, last = wkv7_chunked(*part(inputs, cut, length), middle, [length - cut])

    read, at_once = wkv7_chunked(*inputs, wkv, [length])
    torch.testing.assert_close(torch.cat([first, second], dim=1), read, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last, at_once, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 65, 100, 257])
def test_chunks_give_the_specification_at_odd_lengths(length):
    assert_chunked_is_the_specification(*draw(2, length, seed=length))


@pytest.mark.parametrize("log_decay", [FASTEST, SLOWEST, -1e-4])
def test_chunks_give_the_specification_at_the_ends_of_the_decay_range(log_decay):
    inputs, wkv = draw(1, 200, seed=5)
    inputs[1] = torch.full_like(inputs[1], log_decay)
    assert_chunked_is_the_specification(inputs, wkv)


def test_chunks_give_the_specification_where_channels_of_both_extremes_meet():
    inputs, wkv = draw(1, 200, seed=6)
    inputs[1] = torch.where(torch.arange(inputs[1].shape[-1]) % 2 == 0, FASTEST, -1e-6).expand_as(inputs[1])
    assert_chunked_is_the_specification(inputs, wkv)


def test_chunks_give_the_specification_when_all_keys_are_nearly_the_same():
    inputs, wkv = draw(1, 200, seed=7)
    inputs[4] = F.normalize(inputs[4][:, :1] + 0.01 * inputs[4], dim=-1)
    inputs[5] = torch.full_like(inputs[5], 0.99)
    inputs[1] = torch.full_like(inputs[1], -1e-3)
    assert_chunked_is_the_specification(inputs, wkv, within=1e-5)


@pytest.mark.parametrize("form", [wkv7_recurrent, wkv7_chunked])
@given(lengths=st.lists(st.integers(0, 70), min_size=1, max_size=4), seed=seeds)
@settings(deadline=None, max_examples=15)
def test_what_stands_past_a_lanes_length_never_matters(form, lengths, seed):
    inputs, wkv = draw(len(lengths), 70, seed)
    hidden = [x.clone() for x in inputs]
    for lane, length in enumerate(lengths):
        for x in hidden:
            x[lane, length:] = float("nan")

    read, last = form(*inputs, wkv, lengths)
    read_hidden, last_hidden = form(*hidden, wkv, lengths)
    assert torch.equal(last, last_hidden)
    assert bool(torch.isfinite(last).all())
    for lane, length in enumerate(lengths):
        assert torch.equal(read[lane, :length], read_hidden[lane, :length])
        if length == 0:
            assert torch.equal(last[lane], wkv[lane])


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 64])
def test_whole_chunks_of_padding_leave_the_memory_bit_for_bit(length):
    inputs, wkv = draw(1, 160, seed=length)
    short = -(-length // 32) * 32
    _, padded = wkv7_chunked(*inputs, wkv, [length])
    _, unpadded = wkv7_chunked(*part(inputs, 0, short), wkv, [length])
    assert torch.equal(padded, unpadded)


def test_the_memory_passed_in_is_left_as_it_was():
    inputs, wkv = draw(2, 40, seed=3)
    before = wkv.clone()
    wkv7_chunked(*inputs, wkv, [40, 7])
    wkv7_recurrent(*inputs, wkv, [40, 7])
    assert torch.equal(wkv, before)


def test_a_memory_of_another_size_or_impossible_lengths_are_refused():
    inputs, wkv = draw(2, 8, seed=3)
    with pytest.raises(ShapeError, match="wkv must be"):
        wkv7_chunked(*inputs, wkv[..., :8], [8, 8])
    for lengths in ([8], [8, 9], [8, -1]):
        with pytest.raises(ShapeError, match="2 numbers from 0 to 8"):
            wkv7_recurrent(*inputs, wkv, lengths)
