"""A merged LoRA is the model that it was trained to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import rwkv_runtime
from rwkv_runtime.errors import ModelFileError, WeightsError
from tests.rwkv_runtime.checkpoints import model_of, write_gguf
from tests.rwkv_runtime.tiny import tokens_of

RANK, ALPHA = 4, 10.0
MATRICES = {"blocks.0.att.key": (64, 64), "blocks.2.ffn.value": (64, 256)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "base.gguf", model_of("7"), "7")


@pytest.fixture
def adapter() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    found = {}
    for name, (rows, columns) in MATRICES.items():
        found[f"{name}.lora_A"] = torch.randn(RANK, columns, generator=generator) / 8
        found[f"{name}.lora_B"] = torch.randn(rows, RANK, generator=generator) / 8
    return found


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    torch.save(tensors, path)
    return path


def logits(*arguments, **options) -> Tensor:
    model = rwkv_runtime.load(*arguments, **options)
    return model.forward(tokens_of(9), model.initial_state(), logits="all").logits


def test_a_merged_lora_gives_the_logits_of_the_sum(base: Path, adapter: dict[str, Tensor], tmp_path: Path) -> None:
    norm = {"ln_out.weight": torch.full((64,), 1.5)}
    whole = model_of("7") | norm
    for name in MATRICES:
        whole[f"{name}.weight"] = (
            whole[f"{name}.weight"] + adapter[f"{name}.lora_B"] @ adapter[f"{name}.lora_A"] * ALPHA / RANK
        )
    found = logits(base, lora=saved(adapter | norm, tmp_path / "lora.pth"), lora_alpha=ALPHA)

    torch.testing.assert_close(found, logits(write_gguf(tmp_path / "sum.gguf", whole, "7")), atol=1e-4, rtol=1e-4)
    assert (found - logits(base)).abs().max() > 0.1


def test_a_lora_of_web_rwkv_is_the_same_lora(base: Path, adapter: dict[str, Tensor], tmp_path: Path) -> None:
    web = {
        name.replace("lora_A", "lora.0").replace("lora_B", "lora.1"): (tensor.T if "lora_A" in name else tensor)
        for name, tensor in adapter.items()
    }
    save_file({name: tensor.contiguous() for name, tensor in web.items()}, tmp_path / "lora.st")
    ours = logits(base, lora=saved(adapter, tmp_path / "lora.pth"), lora_alpha=ALPHA)
    assert torch.equal(logits(base, lora=tmp_path / "lora.st", lora_alpha=ALPHA), ours)


def test_a_model_with_a_lora_is_another_model(base: Path, adapter: dict[str, Tensor], tmp_path: Path) -> None:
    path = saved(adapter, tmp_path / "lora.pth")
    prints = [rwkv_runtime.load(base).fingerprint]
    prints += [rwkv_runtime.load(base, lora=path, lora_alpha=alpha).fingerprint for alpha in (8, 8.0, 16)]
    saved({name: tensor * 2 for name, tensor in adapter.items()}, path)
    prints.append(rwkv_runtime.load(base, lora=path, lora_alpha=8).fingerprint)
    assert prints[1] == prints[2]
    assert len(set(prints)) == 4


def test_a_lora_that_does_not_fit_is_refused_with_the_reason(
    base: Path, adapter: dict[str, Tensor], tmp_path: Path
) -> None:
    key = "blocks.0.att.key"
    wrong = {
        "has no lora_A": {"ln_out.weight": torch.ones(64)},
        "has no lora_B": {name: tensor for name, tensor in adapter.items() if name != f"{key}.lora_B"},
        "but not its lora_A": {name: tensor for name, tensor in adapter.items() if name != f"{key}.lora_A"},
        "is not in the model": {name.replace("blocks.0", "blocks.7"): tensor for name, tensor in adapter.items()},
        "does not fit": adapter | {f"{key}.lora_A": torch.ones(RANK, 63)},
        "has no place in the model": adapter | {"other": torch.ones(1)},
    }
    for said, tensors in wrong.items():
        with pytest.raises(WeightsError, match=said):
            rwkv_runtime.load(base, lora=saved(tensors, tmp_path / "lora.pth"), lora_alpha=ALPHA)
    for alpha in (None, float("nan")):
        with pytest.raises(ModelFileError, match="lora_alpha is"):
            rwkv_runtime.load(base, lora=saved(adapter, tmp_path / "lora.pth"), lora_alpha=alpha)
