"""The two forms of the recurrence of RWKV-5 and 6 against each other and against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime.errors import ShapeError
from rwkv_runtime.kernels.wkv6 import wkv6_chunked, wkv6_recurrent

seeds = st.integers(0, 2**31 - 1)


def draw(lanes: int, tokens: int, seed: int, heads: int = 2, size: int = 16) -> tuple[list[Tensor], Tensor, Tensor]:
    """receptance, log_decay, key, value; a bonus; and a memory that is not empty."""
    g = torch.Generator().manual_seed(seed)
    receptance, decay, key, value = (torch.randn(lanes, tokens, heads, size, generator=g) for _ in range(4))
    inputs = [receptance, -torch.exp(2 * decay - 1), key, value]
    return inputs, torch.randn(heads, size, generator=g), torch.randn(lanes, heads, size, size, generator=g)


def part(inputs: list[Tensor], begin: int, end: int) -> list[Tensor]:
    return [x[:, begin:end] for x in inputs]


def assert_chunked_is_the_specification(inputs: list[Tensor], bonus: Tensor, wkv: Tensor, within: float = 1e-6) -> None:
    lengths = [inputs[0].shape[1]] * len(wkv)
    exact_read, exact_wkv = wkv6_recurrent(*(x.double() for x in inputs), bonus.double(), wkv.double(), lengths)
    read, last = wkv6_chunked(*inputs, bonus, wkv, lengths)
    assert (read - exact_read).norm() <= within * exact_read.norm()
    assert (last - exact_wkv).norm() <= within * exact_wkv.norm()


@given(length=st.integers(1, 12), cut=st.integers(0, 12), seed=seeds)
@settings(deadline=None, max_examples=20)
def test_walking_in_two_parts_is_walking_at_once(length, cut, seed):
    inputs, bonus, wkv = draw(2, length, seed)
    cut = min(cut, length)
    first, middle = wkv6_recurrent(*part(inputs, 0, cut), bonus, wkv, [cut] * 2)
    second, last = wkv6_recurrent(*part(inputs, cut, length), bonus, middle, [length - cut] * 2)

    read, at_once = wkv6_recurrent(*inputs, bonus, wkv, [length] * 2)
    assert torch.equal(torch.cat([first, second], dim=1), read)
    assert torch.equal(last, at_once)


@given(length=st.integers(1, 90), cut=st.integers(0, 90), seed=seeds)
@settings(deadline=None, max_examples=20)
def test_chunks_in_two_parts_are_chunks_at_once(length, cut, seed):
    inputs, bonus, wkv = draw(1, length, seed)
    cut = min(cut, length)
    first, middle = wkv6_chunked(*part(inputs, 0, cut), bonus, wkv, [cut])
    second, last = wkv6_chunked(*part(inputs, cut, length), bonus, middle, [length - cut])

    read, at_once = wkv6_chunked(*inputs, bonus, wkv, [length])
    torch.testing.assert_close(torch.cat([first, second], dim=1), read, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last, at_once, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 65, 257])
def test_chunks_give_the_specification_at_odd_lengths(length):
    assert_chunked_is_the_specification(*draw(2, length, seed=length))


@pytest.mark.parametrize("log_decay", [0.0, -1e-4, -1.0, -7.4, -20.0, -54.0, -103.0, -1e30, float("-inf")])
def test_chunks_give_the_specification_whatever_the_decay(log_decay):
    inputs, bonus, wkv = draw(1, 100, seed=5)
    for decays in (torch.tensor(log_decay), torch.where(torch.arange(16) % 2 == 0, log_decay, -1e-4)):
        inputs[1] = decays.expand_as(inputs[1])
        assert_chunked_is_the_specification(inputs, bonus, wkv)


@pytest.mark.parametrize("log_decay", [-7.4, -54.0, -1e30])
def test_one_strong_decay_costs_the_tokens_around_it_no_digits(log_decay):
    inputs, bonus, wkv = draw(1, 100, seed=6)
    inputs[1] = torch.full_like(inputs[1], -1e-3)
    inputs[1][:, 5::16] = log_decay
    assert_chunked_is_the_specification(inputs, bonus, wkv)


@pytest.mark.parametrize("form", [wkv6_recurrent, wkv6_chunked])
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4), seed=seeds)
@settings(deadline=None, max_examples=10)
def test_what_stands_past_a_lanes_length_never_matters(form, lengths, seed):
    inputs, bonus, wkv = draw(len(lengths), 40, seed)
    hidden = [x.clone() for x in inputs]
    for lane, length in enumerate(lengths):
        for x in hidden:
            x[lane, length:] = float("nan")

    read, last = form(*inputs, bonus, wkv, lengths)
    read_hidden, last_hidden = form(*hidden, bonus, wkv, lengths)
    assert torch.equal(last, last_hidden)
    assert bool(torch.isfinite(last).all())
    for lane, length in enumerate(lengths):
        assert torch.equal(read[lane, :length], read_hidden[lane, :length])
        if length == 0:
            assert torch.equal(last[lane], wkv[lane])


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 32])
def test_whole_chunks_of_padding_leave_the_memory_bit_for_bit(length):
    inputs, bonus, wkv = draw(1, 80, seed=length)
    short = -(-length // 16) * 16
    _, padded = wkv6_chunked(*inputs, bonus, wkv, [length])
    _, unpadded = wkv6_chunked(*part(inputs, 0, short), bonus, wkv, [length])
    assert torch.equal(padded, unpadded)


def test_the_memory_passed_in_is_left_as_it_was():
    inputs, bonus, wkv = draw(2, 40, seed=3)
    before = wkv.clone()
    wkv6_chunked(*inputs, bonus, wkv, [40, 7])
    wkv6_recurrent(*inputs, bonus, wkv, [40, 7])
    assert torch.equal(wkv, before)


def test_a_memory_of_another_size_or_impossible_lengths_are_refused():
    inputs, bonus, wkv = draw(2, 8, seed=3)
    with pytest.raises(ShapeError, match="wkv must be"):
        wkv6_chunked(*inputs, bonus, wkv[..., :8], [8, 8])
    for lengths in ([8], [8, 9], [8, -1]):
        with pytest.raises(ShapeError, match="2 numbers from 0 to 8"):
            wkv6_recurrent(*inputs, bonus, wkv, lengths)
