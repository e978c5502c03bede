"""`unspool model`: what is said of a model file, and that a converted model is the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import rwkv_runtime
from jobs import cli
from rwkv_runtime import weights
from rwkv_runtime.identity import DEFAULT_FOLDER, identify
from tests.rwkv_runtime.checkpoints import eos_heads, model_of, write_gguf
from tests.rwkv_runtime.test_containers_contract import CASES, SAMPLES, taken
from tests.rwkv_runtime.test_containers_fuzz import HOSTILE, POINTER
from tests.rwkv_runtime.test_gguf_tokenizer import bpe_writer

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def unspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; gives (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unspool", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def sample(form: str, generation: str, folder: Path) -> Path:
    folder.mkdir()
    return SAMPLES[form].write(folder, model_of(generation), generation)


@pytest.mark.parametrize(("form", "generation"), CASES)
def test_inspect_says_what_a_file_is_in_every_form_it_can_have(
    form: str, generation: str, tmp_path: Path, unspool: Run
) -> None:
    path = sample(form, generation, tmp_path / "in")
    code, out, _ = unspool("model", "inspect", path, "--json")
    found = json.loads(out)

    assert code == 0
    assert found["generation"] in (generation, generation[0])
    assert (found["container"], found["naming"]) == (SAMPLES[form].container, SAMPLES[form].naming)
    assert (found["n_layer"], found["n_embd"], found["vocab_size"]) == (3, 64, 257)
    heads = None if generation == "4" else 4
    assert (found["n_head"], found["head_size"]) == (heads, heads and 16)
    unused = (
        sum(tensor.numel() for name, tensor in model_of("7").items() if name.startswith("blocks.0.att.v")) - 64 * 64
    )
    whole = sum(tensor.numel() for tensor in model_of(generation).values())
    if form == "EmbeddingRWKV":
        whole += sum(tensor.numel() for tensor in eos_heads(64).values())
    assert found["parameters"] in (whole, whole - unused)
    assert sum(found["stored_as"].values()) == found["parameters"]
    assert found["nbytes"] > whole
    assert unspool("model", "inspect", path)[1].startswith(f"{path}: RWKV-{generation[0]}")


def test_inspect_describes_what_cannot_be_run_and_says_so(tmp_path: Path, unspool: Run) -> None:
    _, out, _ = unspool("model", "inspect", write_gguf(tmp_path / "m.gguf", model_of("7"), "7", "Q8_0"))
    assert "Q8_0 " in out and "tokenizer: inside the file" in out and "runs here" in out
    torch.save({"a": torch.ones(3)}, tmp_path / "other.pth")
    _, out, _ = unspool("model", "inspect", tmp_path / "other.pth")
    assert "no RWKV language model" in out and "does not run it" in out


@pytest.mark.parametrize("command", [["inspect"], ["verify"], ["convert", "out.safetensors"]])
@pytest.mark.parametrize("content", [POINTER, b"<html>", b"", HOSTILE["alignment 13"], b"PK\x03\x04"])
def test_what_is_no_model_ends_with_one_line_and_exit_7(
    command: list[str], content: bytes, tmp_path: Path, unspool: Run
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    code, out, err = unspool("model", command[0], path, *(tmp_path / name for name in command[1:]))
    assert (code, out) == (7, "")
    assert err.startswith("error[MODEL] ") and err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(("form", "generation"), CASES)
def test_a_converted_model_has_the_same_tensors(form: str, generation: str, tmp_path: Path, unspool: Run) -> None:
    path, target = sample(form, generation, tmp_path / "in"), tmp_path / "out.safetensors"
    if path.suffix == ".gguf":  # with a vocabulary of its own, which only a GGUF file can carry
        write_gguf(path, model_of(generation), generation, tokens=[])
    before = taken(weights.read(path))
    assert unspool("model", "convert", path, target)[0] == 0

    read = weights.read(target)
    assert (read.container, read.naming) == ("safetensors", "RWKV-LM")
    after = taken(read)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_converted_model_keeps_its_tokenizer(tmp_path: Path, unspool: Run) -> None:
    spec = json.loads((DEFAULT_FOLDER / "tokenizer.json").read_text())
    (tmp_path / "out").mkdir()
    for number, source in enumerate(
        ["default", write_gguf(tmp_path / "m.gguf", model_of("7"), "7", tokens=[], change=bpe_writer(spec))]
    ):
        folder = tmp_path / f"out{number}"
        folder.mkdir()
        assert unspool("model", "convert", source, folder / "m.safetensors")[0] == 0
        assert identify(folder).tokenizer_sha256 == identify(source).tokenizer_sha256

    code, _, err = unspool("model", "convert", "default", folder / "again.safetensors")
    assert code == 2 and "is not this model's tokenizer" in err
    assert not (folder / "again.safetensors").exists()
    code, _, err = unspool(
        "model", "convert", write_gguf(tmp_path / "b.gguf", model_of("7"), "7"), tmp_path / "b.safetensors"
    )
    assert code == 7 and "only a GGUF file can carry" in err


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_model_is_converted_to_the_type_asked_for(
    name: str, dtype: torch.dtype, tmp_path: Path, unspool: Run
) -> None:
    source, target = sample("pth", "7", tmp_path / "in"), tmp_path / "out.safetensors"
    assert unspool("model", "convert", source, target, "--dtype", name)[0] == 0
    read = weights.read(target)
    assert {read.dtype(one) for one in read.names()} == {dtype}


def test_what_the_asked_type_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path, unspool: Run) -> None:
    (tmp_path / "in").mkdir()
    torch.save(model_of("7") | {"head.weight": torch.full((257, 64), 1e5)}, tmp_path / "in" / "m.pth")
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    (tmp_path / "out").mkdir()
    code, _, err = unspool("model", "convert", tmp_path / "in", tmp_path / "out" / "m.safetensors", "--dtype", "fp16")
    assert code == 7 and "head.weight has values that F16 cannot hold" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_convert_overwrites_nothing_and_says_what_is_wrong_with_its_arguments(tmp_path: Path, unspool: Run) -> None:
    source = sample("pth", "7", tmp_path / "in")
    (tmp_path / "there.safetensors").write_text("mine")
    for arguments, said in (
        ([tmp_path / "there.safetensors"], "is there already"),
        ([tmp_path / "m.pth"], "must be named .safetensors"),
        ([tmp_path / "m.safetensors", "--dtype", "int8"], "the type 'int8' is unknown"),
        ([tmp_path / "none" / "m.safetensors"], "cannot be written (No such file or directory)"),
    ):
        code, _, err = unspool("model", "convert", source, *arguments)
        assert code == 2 and said in err, err
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_verify_accepts_a_sound_model_and_compares_hashes(tmp_path: Path, unspool: Run) -> None:
    path = write_gguf(tmp_path / "m.gguf", model_of("7"), "7", "Q8_0")
    code, out, _ = unspool("model", "verify", path, "--json")
    assert code == 0
    sha256 = json.loads(out)["weights_sha256"]
    assert json.loads(out)["fingerprint"] == rwkv_runtime.load(path).fingerprint
    assert unspool("model", "verify", path, "--sha256", sha256.upper())[0] == 0
    code, _, err = unspool("model", "verify", path, "--sha256", "0" * 64)
    assert code == 7 and sha256 in err


def test_verify_refuses_a_model_that_inspect_can_describe(tmp_path: Path, unspool: Run) -> None:
    tensors = model_of("7")
    tensors["blocks.1.att.key.weight"][3, 3] = float("nan")
    path = write_gguf(tmp_path / "m.gguf", tensors, "7")
    assert unspool("model", "inspect", path)[0] == 0
    code, _, err = unspool("model", "verify", path)
    assert code == 7 and "blocks.1.att.key.weight holds a NaN" in err


def test_ls_finds_models_by_content_and_the_shipped_one_once(tmp_path: Path, unspool: Run) -> None:
    path = sample("transformers, parts", "6", tmp_path / "in")
    (tmp_path / "notes.bin").write_bytes(b"nothing")
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pth")
    code, out, _ = unspool("model", "ls", tmp_path, DEFAULT_FOLDER, "--json")
    assert code == 0
    assert [one["path"] for one in json.loads(out)] == [str(DEFAULT_FOLDER / "model.safetensors"), str(path)]
    assert len(unspool("model", "ls", tmp_path)[1].splitlines()) == 2
    assert unspool("model", "ls", tmp_path / "none")[0] == 2


def test_the_commands_are_known_without_loading_torch() -> None:
    code = (
        "import sys, jobs.cli, jobs.models; print([name for name in ('torch', 'ray', 'gguf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
