"""The two forms of the WKV-4 recurrence against each other and against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rwkv_runtime.errors import ShapeError
from rwkv_runtime.kernels.wkv4 import EMPTY, Sums, wkv4_chunked, wkv4_recurrent

seeds = st.integers(0, 2**31 - 1)


def draw(lanes: int, tokens: int, seed: int, width: int = 24) -> tuple[list[Tensor], list[Tensor], Sums]:
    """key and value; log_decay and bonus; and sums over a few tokens."""
    g = torch.Generator().manual_seed(seed)
    key, value = (torch.randn(lanes, tokens, width, generator=g) for _ in range(2))
    decay, bonus = (torch.randn(width, generator=g) for _ in range(2))
    numerator, maximum = (torch.randn(lanes, width, generator=g) for _ in range(2))
    sums = Sums(numerator, 1 + torch.rand(lanes, width, generator=g), maximum)
    return [3 * key, value], [-torch.exp(2 * decay - 2), bonus], sums


def part(inputs: list[Tensor], begin: int, end: int) -> list[Tensor]:
    return [x[:, begin:end] for x in inputs]


def double(tensors: list[Tensor]) -> list[Tensor]:
    return [x.double() for x in tensors]


def assert_close(left: Sums, right: Sums, within: float) -> None:
    """Compare what the sums stand for: they may be scaled by another maximum."""
    maximum = torch.maximum(left.maximum, right.maximum)
    for a, b in ((left.numerator, right.numerator), (left.denominator, right.denominator)):
        scaled = a * torch.exp(left.maximum - maximum), b * torch.exp(right.maximum - maximum)
        assert (scaled[0] - scaled[1]).norm() <= within * scaled[1].norm()


def assert_chunked_is_the_specification(
    inputs: list[Tensor], fixed: list[Tensor], sums: Sums, within: float = 3e-6
) -> None:
    lengths = [inputs[0].shape[1]] * len(sums.maximum)
    exact, exact_sums = wkv4_recurrent(*double(inputs), *double(fixed), Sums(*double(list(sums))), lengths)
    read, last = wkv4_chunked(*inputs, *fixed, sums, lengths)
    assert (read - exact).norm() <= within * exact.norm()
    assert_close(Sums(*double(list(last))), exact_sums, 2 * within)


@given(length=st.integers(1, 12), cut=st.integers(0, 12), seed=seeds)
@settings(deadline=None, max_examples=20)
def test_walking_in_two_parts_is_walking_at_once(length, cut, seed):
    inputs, fixed, sums = draw(2, length, seed)
    cut = min(cut, length)
    first, middle = wkv4_recurrent(*part(inputs, 0, cut), *fixed, sums, [cut] * 2)
    second, last = wkv4_recurrent(*part(inputs, cut, length), *fixed, middle, [length - cut] * 2)

    read, at_once = wkv4_recurrent(*inputs, *fixed, sums, [length] * 2)
    assert torch.equal(torch.cat([first, second], dim=1), read)
    assert all(torch.equal(x, y) for x, y in zip(last, at_once, strict=True))


@given(length=st.integers(1, 150), cut=st.integers(0, 150), seed=seeds)
@settings(deadline=None, max_examples=20)
def test_chunks_in_two_parts_are_chunks_at_once(length, cut, seed):
    inputs, fixed, sums = draw(1, length, seed)
    cut = min(cut, length)
    first, middle = wkv4_chunked(*part(inputs, 0, cut), *fixed, sums, [cut])
    second, last = wkv4_chunked(*part(inputs, cut, length), *fixed, middle, [length - cut])

    read, at_once = wkv4_chunked(*inputs, *fixed, sums, [length])
    torch.testing.assert_close(torch.cat([first, second], dim=1), read, rtol=1e-4, atol=1e-4)
    assert_close(last, at_once, within=1e-5)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 65, 257])
def test_chunks_give_the_specification_at_odd_lengths(length):
    assert_chunked_is_the_specification(*draw(2, length, seed=length))


@pytest.mark.parametrize("log_decay", [0.0, -1e-4, -1.0, -7.4, -54.0, -1e30, float("-inf")])
def test_chunks_give_the_specification_whatever_the_decay(log_decay):
    inputs, (_, bonus), sums = draw(1, 100, seed=5)
    for decays in (torch.tensor(log_decay), torch.where(torch.arange(24) % 2 == 0, log_decay, -1e-4)):
        assert_chunked_is_the_specification(inputs, [decays.expand(24), bonus], sums)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_keys_whose_exponentials_would_overflow_give_finite_means(scale):
    (key, value), fixed, sums = draw(1, 100, seed=6)
    for keys in (key * scale, key.abs() * scale, -key.abs() * scale):
        read, last = wkv4_chunked(keys, value, *fixed, sums, [100])
        exact, exact_sums = wkv4_recurrent(*double([keys, value, *fixed]), Sums(*double(list(sums))), [100])
        assert torch.isfinite(read).all() and all(bool(torch.isfinite(x).all()) for x in last)
        assert (read - exact).norm() <= 1e-6 * scale * exact.norm() + 1e-5  # exponents have as many digits as numbers
        torch.testing.assert_close(last.maximum.double(), exact_sums.maximum, rtol=1e-5, atol=1e-5)


def test_the_first_token_reads_its_own_value():
    inputs, fixed, _ = draw(1, 3, seed=7)
    zeros = torch.zeros(1, 24)
    for form in (wkv4_recurrent, wkv4_chunked):
        read, _ = form(*inputs, *fixed, Sums(zeros, zeros, zeros + EMPTY), [3])
        torch.testing.assert_close(read[:, 0], inputs[1][:, 0])


@pytest.mark.parametrize("form", [wkv4_recurrent, wkv4_chunked])
@given(lengths=st.lists(st.integers(0, 70), min_size=1, max_size=4), seed=seeds)
@settings(deadline=None, max_examples=10)
def test_what_stands_past_a_lanes_length_never_matters(form, lengths, seed):
    inputs, fixed, sums = draw(len(lengths), 70, seed)
    hidden = [x.clone() for x in inputs]
    for lane, length in enumerate(lengths):
        for x in hidden:
            x[lane, length:] = float("nan")

    read, last = form(*inputs, *fixed, sums, lengths)
    read_hidden, last_hidden = form(*hidden, *fixed, sums, lengths)
    for whole, cut, start in zip(last, last_hidden, sums, strict=True):
        assert torch.equal(whole, cut)
        assert all(torch.equal(whole[lane], start[lane]) for lane, length in enumerate(lengths) if not length)
    for lane, length in enumerate(lengths):
        assert torch.equal(read[lane, :length], read_hidden[lane, :length])


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 64])
def test_padding_leaves_the_sums_bit_for_bit(length):
    inputs, fixed, sums = draw(1, 160, seed=length)
    _, padded = wkv4_chunked(*inputs, *fixed, sums, [length])
    _, unpadded = wkv4_chunked(*part(inputs, 0, length), *fixed, sums, [length])
    assert all(torch.equal(x, y) for x, y in zip(padded, unpadded, strict=True))


def test_the_sums_passed_in_are_left_as_they_were():
    inputs, fixed, sums = draw(2, 40, seed=3)
    before = [x.clone() for x in sums]
    wkv4_chunked(*inputs, *fixed, sums, [40, 7])
    wkv4_recurrent(*inputs, *fixed, sums, [40, 7])
    assert all(torch.equal(x, y) for x, y in zip(sums, before, strict=True))


def test_sums_of_another_size_or_impossible_lengths_are_refused():
    inputs, fixed, sums = draw(2, 8, seed=3)
    with pytest.raises(ShapeError, match="each sum must be"):
        wkv4_chunked(*inputs, *fixed, Sums(*(x[:, :8] for x in sums)), [8, 8])
    for lengths in ([8], [8, 9], [8, -1]):
        with pytest.raises(ShapeError, match="2 numbers from 0 to 8"):
            wkv4_recurrent(*inputs, *fixed, sums, lengths)
