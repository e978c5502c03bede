"""Weights in the precision that they are computed in are mapped from their file, once for all workers of a machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

import rwkv_runtime
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


@pytest.mark.parametrize(("name", "dtype"), [("a.safetensors", "fp32"), ("b.safetensors", "bf16"), ("c.pth", "fp32")])
def test_matrices_in_the_precision_of_the_file_are_not_copied(tmp_path: Path, name: str, dtype: str) -> None:
    tensors, path = tiny_tensors(vocabulary=12288, layers=2, width=128), tmp_path / name
    (tmp_path / "tokenizer.json").write_bytes((DEFAULT_FOLDER / "tokenizer.json").read_bytes())
    if path.suffix == ".pth":
        save_pth(path, tensors)
    else:
        save_file({key: value.bfloat16() if dtype == "bf16" else value for key, value in tensors.items()}, path)

    model = rwkv_runtime.load(path, dtype=dtype)
    model.forward([1, 2, 3], model.initial_state())

    assert mapped_bytes(path) > 0.8 * path.stat().st_size
    del model
    assert mapped_bytes(path) == 0
