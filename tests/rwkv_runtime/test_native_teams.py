"""The threads of a native call: how many come, when, and whose they are changes no bit and stops nothing."""

from __future__ import annotations

import copy
import ctypes
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_runtime import generations, native
from rwkv_runtime.layers import Stack
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.native.library import INSTRUCTION_SETS, Library
from rwkv_runtime.native.operations import NativeOperations
from rwkv_runtime.network import Tensors
from rwkv_runtime.placement import CPU, Part, Placement, Plan
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import tiny_tensors

LIBRARIES = [name for name in INSTRUCTION_SETS if native.load(name)]
pytestmark = pytest.mark.skipif(not LIBRARIES, reason=native.status().reason)
DTYPES = ["fp32", "bf16", "int8", "int4"]
SOURCES = Path(__file__).parents[2] / "rwkv_runtime" / "native" / "src"

Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=1)
def network(name: str, dtype: str) -> tuple[Stack, Library]:
    """Two layers whose matrices several threads take a part of, even of a single token and in int4: 7 MB."""
    library = copy.copy(native.load(name))
    assert library is not None
    plan = Plan((Part(Placement(CPU, PRECISIONS[dtype])),)).computed_by(NativeOperations(library))
    return generations.read(Weights("tiny", tiny_tensors(width=768, head_size=64, layers=2)), plan), library


def read(stack: Stack, tokens: int) -> tuple[Tensor, Tensors]:
    """What two lanes give from a random state."""
    draw = torch.Generator().manual_seed(4)
    start = {name: torch.randn(len(one), 2, *one.shape[1:], generator=draw) for name, one in stack.start.items()}
    return stack.window(torch.randint(0, 257, (2, tokens), generator=draw), start, [tokens, tokens])


def assert_same_bits(one: tuple[Tensor, Tensors], other: tuple[Tensor, Tensors]) -> None:
    assert torch.isfinite(other[0]).all() and torch.equal(one[0], other[0])
    assert all(torch.equal(one[1][name], tensor) for name, tensor in other[1].items())


def use(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)


@pytest.mark.parametrize("tokens", [1, 40], ids=["a token", "a window"])
@pytest.mark.parametrize("own", [False, True], ids=["of OpenMP", "of its own"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIBRARIES)
def test_bits_are_the_same_on_any_number_of_threads(name, dtype, own, tokens, monkeypatch):
    stack, library = network(name, dtype)
    use(monkeypatch, 1)
    alone = read(stack, tokens)
    if own:
        monkeypatch.setattr(library, "_region", None)
    for threads in (2, 5, 40):
        use(monkeypatch, threads)
        assert_same_bits(read(stack, tokens), alone)


@pytest.mark.parametrize("tokens", [1, 40], ids=["a token", "a window"])
@pytest.mark.parametrize("late", [None, 0.0, 0.0005, 0.05], ids=["never", "at once", "meanwhile", "behind the end"])
def test_nobody_waits_for_a_thread_that_comes_late_or_never(late, tokens, monkeypatch):
    stack, library = network(LIBRARIES[0], "bf16")
    use(monkeypatch, 1)
    alone, asked = read(stack, tokens), list[int]()

    @Region
    def region(work: int, data: int, count: int, _flags: int) -> None:
        asked.append(count)

        def come() -> None:
            time.sleep(late or 0.0)
            Work(work)(data)

        helper = threading.Thread(target=come)
        if late is not None:
            helper.start()
        Work(work)(data)
        if late is not None:
            helper.join()

    use(monkeypatch, 3)
    monkeypatch.setattr(library, "_region", ctypes.cast(region, ctypes.c_void_p).value)
    assert_same_bits(read(stack, tokens), alone)
    if "avx512_bf16" in LIBRARIES or tokens == 1:
        assert asked == [3]  # for the whole call, not for each of its pieces


def test_calls_at_the_same_time_have_threads_of_their_own(monkeypatch):
    stack, _ = network(LIBRARIES[0], "int8")
    use(monkeypatch, 1)
    alone = {tokens: read(stack, tokens) for tokens in (1, 40)}
    use(monkeypatch, 3)
    with ThreadPoolExecutor(4) as pool:
        for tokens, found in [(tokens, pool.submit(read, stack, tokens)) for _ in range(6) for tokens in (1, 40)]:
            assert_same_bits(found.result(), alone[tokens])


def test_a_model_of_few_weights_wakes_no_thread_for_a_token(monkeypatch):
    library = copy.copy(native.load(LIBRARIES[0]))
    plan = Plan((Part(Placement(CPU, PRECISIONS["bf16"])),)).computed_by(NativeOperations(library))
    stack = generations.read(Weights("tiny", tiny_tensors()), plan)

    @Region
    def region(_work: int, _data: int, count: int, _flags: int) -> None:
        raise AssertionError(f"{count} threads")

    use(monkeypatch, 5)
    monkeypatch.setattr(library, "_region", ctypes.cast(region, ctypes.c_void_p).value)
    assert torch.isfinite(read(stack, 1)[0]).all()


HARNESS = r"""
#include "library.cpp"
namespace unspool { namespace portable { const Kernels* kernels() { return nullptr; } } }
using namespace unspool;

// Every task of every job is done once, and what a job has written the next one reads.
int main() {
    for (int64_t count : {2, 3, 8, 40}) {
        std::vector<int64_t> done(50);
        auto jobs = [&](const Threads& team) {
            for (int64_t job = 0; job < 400; ++job) {
                Threads some = team;
                some.busy = 1 + job % count;
                auto task = [&](int64_t number) { ++done[number]; };
                for_each_task(some, 1 + job * 7 % 50, task);
            }
        };
        std::vector<int64_t> expected(50);
        for (int64_t job = 0; job < 400; ++job)
            for (int64_t number = 0; number < 1 + job * 7 % 50; ++number) expected[number] += 1;
        in_team(Threads{nullptr, count, 0, nullptr}, jobs);
        if (done != expected) return 3;
        auto task = [&](int64_t number) { ++done[number]; };
        for_each_task(Threads{nullptr, count, 0, nullptr}, 50, task);
        for (int64_t number = 0; number < 50; ++number)
            if (done[number] != expected[number] + 1) return 4;
    }
    return 0;
}
"""


def test_the_thread_sanitizer_finds_no_race_between_the_threads_of_a_call(tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "harness.cpp").write_text(HARNESS)
    flags = ["-std=c++17", "-O1", "-g", "-w", "-pthread", "-fsanitize=thread", f"-I{SOURCES}"]
    built = subprocess.run([compiler, *flags, "harness.cpp", "-o", "harness"], cwd=tmp_path, capture_output=True)
    if built.returncode:
        pytest.skip("this compiler has no thread sanitizer")
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []  # older sanitizers cannot bear random addresses
    found = subprocess.run([*fixed, "./harness"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in found.stderr:
        pytest.skip("this system's addresses are beyond the sanitizer")
    assert (found.returncode, found.stderr) == (0, "")
