"""A GPU whose Triton does not start is computed on by torch, and whoever asks for Triton there is told why."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable

import pytest
import torch

from jobs import doctor
from rwkv_runtime import loading, triton
from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.matrices import BF16
from rwkv_runtime.operations import TorchOperations
from rwkv_runtime.placement import CPU, Plan

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
ON_GPU = Plan.uniform(torch.device("cuda"), BF16)
NO_COMPILER = "RuntimeError: Failed to find C compiler"


@pytest.fixture
def does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "failure", lambda: NO_COMPILER)


def raising(error: Exception) -> Callable[[], None]:
    def start() -> None:
        raise error

    return start


@pytest.mark.parametrize("kernels", ["auto", "triton"])
def test_a_gpu_is_computed_on_by_triton_where_it_starts(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "failure", lambda: None)
    assert triton.status().available
    assert loading._computed(ON_GPU, kernels).parts[0].placement.operations.name == "triton"


@pytest.mark.usefixtures("does_not_start")
@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_a_gpu_is_computed_on_by_torch_where_triton_does_not_start(kernels: str) -> None:
    assert isinstance(loading._computed(ON_GPU, kernels).parts[0].placement.operations, TorchOperations)


@pytest.mark.usefixtures("does_not_start")
def test_the_reason_and_a_remedy_are_told_by_status_by_doctor_and_to_who_asks_for_triton(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = triton.status()
    assert not found.available
    assert NO_COMPILER in found.reason
    assert "gcc" in found.remedy
    with pytest.raises(UnsupportedModelError, match=f"{NO_COMPILER}.*gcc.*or use kernels torch") as refused:
        loading._computed(ON_GPU, "triton")
    assert "\n" not in str(refused.value)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    card = doctor._graphics()
    assert (card.level, card.advice) == ("could be better", found.remedy)
    assert NO_COMPILER in card.found


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to find C compiler.\nPlease specify via CC"),
        subprocess.CalledProcessError(1, ["gcc", *(f"-I/a/long/folder/{n}" for n in range(50))]),
        ImportError("libtriton.so: undefined symbol"),
        AssertionError("libcuda.so cannot found!\n"),
    ],
)
def test_whatever_keeps_triton_from_starting_is_one_short_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "_start", raising(error))
    said = triton.failure.__wrapped__()
    assert said is not None and said.startswith(f"{type(error).__name__}: ")
    assert "\n" not in said and len(said) <= 160


def test_triton_is_started_once_in_a_process_and_only_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = pytest.importorskip("rwkv_runtime.triton.operations")
    started: list[torch.device] = []
    monkeypatch.setattr(operations, "run_smallest", started.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert triton.failure.__wrapped__() is None
    assert started == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    triton.failure.cache_clear()
    assert [triton.failure(), triton.failure()] == [None, None]
    triton.failure.cache_clear()
    assert started == [torch.device("cuda")]


def test_a_model_on_a_cpu_does_not_start_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "failure", lambda: pytest.fail("started"))
    assert loading._computed(Plan.uniform(CPU, BF16), "auto").parts[0].placement.operations.name != "triton"
