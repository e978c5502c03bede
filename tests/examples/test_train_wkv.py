"""The trainable WKV-7 kernels against autograd of the slow recurrence in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from examples.train_default_model.native import NoCompilerError, library
from examples.train_default_model.wkv import kernel, recurrent
from rwkv_runtime.kernels.wkv7 import wkv7_recurrent


def inputs(tokens: int, size: int = 64, heads: int = 2, rows: int = 2, seed: int = 0) -> list[Tensor]:
    """r, decay, k, v, removal, insertion and a state."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    shape = (rows, tokens, heads, size)
    unit = F.normalize(noise(*shape), dim=-1)
    decay = torch.exp(-0.6065 * torch.sigmoid(noise(*shape)))
    removal, insertion = -unit, unit * torch.sigmoid(noise(*shape))
    return [noise(*shape), decay, noise(*shape) / 8, noise(*shape), removal, insertion, noise(rows, heads, size, size)]


def with_reset(given: list[Tensor]) -> list[Tensor]:
    """The inputs as the model makes them where the first row starts a new context in the middle."""
    receptance, decay, key, value, removal, insertion, state = given
    keep = torch.ones_like(decay)
    keep[0, keep.shape[1] // 2] = 0
    return [receptance, decay * keep, key, value, removal * keep, insertion, state]


def results(name: str, given: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Reads, the last state, and the gradients of a fixed function of both."""
    variables = [tensor.to(dtype).requires_grad_() for tensor in given]
    reads, last = kernel(name)(*with_reset(variables))
    generator = torch.Generator().manual_seed(9)
    weights = [torch.randn(part.shape, generator=generator).to(dtype) for part in (reads, last)]
    loss = sum((part * weight).sum() for part, weight in zip((reads, last), weights, strict=True))
    assert isinstance(loss, Tensor)
    return [reads.detach(), last.detach(), *torch.autograd.grad(loss, variables)]


@pytest.fixture(params=["chunked", "native"])
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    if chosen == "native":
        try:
            library()
        except NoCompilerError as error:
            pytest.skip(str(error))
    return chosen


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 48])
def test_a_kernel_and_its_gradients_are_those_of_the_recurrence_in_float64(name, tokens):
    given = inputs(tokens)
    for found, expected in zip(
        results(name, given, torch.float32), results("recurrent", given, torch.float64), strict=True
    ):
        scale = expected.abs().max().clamp_min(1e-3)
        assert (found - expected).abs().max() <= 2e-5 * scale


def test_nothing_from_before_a_reset_is_read_after_it(name):
    given = with_reset(inputs(32))
    other = [tensor.clone() for tensor in given]
    for tensor in other[:6]:
        tensor[0, :16] = tensor[0, :16].roll(1, 0)
    other[6][0] *= -3
    first, second = (kernel(name)(*one)[0] for one in (given, other))
    torch.testing.assert_close(first[0, 16:], second[0, 16:], rtol=1e-5, atol=1e-5)


def test_the_recurrence_that_is_trained_is_the_one_that_is_run():
    receptance, decay, key, value, removal, insertion, state = inputs(20)
    rate = insertion / -removal
    ours = recurrent(receptance, decay, key, value, removal, insertion, state)
    theirs = wkv7_recurrent(receptance, decay.log(), key, value, -removal, rate, state, [20, 20])
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


TRITON_CHECK = """
import torch
from tests.examples.test_train_wkv import inputs, results
given = inputs(17, size=16, rows=1)
for found, expected in zip(results("triton", given, torch.float32), results("recurrent", given, torch.float64)):
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max().clamp_min(1e-3)
"""


def test_the_gpu_kernel_is_the_recurrence_too_in_its_interpreter():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRITON_CHECK],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
