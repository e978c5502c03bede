"""Model files: what is read, that it is read without a copy, and that everything else is refused in one line."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rwkv_runtime import weights
from rwkv_runtime.errors import ModelFileError, WeightsError
from rwkv_runtime.weights import Weights

DEFAULT = Path(weights.__file__).parents[1] / "default" / "model.safetensors"


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "emb.weight": torch.randn(65, 64, generator=generator).bfloat16(),
        "blocks.0.att.x_r": torch.randn(1, 1, 64, generator=generator).bfloat16(),
        "blocks.0.att.w1": torch.randn(64, 8, generator=generator),
        "ln_out.bias": torch.randn(64, generator=generator).half(),
    }


def save_zip(tensors: Any, path: Path) -> None:
    torch.save(tensors, path)


def save_legacy(tensors: Any, path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


SAVERS = [save_zip, save_legacy, save_file]
Saver = Callable[[Any, Path], None]


def reason(path: Path, kind: type[Exception] = ModelFileError) -> str:
    """Read a file that must be refused; return the message, which is one line and names the file."""
    with pytest.raises(kind) as raised:
        weights.read(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(path))
    return str(raised.value)


def mapped_from(path: Path, tensor: Tensor) -> bool:
    """Whether a tensor's bytes are the mapping of a file (the kernel's own list says so)."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(edge, 16) for edge in line.split()[0].split("-"))
        if start <= tensor.data_ptr() < end:
            return line.endswith(str(path))
    return False


def open_files() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the kernel's list of mappings")


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
def test_the_content_decides_what_a_file_is(
    save: Saver, suffix: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    save(tensors, path)
    read = weights.read(path)

    assert read.source == str(path)
    assert read.names() == tensors.keys()
    for name, tensor in tensors.items():
        assert read.shape(name) == tuple(tensor.shape)
        taken = read.take(name, *tensor.shape)
        assert taken.dtype == tensor.dtype
        assert torch.equal(taken, tensor)
    read.finish()


@needs_proc
@pytest.mark.parametrize("save", [save_zip, save_file])
def test_tensors_are_mapped_from_the_file_and_the_file_is_closed(
    save: Saver, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model"
    save(tensors, path)
    read = weights.read(path)

    assert str(path) not in open_files()
    assert all(mapped_from(path, read.take(name, *tensor.shape)) for name, tensor in tensors.items())


@needs_proc
def test_a_file_is_unmapped_when_its_last_tensor_is_gone(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_file(tensors, path)
    read = weights.read(path)
    taken = read.take("emb.weight", 65, 64)
    for name in read.names():
        read.discard(name)
    assert str(path) in Path("/proc/self/maps").read_text()
    del taken
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_tensor_can_be_written_without_the_file_being_changed(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    for save in (save_zip, save_file):
        save(tensors, tmp_path / "model")
        before = (tmp_path / "model").read_bytes()
        weights.read(tmp_path / "model").take("ln_out.bias", 64).fill_(7)
        assert (tmp_path / "model").read_bytes() == before


def test_the_shipped_model_is_read() -> None:
    read = weights.read(DEFAULT)
    assert read.take("emb.weight", 16384, 256).dtype == torch.bfloat16


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("prefix", ["model.", "module.", "_forward_module.", "rwkv.", "module.model."])
def test_a_wrappers_prefix_is_stripped_if_all_names_have_it(
    save: Saver, prefix: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    wrapped = {prefix + name: tensor for name, tensor in tensors.items()}
    save(wrapped, tmp_path / "model")
    assert weights.read(tmp_path / "model").names() == tensors.keys()

    save(wrapped | {"dense.weight": torch.ones(2)}, tmp_path / "model")
    assert weights.read(tmp_path / "model").names() == {*wrapped, "dense.weight"}


@pytest.mark.parametrize("keys", [["state_dict"], ["model"], ["model", "state_dict"]])
def test_a_state_dict_is_found_inside_a_trainers_file(
    keys: list[str], tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    content: Any = tensors
    for key in reversed(keys):
        content = {"epoch": 3, key: content, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "model.pth")
    assert weights.read(tmp_path / "model.pth").names() == tensors.keys()


def test_a_file_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "model.pth")
    assert "entry 'model' is a dict" in reason(tmp_path / "model.pth")


def test_parameters_come_back_as_plain_tensors(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict() | {"p": torch.nn.Parameter(torch.ones(2))}, tmp_path / "model.pth")
    read = weights.read(tmp_path / "model.pth")
    assert not read.take("p", 2).requires_grad


def test_a_tensor_can_be_taken_once(tensors: dict[str, Tensor]) -> None:
    read = Weights("model.pth", tensors)
    read.take("ln_out.bias", 64)
    assert "ln_out.bias" not in read.names()
    for again in (lambda: read.take("ln_out.bias", 64), lambda: read.shape("ln_out.bias")):
        with pytest.raises(WeightsError, match=r"^model\.pth: ln_out\.bias is missing .*blocks\.0\.att\.w1"):
            again()
    with pytest.raises(WeightsError, match=r"ln_out.bias is missing"):
        read.discard("ln_out.bias")


def test_a_tensor_of_another_shape_is_refused_with_both_shapes_and_can_still_be_taken(
    tensors: dict[str, Tensor],
) -> None:
    read = Weights("model.pth", tensors)
    for shape in [(8, 64), (64, 9), (64,), (64, 8, 2), ()]:
        with pytest.raises(WeightsError) as raised:
            read.take("blocks.0.att.w1", *shape)
        assert f"blocks.0.att.w1 should be {list(shape)}, but is [64, 8]" in str(raised.value)
    read.take("blocks.0.att.w1", 64, 8)


def test_axes_of_length_one_do_not_matter_and_come_back_as_asked(tensors: dict[str, Tensor]) -> None:
    for shape in [(64,), (1, 64), (1, 1, 64)]:
        taken = Weights("model.pth", tensors).take("blocks.0.att.x_r", *shape)
        assert taken.shape == shape
        assert taken.data_ptr() == tensors["blocks.0.att.x_r"].data_ptr()


def test_tensors_left_over_are_named(tensors: dict[str, Tensor]) -> None:
    read = Weights("model.pth", tensors | {f"extra.{n}": torch.ones(1) for n in range(9)})
    for name, tensor in tensors.items():
        read.take(name, *tensor.shape)
    read.discard("extra.0")
    with pytest.raises(WeightsError, match=r"8 tensor\(s\) have no place .*: extra\.1, .*, extra\.5, …;"):
        read.finish()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("place", [0, 777, 999])
def test_a_weight_that_is_not_finite_is_refused_by_name(value: float, dtype: torch.dtype, place: int) -> None:
    tensor = torch.linspace(-60000, 60000, 1000).to(dtype)
    Weights("m", {"head.weight": tensor}).take("head.weight", 1000)
    tensor[place] = value
    with pytest.raises(WeightsError, match=r"head.weight holds a NaN or an infinity"):
        Weights("m", {"head.weight": tensor}).take("head.weight", 1000)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_quantized_tensors_are_refused(dtype: torch.dtype) -> None:
    read = Weights("m", {"head.weight": torch.ones(4).to(dtype)})
    with pytest.raises(WeightsError, match=f"is stored as {str(dtype).removeprefix('torch.')}; no way of quantizing"):
        read.take("head.weight", 4)


class Exploit:
    """Runs a command when it is unpickled, as a hostile model file would."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("forced", ["0", "1"])
@pytest.mark.parametrize(
    "save", [save_zip, save_legacy, lambda content, path: path.write_bytes(pickle.dumps(content, 2))]
)
def test_code_in_a_pickle_is_refused_and_does_not_run(
    save: Saver, forced: str, tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    save(tensors | {"exploit": Exploit(tmp_path / "trace")}, tmp_path / "model.pth")
    assert "nothing in it was run" in reason(tmp_path / "model.pth")
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(Exploit(tmp_path / "trace")))
    assert (tmp_path / "trace").exists(), "the exploit itself must work, or the test shows nothing"


def test_what_a_hostile_pickle_wanted_to_run_is_named(tmp_path: Path) -> None:
    torch.save({"a": Exploit(tmp_path / "trace")}, tmp_path / "model.pth")
    assert "asks to run posix.system" in reason(tmp_path / "model.pth")


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    assert "torch.nn.modules.linear.Linear" in reason(tmp_path / "model.pth")


def test_a_file_converted_by_the_rwkv_package_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(tensors | {"_strategy": "cpu fp32", "_version": 0.7, 3: 1}, tmp_path / "model.pth")
    said = reason(tmp_path / "model.pth")
    assert "'cpu fp32'" in said
    assert "original .pth" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(2)], "holds a list, not named tensors"),
        (torch.ones(2), "holds a Tensor, not named tensors"),
        ({"a": torch.ones(2), "epoch": 3}, "entry 'epoch' is a int"),
        ({1: torch.ones(2)}, "entry 1 is a Tensor"),
        ({"a": torch.ones(2, 2).to_sparse()}, "entry 'a' is a Tensor, not a dense tensor"),
        ({}, "holds no tensors"),
    ],
)
def test_a_torch_file_of_something_else_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert said in reason(tmp_path / "model.pth")


OTHERS = {
    b"": "is empty",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n": "Git LFS pointer",
    b"<!DOCTYPE html><html>": "web page",
    b"\n <html lang='en'>": "web page",
    b"GGUF\x03\x00\x00\x00" + bytes(60): "GGUF",
    b"fmgg" + bytes(60): "ggml",
    b"PK\x03\x04": "damaged or incomplete",
    b"\x80\x02": "damaged",
    b"hello": "not its content",
    bytes(64): "not its content",
    struct.pack("<Q", 1 << 60) + b"{": "not its content",
    struct.pack("<Q", 50) + b'{"a"': "ends within its header",
    struct.pack("<Q", 4) + b"{abc": "header is damaged",
    struct.pack("<Q", 2) + b"{}": "holds no tensors",
    struct.pack("<Q", 8) + b'{"a":[]}': "header is damaged",
    struct.pack("<Q", 35) + b'{"a":{"data_offsets":[0,Infinity]}}': "header is damaged",
}


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_model_is_refused_with_its_reason(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").write_bytes(content)
    assert OTHERS[content] in reason(tmp_path / f"model{suffix}")


def test_a_missing_file_a_folder_and_another_suffix_are_refused(tmp_path: Path) -> None:
    assert "No such file" in reason(tmp_path / "none.pth")
    assert "Is a directory" in reason(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert "is no model file; give a .pth" in reason(tmp_path / "notes.txt")


@pytest.mark.parametrize("save", SAVERS)
def test_a_file_cut_anywhere_is_refused(save: Saver, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut.pth"
    save(tensors, whole)
    content = whole.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(content) - 1, len(content) // 40), len(content) - 1]:
        cut.write_bytes(content[:length])
        reason(cut)


def test_bytes_behind_the_last_tensor_are_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "model.safetensors")
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "has bytes behind its last tensor" in reason(tmp_path / "model.safetensors")


def test_a_header_whose_shapes_do_not_fit_its_offsets_is_refused(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}'
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    assert "is damaged" in reason(tmp_path / "model.safetensors")


def test_an_odd_header_length_is_no_obstacle(tmp_path: Path) -> None:
    """Writers need not align the tensors; then they are still the tensors."""
    header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    assert len(header) % 4
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<3f", 1, 2, 3))
    assert weights.read(tmp_path / "model.safetensors").take("a", 3).tolist() == [1, 2, 3]


def test_a_zip_file_that_is_no_torch_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "damaged or incomplete" in reason(tmp_path / "model.pth")


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), buffer)
        (tmp_path / "model.pth").write_bytes(buffer.getvalue())
    reason(tmp_path / "model.pth")
