"""Weights in the precision that they are computed in: shared ones are mapped from their file, once for all workers of a
machine; a process that shares none has them where single tokens are written faster. The results are the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import rwkv_runtime
from rwkv_runtime import loading, native
from rwkv_runtime.huge_pages import HugePages
from rwkv_runtime.identity import DEFAULT_FOLDER
from tests.rwkv_runtime.tiny import save_pth, tiny_tensors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")


def mapped_bytes(path: Path) -> int:
    """How much of a file is in this process's memory without a copy."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, value = line.partition(":")
        if "-" in key.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and key == "Rss":
            found += int(value.split()[0]) * 1024
    return found


@pytest.fixture(params=[("a.safetensors", "fp32"), ("b.safetensors", "bf16"), ("c.pth", "fp32")], ids=str)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A weights file and the precision that it has."""
    name, dtype = request.param
    tensors, path = tiny_tensors(vocabulary=16384, layers=2, width=256), tmp_path / name
    (tmp_path / "tokenizer.json").write_bytes((DEFAULT_FOLDER / "tokenizer.json").read_bytes())
    if path.suffix == ".pth":
        save_pth(path, tensors)
    else:
        save_file({key: value.bfloat16() if dtype == "bf16" else value for key, value in tensors.items()}, path)
    return path, dtype


def test_shared_matrices_in_the_precision_of_the_file_are_not_copied(stored: tuple[Path, str]) -> None:
    path, dtype = stored
    model = rwkv_runtime.load(path, dtype=dtype, shared=True)
    model.forward([1, 2, 3], model.initial_state())
    assert mapped_bytes(path) > 0.8 * path.stat().st_size
    del model
    assert mapped_bytes(path) == 0


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the bytes of each tensor that is copied to huge pages."""
    counted, holding = list[int](), HugePages.holding

    def counting(pages: HugePages, tensor: Tensor) -> Tensor:
        held = holding(pages, tensor)
        counted.append(held.nbytes if held is not tensor else 0)
        return held

    monkeypatch.setattr(HugePages, "holding", counting)
    return counted


def test_a_process_that_shares_nothing_copies_its_matrices_and_reads_the_same(
    stored: tuple[Path, str], copied: list[int]
) -> None:
    path, dtype = stored
    shared = rwkv_runtime.load(path, dtype=dtype, shared=True)
    expected = shared.forward([1, 2, 3, 500, 12287], shared.initial_state())
    few = sum(copied)
    alone = rwkv_runtime.load(path, dtype=dtype)
    found = alone.forward([1, 2, 3, 500, 12287], alone.initial_state())
    assert sum(copied) - few > 12 * 256 * 256 * (4 if dtype == "fp32" else 2) > few
    # torch's own products may add up in another order where a matrix begins elsewhere between two cache lines
    torch.testing.assert_close(found.hidden, expected.hidden)
    again = [model.forward([7], read.state).hidden for model, read in ((alone, found), (shared, expected))]
    torch.testing.assert_close(*again)
    if native.load() is not None:
        assert torch.equal(found.hidden, expected.hidden) and torch.equal(*again)


def test_a_file_that_fills_most_of_the_memory_is_shared_with_itself(
    stored: tuple[Path, str], copied: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, dtype = stored
    monkeypatch.setattr(loading, "memory_limit_bytes", lambda: 2 * path.stat().st_size)
    rwkv_runtime.load(path, dtype=dtype)
    assert sum(copied) < 12 * 256 * 256


def test_of_weights_in_several_files_all_count(
    tmp_path: Path, copied: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = tiny_tensors(vocabulary=16384, layers=2, width=256)
    (tmp_path / "tokenizer.json").write_bytes((DEFAULT_FOLDER / "tokenizer.json").read_bytes())
    names = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for part in set(names.values()):
        save_file({name: tensors[name] for name in tensors if names[name] == part}, tmp_path / part)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    size = sum(part.stat().st_size for part in tmp_path.glob("model-*"))
    monkeypatch.setattr(loading, "memory_limit_bytes", lambda: 2 * size)
    rwkv_runtime.load(tmp_path / "model.safetensors.index.json")
    few = sum(copied)
    monkeypatch.setattr(loading, "memory_limit_bytes", lambda: 4 * size)
    rwkv_runtime.load(tmp_path / "model.safetensors.index.json")
    assert few < 12 * 256 * 256 < sum(copied)
