"""One model is the same model in every file that can hold it. Runs over every reader and every naming there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from rwkv_runtime import generations, weights
from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.gguf_header import BLOCKS
from rwkv_runtime.model import Model
from rwkv_runtime.weights import CONTAINERS, Weights
from rwkv_runtime.weights.naming import NAMINGS, RWKV_LM
from tests.rwkv_runtime import checkpoints
from tests.rwkv_runtime.checkpoints import Tensors, model_of, save_safetensors, write_sharded
from tests.rwkv_runtime.tiny import ByteTokenizer, tiny_tensors, tokens_of


@dataclass(frozen=True)
class Sample:
    """A file of some kind: how it is written, and which generations it can hold."""

    container: str
    naming: str
    write: Callable[[Path, Tensors, str], Path]
    generations: tuple[str, ...]
    decay: float = 0.0  # how far the logarithms of stored decays may be off


def saved(save: Callable[[Tensors, Path], object], name: str, rename: Callable[[Tensors], Tensors] = dict):
    def write(folder: Path, tensors: Tensors, generation: str) -> Path:
        save({name: tensor.contiguous() for name, tensor in rename(tensors).items()}, folder / name)
        return folder / name

    return write


def sharded(save: Callable[[Tensors, Path], object], name: str, rename: Callable[[Tensors], Tensors]):
    return lambda folder, tensors, generation: write_sharded(folder, rename(tensors), save, name)


def save_legacy(tensors: Tensors, path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def in_gguf(kind: str, rescale: int = 0):
    return lambda folder, tensors, generation: checkpoints.write_gguf(
        folder / "model.gguf", tensors, generation, kind, rescale=rescale if generation == "6" else 0
    )


def in_rwkv_cpp(kind: str, version: int):
    return lambda folder, tensors, generation: checkpoints.write_rwkv_cpp(
        folder / "model.bin", tensors, generation, kind, version
    )


ALL = ("4", "5.0", "5.2", "6", "7")
HUGGING_FACE = ("4", "5.2", "6")
TRANSFORMERS, FLA = checkpoints.to_transformers, checkpoints.to_fla
SAMPLES = {
    "pth": Sample("PyTorch", RWKV_LM, saved(torch.save, "m.pth"), ALL),
    "legacy pth": Sample("PyTorch", RWKV_LM, saved(save_legacy, "m.pth"), ALL),
    "safetensors": Sample("safetensors", RWKV_LM, saved(save_safetensors, "m.safetensors"), ALL),
    "web-rwkv": Sample(
        "safetensors", "web-rwkv", saved(save_safetensors, "m.st", checkpoints.to_web_rwkv), ("5.2", "6", "7")
    ),
    "web-rwkv v4": Sample("safetensors", RWKV_LM, saved(save_safetensors, "m.st", checkpoints.to_web_rwkv), ("4",)),
    "transformers": Sample(
        "safetensors", "transformers", saved(save_safetensors, "model.safetensors", TRANSFORMERS), HUGGING_FACE
    ),
    "transformers, old": Sample(
        "PyTorch", "transformers", saved(torch.save, "pytorch_model.bin", TRANSFORMERS), HUGGING_FACE
    ),
    "transformers, parts": Sample(
        "sharded", "transformers", sharded(torch.save, "pytorch_model.bin", TRANSFORMERS), HUGGING_FACE
    ),
    "fla": Sample("safetensors", "flash-linear-attention", saved(save_safetensors, "model.safetensors", FLA), ("7",)),
    "fla, fused": Sample(
        "safetensors",
        "flash-linear-attention",
        saved(save_safetensors, "model.safetensors", checkpoints.to_fla_with_fused_mixes),
        ("7",),
    ),
    "fla, parts": Sample(
        "sharded", "flash-linear-attention", sharded(save_safetensors, "model.safetensors", FLA), ("7",)
    ),
    "EmbeddingRWKV": Sample(
        "PyTorch", "EmbeddingRWKV", saved(torch.save, "m.pth", checkpoints.to_embedding_rwkv), ("7",)
    ),
    "GGUF F32": Sample("GGUF", RWKV_LM, in_gguf("F32"), ("6", "7")),
    "GGUF F16": Sample("GGUF", RWKV_LM, in_gguf("F16"), ("6", "7")),
    "GGUF rescaled": Sample("GGUF", RWKV_LM, in_gguf("F32", rescale=1), ("6",)),
    "rwkv.cpp FP32": Sample("rwkv.cpp", RWKV_LM, in_rwkv_cpp("F32", 101), ALL, decay=2e-4),
    "rwkv.cpp FP16": Sample("rwkv.cpp", RWKV_LM, in_rwkv_cpp("F16", 100), ALL, decay=2e-4),
}
CASES = [(name, generation) for name, sample in SAMPLES.items() for generation in sample.generations]


def taken(read: Weights) -> Tensors:
    without_heads(read)
    return {name: read.take(name, *read.shape(name)) for name in sorted(read.names())}


def without_heads(read: Weights) -> None:
    """What EmbeddingRWKV's files have beside a model, and others have not."""
    for name in read.names():
        if name.startswith("eos_heads."):
            read.discard(name)


def logits(tensors: Tensors | Weights) -> Tensor:
    stored = tensors if isinstance(tensors, Weights) else Weights("memory", tensors)
    model = Model(generations.read(stored), ByteTokenizer(), "test", None)
    without_heads(stored)
    stored.finish()
    found = model.forward(tokens_of(20), model.initial_state(), logits="all").logits
    assert found is not None
    return found


def test_every_reader_and_every_naming_has_a_sample() -> None:
    assert {container.NAME for container in CONTAINERS} == {sample.container for sample in SAMPLES.values()}
    quantized = {"Albatross"}  # has a test of its own below
    assert {naming.NAME for naming in NAMINGS} - quantized == {sample.naming for sample in SAMPLES.values()} - {RWKV_LM}


@pytest.mark.parametrize(("name", "generation"), CASES)
def test_the_same_model_in_every_file_is_the_same_tensors(name: str, generation: str, tmp_path: Path) -> None:
    sample, expected = SAMPLES[name], model_of(generation)
    read = weights.read(sample.write(tmp_path, expected, generation))

    assert (read.container, read.naming) == (sample.container, sample.naming)
    found = taken(read)
    if generation == "5.0" and sample.container == "rwkv.cpp":  # the same bonus, with its exponential taken
        expected = {
            new.replace("time_first", "time_faaaa"): tensor.exp() if "time_first" in new else tensor
            for new, tensor in expected.items()
        }
    unused = {f"blocks.0.att.v{side}" for side in "012"}
    assert found.keys() - unused == expected.keys() - unused
    for tensor_name, tensor in found.items():
        value, wanted = tensor.float().squeeze(), expected[tensor_name].squeeze().reshape(tensor.squeeze().shape)
        if sample.decay and tensor_name.endswith("time_decay") and generation != "6":
            torch.testing.assert_close(value, wanted, atol=sample.decay, rtol=0)
        else:
            assert torch.equal(value, wanted), tensor_name


@pytest.mark.parametrize(("name", "generation"), CASES)
def test_the_same_model_in_every_lossless_file_gives_the_same_logits(
    name: str, generation: str, tmp_path: Path
) -> None:
    sample, expected = SAMPLES[name], model_of(generation)
    found = logits(weights.read(sample.write(tmp_path, expected, generation)))

    if sample.decay and generation not in ("6", "7"):  # there decays are stored after an exponential
        torch.testing.assert_close(found, logits(expected), atol=2e-3, rtol=0)
    else:
        assert torch.equal(found, logits(expected))


def test_an_int8_file_of_albatross_gives_the_logits_of_its_rounded_weights(tmp_path: Path) -> None:
    rounded = checkpoints.rounded_to_int8(model_of("7"))
    torch.save(checkpoints.to_albatross(model_of("7")), tmp_path / "int8.pth")
    read = weights.read(tmp_path / "int8.pth")
    assert read.naming == "Albatross"
    assert read.stored_as("head.weight") == "int8"
    assert torch.equal(logits(read), logits(rounded))


ROUNDING = {"BF16": 2**-8, "Q8_0": 1 / 120, "Q5_0": 0.07, "Q5_1": 0.07, "Q4_0": 0.14, "Q4_1": 0.14}
"""How far a weight may be off, as a share of the largest of its row."""


QUANTIZED = [("GGUF", kind) for kind in ROUNDING] + [("rwkv.cpp", kind) for kind in ROUNDING if kind != "BF16"]


@pytest.mark.parametrize(("container", "kind"), QUANTIZED)
def test_quantized_weights_are_near_those_that_were_quantized(container: str, kind: str, tmp_path: Path) -> None:
    expected = model_of("7")
    write = in_gguf(kind) if container == "GGUF" else in_rwkv_cpp(kind, 101)
    read = weights.read(write(tmp_path, expected, "7"))
    key = "blocks.1.ffn.key.weight"

    assert read.stored_as(key) == ("bfloat16" if kind == "BF16" else kind)
    found = read.take(key, 4 * checkpoints.WIDTH, checkpoints.WIDTH).float()
    largest = expected[key].abs().amax(1, keepdim=True)
    assert ((found - expected[key]).abs() <= ROUNDING[kind] * largest).all()
    assert not torch.equal(found, expected[key])


@pytest.mark.parametrize(("kind", "far"), [("BF16", 0.05), ("Q8_0", 0.05), ("Q5_1", 0.3), ("Q4_0", 0.6)])
def test_a_quantized_model_gives_nearly_the_same_logits(kind: str, far: float, tmp_path: Path) -> None:
    expected = logits(model_of("7"))
    found = logits(weights.read(in_gguf(kind)(tmp_path, model_of("7"), "7")))
    assert (found - expected).norm() < far * expected.norm()


SCALES = {"Q2_K": -4, "Q3_K": -2, "Q4_K": 0, "Q5_K": 0, "Q6_K": -2, "TQ1_0": -2, "TQ2_0": -2} | dict.fromkeys(
    ("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"), 0
)
"""Where in a block its float16 scales begin, for the kinds that the `gguf` package reads and cannot write."""


@pytest.mark.parametrize("kind", [*SCALES, "IQ1_M", "MXFP4"])
def test_a_model_of_k_quants_gives_the_logits_of_its_unpacked_weights(kind: str, tmp_path: Path) -> None:
    tensors = tiny_tensors(vocabulary=257, width=256, head_size=64, layers=2)
    names = {f"blk.{layer}.time_mix_key.weight": f"blocks.{layer}.att.key.weight" for layer in range(2)}
    unpacked = dict(tensors)

    def replace(writer) -> None:
        add = writer.add_tensor

        def adding(name: str, data: np.ndarray, raw_dtype=None) -> None:
            if name in names:
                data, raw_dtype = random_blocks(kind, data.shape), GGMLQuantizationType[kind]
                unpacked[names[name]] = torch.from_numpy(dequantize(data, raw_dtype))
            add(name, data, raw_dtype=raw_dtype)

        writer.add_tensor = adding

    path = checkpoints.write_gguf(tmp_path / "k.gguf", tensors, "7", "F32", tokens=[], change=replace)
    read = weights.read(path)
    assert read.stored_as("blocks.0.att.key.weight") == kind
    assert not torch.equal(unpacked["blocks.0.att.key.weight"], tensors["blocks.0.att.key.weight"])
    assert torch.equal(logits(read), logits(unpacked))


def random_blocks(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes of a quantized matrix: anything, with small scales."""
    per_block, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = np.random.RandomState(1).randint(0, 256, (shape[0] * shape[1] // per_block, nbytes), dtype=np.uint8)
    if kind == "MXFP4":  # a power of two: 2^-9
        blocks[:, 0] = 118
        return blocks.reshape(shape[0], -1)
    if kind == "IQ1_M":  # the upper halves of four bytes: 1.5 * 2^-13, so 0x0A00 from the lowest half on
        blocks[:, -7::2] = blocks[:, -7::2] & 15 | np.array([0x00, 0x00, 0xA0, 0x00], np.uint8)
        return blocks.reshape(shape[0], -1)
    scales = 4 if kind in ("Q2_K", "Q4_K", "Q5_K") else 2
    begin = SCALES[kind] % nbytes
    small = np.full((len(blocks), scales // 2), 2e-4 if per_block == 256 else 2e-3, np.float16)
    blocks[:, begin : begin + scales] = small.view(np.uint8)
    return blocks.reshape(shape[0], -1)


def test_the_sizes_of_blocks_are_those_of_the_gguf_package() -> None:
    for number, (name, per_block, nbytes) in BLOCKS.items():
        kind = GGMLQuantizationType(number)
        assert (kind.name, *GGML_QUANT_SIZES[kind]) == (name, per_block, nbytes)


def test_a_kind_that_the_installed_gguf_does_not_know_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_gguf("Q8_0")(tmp_path, model_of("7"), "7")
    monkeypatch.setattr(weights.gguf.blocks, "unpacks", lambda kind: kind != "Q8_0")
    with pytest.raises(UnsupportedModelError, match=r"is Q8_0, newer than the installed gguf; run"):
        weights.read(path)


def test_quantized_tensors_are_not_unpacked_before_they_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_gguf("Q8_0")(tmp_path, model_of("7"), "7")
    unpacked: list[int] = []
    monkeypatch.setattr(
        weights.gguf.blocks, "dequantize", lambda data, kind: unpacked.append(1) or dequantize(data, kind)
    )
    read = weights.read(path)
    assert read.shape("head.weight") == (257, 64)
    assert not unpacked
    read.take("head.weight", 257, 64)
    assert unpacked == [1]
