"""Which files a user's words mean, and that naming a model does not load it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rwkv_runtime import tokenizers
from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.identity import DEFAULT_FOLDER, identify

ROOT = Path(__file__).parents[2]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rwkv.pth").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("about")
    return tmp_path


def test_default_is_the_shipped_model_with_its_own_tokenizer() -> None:
    found = identify("default")
    assert found.source == "default"
    assert found.weights_path == DEFAULT_FOLDER / "model.safetensors"
    assert found.tokenizer_path == DEFAULT_FOLDER / "tokenizer.json"
    assert found.weights_sha256 == sha256(found.weights_path.read_bytes())


def test_the_tokenizers_hash_is_the_fingerprint_of_the_loaded_tokenizer(folder: Path) -> None:
    for source in ("default", folder):
        found = identify(source)
        assert found.tokenizer_sha256 == tokenizers.load(found.tokenizer_path).fingerprint


def test_weights_without_a_tokenizer_json_beside_them_use_the_world_vocabulary(folder: Path) -> None:
    assert identify(folder / "rwkv.pth").tokenizer_path is None
    (folder / "tokenizer.json").write_text("{}")
    found = identify(folder / "rwkv.pth")
    assert found.tokenizer_path == folder / "tokenizer.json"
    assert found.tokenizer_sha256 == sha256(b"{}")


def test_a_folder_with_one_weights_file_means_that_file(folder: Path) -> None:
    by_folder, by_file = identify(folder), identify(str(folder / "rwkv.pth"))
    assert by_folder.weights_path == by_file.weights_path == folder / "rwkv.pth"
    assert by_folder.weights_sha256 == sha256(b"weights")


def test_a_folder_with_several_weights_files_is_refused_and_lists_them(folder: Path) -> None:
    (folder / "b.safetensors").write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"has 2 weights files \(b\.safetensors, rwkv\.pth\)"):
        identify(folder)
    (folder / "rwkv.pth").unlink()
    (folder / "b.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"has no weights file; give a \.pth"):
        identify(folder)


def test_the_fingerprint_follows_the_content_and_not_the_place(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "renamed.safetensors").write_bytes(b"weights")
    here, there = identify(folder), identify(other)
    assert here.fingerprint == there.fingerprint
    assert len(here.fingerprint) == 64

    (other / "tokenizer.json").write_text("{}")
    assert identify(other).fingerprint != here.fingerprint
    (other / "tokenizer.json").unlink()
    (other / "renamed.safetensors").write_bytes(b"weightS")
    assert identify(other).fingerprint != here.fingerprint


def test_exchanging_the_two_hashes_changes_the_fingerprint(folder: Path) -> None:
    found = identify(folder)
    exchanged = dataclasses.replace(found, weights_sha256=found.tokenizer_sha256, tokenizer_sha256=found.weights_sha256)
    assert exchanged.fingerprint != found.fingerprint


def test_a_large_file_is_hashed_like_a_small_one(folder: Path) -> None:
    content = bytes(range(256)) * 4096 * 3 + b"end"
    (folder / "rwkv.pth").write_bytes(content)
    assert identify(folder).weights_sha256 == sha256(content)


@pytest.mark.parametrize("source", ["https://example.org/model.pth", "s3://bucket/model.pth"])
def test_a_remote_source_is_refused_with_what_to_do(source: str) -> None:
    with pytest.raises(ModelFileError, match=r"nothing is downloaded from there; fetch it yourself"):
        identify(source)


def test_what_is_no_model_is_refused(folder: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file or folder"):
        identify(folder / "none.pth")
    with pytest.raises(ModelFileError, match=r"README\.md: is no weights file by its name; give a \.pth"):
        identify(folder / "README.md")


def test_a_home_folder_may_be_written_as_a_tilde(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert identify("~/rwkv.pth").weights_path == folder / "rwkv.pth"


def test_naming_the_default_model_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from rwkv_runtime.identity import identify; identify('default');"
        "print([name for name in ('torch', 'numpy', 'ray', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_hugging_face_folder_means_its_safetensors_whatever_lies_beside_them(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    for name in ("model.safetensors", "pytorch_model.bin", "training_args.bin"):
        (folder / name).write_bytes(name.encode())
    assert identify(folder).weights_path.name == "model.safetensors"
    (folder / "model.safetensors").unlink()
    assert identify(folder).weights_path.name == "pytorch_model.bin"


def test_a_model_in_several_files_is_identified_by_all_of_them(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}')
    (folder / "one.safetensors").write_bytes(b"1")
    (folder / "two.safetensors").write_bytes(b"2")
    whole = identify(folder)
    assert whole.fingerprint == identify(index).fingerprint
    assert whole.weights_path == index

    (folder / "two.safetensors").write_bytes(b"3")
    assert identify(folder).fingerprint != whole.fingerprint
    (folder / "two.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"two\.safetensors: cannot be read \(No such file"):
        identify(folder)


@pytest.mark.parametrize("file", ["../one.safetensors", "/etc/passwd", "..", ""])
def test_an_index_cannot_name_files_elsewhere(file: str, folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(ModelFileError, match=r"which is not beside it; nothing was opened"):
        identify(index)
