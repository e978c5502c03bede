"""Weights in huge pages: the same numbers elsewhere, and those of a file where they are."""

from __future__ import annotations

import errno
import mmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_runtime import huge_pages
from rwkv_runtime.huge_pages import WORTHWHILE, HugePages
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.placement import CPU, Placement

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no huge pages to ask for")
TYPES = [torch.float32, torch.bfloat16, torch.int8, torch.uint8]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.sampled_from(TYPES)), min_size=1, max_size=8))
def test_tensors_that_share_chunks_keep_their_numbers_types_and_shapes(sizes):
    pages = HugePages()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huge_pages, "CHUNK", 1 << 20)
        given = [torch.randint(0, 100, (2, size)).to(dtype) for size, dtype in sizes]
        held = [pages.holding(tensor) for tensor in given]
    for tensor, copy in zip(given, held, strict=True):
        assert copy.dtype == tensor.dtype and torch.equal(copy, tensor)
        assert (copy.is_contiguous() and copy.data_ptr() % 64 == 0) or copy is tensor
        assert (copy is tensor) == (tensor.nbytes < WORTHWHILE)


def test_where_none_can_be_asked_for_a_tensor_stays_where_it_is(monkeypatch):
    tensor = torch.zeros(WORTHWHILE)
    assert HugePages().holding(tensor) is not tensor
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert HugePages().holding(tensor) is tensor


def test_a_system_that_refuses_them_gives_its_usual_memory(monkeypatch):
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 1 << 20)  # no advice that any system knows
    assert torch.equal(HugePages().holding(torch.ones(WORTHWHILE)), torch.ones(WORTHWHILE))


def test_where_no_chunk_is_left_weights_stay_and_states_get_what_torch_has(monkeypatch):
    def nothing_left(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", nothing_left)
    monkeypatch.setattr(huge_pages, "LARGE", 1 << 10)
    tensor = torch.ones(WORTHWHILE)
    assert HugePages().holding(tensor) is tensor
    assert huge_pages.room((3, 1 << 10), CPU).fill_(1.0).sum() == 3 << 10


@pytest.mark.parametrize(("name", "made"), [("bf16", False), ("fp32", True), ("int8", True)])
def test_what_a_precision_makes_is_moved_and_what_a_file_holds_stays(name, made):
    weight = torch.randn(256, 512).bfloat16()
    placement = Placement(CPU, PRECISIONS[name])
    matrix, plain = placement.keep(weight), PRECISIONS[name].keep(weight)
    kept = getattr(matrix, "kept", matrix).weight
    assert torch.equal(kept, plain.weight)
    assert (kept.data_ptr() == weight.data_ptr()) == (not made)
    assert (placement.pages._chunk is not None) == made


@pytest.mark.parametrize("name", ["bf16", "fp32", "int8"])
def test_where_nothing_is_shared_everything_is_moved(name):
    weight = torch.randn(256, 512).bfloat16()
    placement = Placement(CPU, PRECISIONS[name], shared=False)
    matrix = placement.keep(weight)
    kept = getattr(matrix, "kept", matrix).weight
    assert torch.equal(kept, PRECISIONS[name].keep(weight).weight)
    assert kept.untyped_storage().data_ptr() != weight.untyped_storage().data_ptr()
    assert placement.pages._chunk is not None


@pytest.mark.parametrize("shape", [(3, 5), (2, 1 << 12, 1 << 10), (9, 1 << 10, 1 << 10)])
def test_room_of_any_size_is_a_tensor_of_its_own_that_can_be_written(shape):
    one, other = huge_pages.room(shape, CPU).fill_(1.0), huge_pages.room(shape, CPU).fill_(2.0)
    assert one.shape == shape and one.dtype == torch.float32 and one.is_contiguous()
    assert bool((one == 1.0).all()) and bool((other == 2.0).all())
