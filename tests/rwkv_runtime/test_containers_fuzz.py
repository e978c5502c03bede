"""No file, whatever is in it, does more than be refused in one line: quickly, in little memory, without running code.

Damage that cannot be seen from outside (a flipped bit of a weight) may be read; then every tensor can be taken or is
refused by name.
"""

from __future__ import annotations

import json
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import rwkv_runtime
from rwkv_runtime import generations, weights
from rwkv_runtime.errors import ModelFileError, RwkvError, UnsupportedModelError
from rwkv_runtime.weights import CONTAINERS
from tests.rwkv_runtime.checkpoints import model_of, save_safetensors, write_gguf
from tests.rwkv_runtime.test_containers_contract import SAMPLES
from tests.rwkv_runtime.test_weights import Exploit
from tests.rwkv_runtime.tiny import tiny_tensors

ROOT = Path(__file__).parents[2]
SECONDS = 2.0  # of processor time, as other tests may keep the machine busy
MEMORY = 512 << 20

FORMS = ["pth", "legacy pth", "safetensors", "GGUF F16", "rwkv.cpp FP16", "transformers, parts", "fla, parts"]


def written(form: str, folder: Path) -> Path:
    sample = SAMPLES[form]
    generation = sample.generations[-1]
    if generation != "7":
        return sample.write(folder, model_of(generation), generation)
    tensors = tiny_tensors(vocabulary=33, width=32, head_size=16, layers=1)
    return sample.write(folder, {name: tensor.half().float() for name, tensor in tensors.items()}, "7")


def attempt(path: Path) -> str | None:
    """Read a file and take every tensor; return the message of the refusal, if it is refused."""
    started = time.process_time()
    try:
        read = weights.read(path)
        for name in read.names():
            read.take(name, *read.shape(name))
    except RwkvError as error:
        message = str(error)
        assert "\n" not in message
        return message
    finally:
        assert time.process_time() - started < SECONDS
    return None


def test_every_reader_is_among_the_damaged_files() -> None:
    assert {SAMPLES[form].container for form in FORMS} == {container.NAME for container in CONTAINERS}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_anywhere_is_refused(form: str, tmp_path: Path) -> None:
    path = written(form, tmp_path)
    content = path.read_bytes()
    for length in [*range(0, 200, 13), *range(200, len(content) - 1, len(content) // 25), len(content) - 1]:
        path.write_bytes(content[:length])
        assert attempt(path), f"cut after {length} of {len(content)} bytes"


@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_flipped_bytes_is_refused_or_read(form: str, tmp_path: Path) -> None:
    path = written(form, tmp_path)
    content = path.read_bytes()
    draw = random.Random(7)
    refused = 0
    for position in [*range(0, 60, 2), *sorted(draw.sample(range(len(content)), 70))]:
        damaged = bytearray(content)
        damaged[position] ^= draw.randrange(1, 256)
        path.write_bytes(damaged)
        refused += attempt(path) is not None
    assert refused > 5, "flips in a header must show"


def test_a_part_that_is_cut_or_missing_or_has_other_tensors_is_named(tmp_path: Path) -> None:
    index = written("fla, parts", tmp_path)
    part = tmp_path / "model-00002-of-00002.safetensors"
    content = part.read_bytes()
    part.write_bytes(content[:-1])
    assert "00002-of-00002.safetensors: is truncated" in str(attempt(index))
    save_safetensors({"model.norm.weight": torch.ones(2)}, part)
    assert "differ about" in str(attempt(index))
    part.write_bytes(b"<html>")
    assert "neither a safetensors nor a PyTorch file" in str(attempt(index))
    part.unlink()
    assert "its part model-00002-of-00002.safetensors cannot be read" in str(attempt(index))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".st", ".gguf", ".bin"])
@pytest.mark.parametrize(("content", "said"), [(POINTER, "Git LFS pointer"), (b"<!DOCTYPE html>", "web page")])
def test_a_pointer_or_a_web_page_in_place_of_a_model_is_called_what_it_is(
    suffix: str, content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=said):
        rwkv_runtime.load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".st", ".gguf", ".bin"])
def test_an_exploit_under_any_name_runs_nothing(suffix: str, tmp_path: Path) -> None:
    for number, save in enumerate((torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2)))):
        path = tmp_path / f"model{number}{suffix}"
        save({"emb.weight": Exploit(tmp_path / "trace")}, path)
        assert "nothing in it was run" in str(attempt(path))
        assert not (tmp_path / "trace").exists()


def test_an_exploit_in_a_part_runs_nothing(tmp_path: Path) -> None:
    index = written("transformers, parts", tmp_path)
    torch.save({"a": Exploit(tmp_path / "trace")}, tmp_path / "pytorch_model-00001-of-00002.bin")
    assert "nothing in it was run" in str(attempt(index))
    assert not (tmp_path / "trace").exists()


def test_a_compressed_torch_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50 << 20))
    assert "has compressed entries" in str(attempt(tmp_path / "bomb.pth"))


def test_a_generation_that_is_not_run_is_refused_by_its_name_whatever_the_file(tmp_path: Path) -> None:
    for form, refused, name, tensor in (
        ("pth", "7b", "blocks.0.qkv.k1", torch.ones(2, 2)),
        ("safetensors", "8", "blocks.0.ffn.enn.weight", torch.ones(2, 2)),
    ):
        path = SAMPLES[form].write(tmp_path, {**model_of("7"), name: tensor}, "7")
        with pytest.raises(UnsupportedModelError, match=f"an RWKV-{refused}.*{name}"):
            generations.read(weights.read(path))


@pytest.mark.parametrize("architecture", ["llama", "rwkv6qwen2", "arwkv7", ""])
def test_a_gguf_file_of_another_architecture_is_refused_by_its_name(architecture: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_of([text_entry(b"general.architecture", architecture.encode())]))
    with pytest.raises(UnsupportedModelError, match=f"the architecture '{architecture}'"):
        rwkv_runtime.load(path)


def test_metadata_that_does_not_fit_the_tensors_is_refused(tmp_path: Path) -> None:
    def changing(key: str, value: float, add: str = "add_uint32") -> Callable[..., None]:
        def change(writer) -> None:
            writer.kv_data[0].pop(key, None)
            getattr(writer, add)(key, value)

        return change

    cases = {
        "block_count as 9, but its tensors as 3": changing("rwkv7.block_count", 9),
        "embedding_length as 63": changing("rwkv7.embedding_length", 63),
        "feed_forward_length as 1": changing("rwkv7.feed_forward_length", 1),
        "has no heads of 7": changing("rwkv7.wkv.head_size", 7),
        "wkv.head_size is 0": changing("rwkv7.wkv.head_size", 0),
        "layer_norm_epsilon is 0.001": changing("rwkv7.attention.layer_norm_epsilon", 1e-3, "add_float32"),
        "should be a number": changing("rwkv7.block_count", "x", "add_string"),
        "one part of several": changing("split.count", 2),
    }
    for said, change in cases.items():
        assert said in str(attempt(write_gguf(tmp_path / "m.gguf", model_of("7"), "7", change=change)))


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def text_entry(key: bytes, value: bytes) -> bytes:
    return entry(key, 8, text(value))


def place(name: bytes, shape: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0, axes: int | None = None) -> bytes:
    lengths = struct.pack(f"<{len(shape)}q", *shape)
    return (
        text(name)
        + struct.pack("<i", len(shape) if axes is None else axes)
        + lengths
        + struct.pack("<IQ", kind, offset)
    )


ARCHITECTURE = text_entry(b"general.architecture", b"rwkv7")
HUGE = (50_000_000, 1 << 32, 1 << 60, (1 << 64) - 1)


def gguf_of(
    entries: list[bytes],
    places: list[bytes] = (),  # type: ignore[assignment]
    *,
    version: int = 3,
    n_tensors: int | None = None,
    n_entries: int | None = None,
    data: bytes = bytes(64),
) -> bytes:
    counts = (len(places) if n_tensors is None else n_tensors, len(entries) if n_entries is None else n_entries)
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(entries) + b"".join(places)
    return head + bytes(-len(head) % 32) + data


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + content


A = ARCHITECTURE
HOSTILE = {
    "version 0": gguf_of([A], version=0),
    "version 1": gguf_of([A], version=1),
    "version of the future": gguf_of([A], version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + A,
    "only a magic number": b"GGUF",
    **{f"{n} tensors": gguf_of([A], n_tensors=n) for n in HUGE},
    **{f"{n} entries": gguf_of([A], n_entries=n) for n in HUGE},
    **{f"key of {n}": gguf_of([A, struct.pack("<Q", n) + b"key"]) for n in HUGE},
    **{f"text of {n}": gguf_of([A, entry(b"k", 8, struct.pack("<Q", n))]) for n in HUGE},
    **{f"array of {n} x {kind}": gguf_of([A, entry(b"k", 9, array(kind, n))]) for n in HUGE for kind in (0, 4, 8, 12)},
    "arrays in arrays": gguf_of([A, entry(b"k", 9, array(9, 1) * 5000)]),
    "array of a bad type": gguf_of([A, entry(b"k", 9, array(99, 1, bytes(8)))]),
    "bad value type": gguf_of([A, entry(b"k", 13, bytes(8))]),
    "key that is no text": gguf_of([A, entry(b"\xff\xfe", 4, bytes(4))]),
    "duplicate key": gguf_of([A, A]),
    "architecture that is a number": gguf_of([entry(b"general.architecture", 4, bytes(4))]),
    "alignment 13": gguf_of([A, entry(b"general.alignment", 4, struct.pack("<I", 13))], [place(b"a")]),
    "alignment 0": gguf_of([A, entry(b"general.alignment", 4, struct.pack("<I", 0))], [place(b"a")]),
    "alignment 2^31": gguf_of([A, entry(b"general.alignment", 4, struct.pack("<I", 1 << 31))], [place(b"a")]),
    "alignment as text": gguf_of([A, text_entry(b"general.alignment", b"32")], [place(b"a")]),
    "split count as text": gguf_of([A, text_entry(b"split.count", b"x")], [place(b"a")]),
    "long tensor name": gguf_of([A], [place(b"n" * 64)]),
    **{f"tensor name of {n}": gguf_of([A], [struct.pack("<Q", n) + b"name" * 20]) for n in HUGE},
    "duplicate tensor": gguf_of([A], [place(b"a"), place(b"a", offset=32)]),
    **{f"{axes} axes": gguf_of([A], [place(b"a", axes=axes)]) for axes in (0, 5, -1, 1 << 30)},
    **{f"shape {shape}": gguf_of([A], [place(b"a", shape)]) for shape in ((0,), (-1,), (1 << 62,), (1 << 40, 1 << 40))},
    "four huge axes": gguf_of([A], [place(b"a", (1 << 62,) * 4)]),
    **{f"tensor type {kind}": gguf_of([A], [place(b"a", kind=kind)]) for kind in (4, 5, 9, 16, 31, 39, 1 << 31)},
    "row that is no whole block": gguf_of([A], [place(b"a", (33,), kind=8)]),
    **{f"offset {offset}": gguf_of([A], [place(b"a", offset=offset)]) for offset in (1, 32, 1 << 60, (1 << 64) - 1)},
    "overlap": gguf_of([A], [place(b"a"), place(b"b")]),
    "not enough data": gguf_of([A], [place(b"a", (17,))]),
    "no tensors": gguf_of([A]),
    "more texts than any vocabulary": gguf_of([A, entry(b"k", 9, array(8, 1_000_001, bytes(8 * 1_000_001)))]),
    "many texts": gguf_of([A, *(entry(b"k%d" % n, 9, array(8, 10**6, text(b"ab") * 10**6)) for n in range(4))]),
    "many entries": gguf_of([A, *(entry(b"k%06d" % n, 0, b"0") for n in range(100_000))]),
    "many tensors": gguf_of([A], [place(b"n%06d" % n, offset=32 * n) for n in range(100_001)]),
    "many numbers": gguf_of([A, entry(b"k", 9, array(0, 30_000_000, bytes(30_000_000)))]),
    "ggml of nothing": b"fmgg",
    "ggml version": b"fmgg" + struct.pack("<5i", 99, 1, 1, 1, 0),
    **{
        f"ggml entry {fields}": b"fmgg" + struct.pack("<5i", 101, 1, 1, 1, 0) + struct.pack("<6i", *fields)
        for fields in [
            (1, 4, 0, 1 << 30, 0, 0),
            (9, 4, 0, 1, 1, 1),
            (-1, 4, 0, 1, 1, 1),
            (1, -4, 0, 1, 1, 1),
            (1, 1 << 30, 0, 1, 1, 1),
            (2, 4, 0, 1 << 30, 1 << 30, 0),
            (1, 4, 5, 1, 0, 0),
            (1, 4, 0, -1, 0, 0),
        ]
    },
    "safetensors shape": b"".join(
        [struct.pack("<Q", 60), b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offs'.ljust(60)]
    ),
    "safetensors nested": struct.pack("<Q", 100_008) + b'{"a":' + b"[" * 100_003,
}

WORKER = """
import json, resource, sys, time
from pathlib import Path
from rwkv_runtime import weights
from rwkv_runtime.errors import RwkvError
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(Path(sys.argv[2]).iterdir()):
    started = time.process_time()
    try:
        weights.read(path)
        said = None
    except RwkvError as error:
        said = str(error)
    print(json.dumps([path.name, said, time.process_time() - started]), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits its memory from what it uses, which it asks")
def test_hostile_counts_are_refused_in_two_seconds_and_512_mib(tmp_path: Path) -> None:
    for number, content in enumerate(HOSTILE.values()):
        (tmp_path / f"{number:03}.gguf").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(MEMORY), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(HOSTILE), done.stderr[-500:]
    for case, (_, said, seconds) in zip(HOSTILE, results, strict=True):
        assert said, f"{case} was read"
        assert "\n" not in said, case
        assert "MemoryError" not in said, case
        assert seconds < SECONDS, case


REASONS = {
    "version 0": "is a damaged GGUF file (its version is 0, only 2 and 3 are read)",
    "50000000 tensors": "50000000 tensors do not fit into",
    "4294967296 entries": "4294967296 metadata entries do not fit into",
    "array of 50000000 x 4": "50000000 array elements do not fit into",
    "array of 4294967296 x 8": "4294967296 texts do not fit into",
    "many entries": "metadata entries, at most 10000 are possible",
    "many tensors": "tensors, at most 100000 are possible",
    "more texts than any vocabulary": "1000001 texts, at most 1000000 are possible",
    "many texts": "2000000 texts, at most 1000000 are possible",
    "tensor name of 50000000": "a tensor's name of 50000000 bytes, at most 63 are possible",
    "big-endian": "it is big-endian",
    "alignment 13": "an alignment of 13 bytes",
    "duplicate key": "'general.architecture' is given twice",
    "duplicate tensor": "the tensor 'a' is given twice",
    "overlap": "the tensor 'b' is said to be at 0, but those before it end at 32",
    "not enough data": "it is cut: 'a' would end at",
    "tensor type 31": "is quantized as type 31; readable are F32, F16,",
    "row that is no whole block": "has rows of 33 weights, Q8_0 needs multiples of 32",
}


@pytest.mark.parametrize("case", REASONS)
def test_a_hostile_count_is_refused_for_itself_and_not_for_what_follows_from_it(case: str, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(HOSTILE[case])
    assert REASONS[case] in str(attempt(tmp_path / "model.gguf"))


UNSUPPORTED = {
    "big-endian": (HOSTILE["big-endian"], "gguf-convert-endian"),
    "an old version": (HOSTILE["version 1"], "is GGUF of version 1; 2 and 3 are read: convert the model anew"),
    "a new version": (HOSTILE["version of the future"], "is GGUF of version 4; 2 and 3 are read: update unspool"),
    "one part of several": (
        gguf_of([A, entry(b"split.count", 2, struct.pack("<H", 3))], [place(b"a")]),
        "llama-gguf-split --merge",
    ),
    "tensor type 31": (HOSTILE["tensor type 31"], "take the model in one of them"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_a_whole_file_of_a_kind_that_is_not_read_is_not_called_damaged_and_says_what_to_do(
    case: str, tmp_path: Path
) -> None:
    content, remedy = UNSUPPORTED[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError) as refused:
        weights.read(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ") and remedy in said and "\n" not in said
    assert "damaged" not in said and "download it again" not in said
