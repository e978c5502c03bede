"""The tokenizer inside a GGUF file is the one that the model was trained with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
import tokenizers as library

import rwkv_runtime
from rwkv_runtime import tokenizers
from rwkv_runtime.errors import RwkvError, TokenizerError
from rwkv_runtime.identity import DEFAULT_FOLDER, identify
from rwkv_runtime.tokenizers.world import shipped_vocabulary
from tests.rwkv_runtime.checkpoints import BYTE_TOKENS, model_of, write_gguf
from tests.rwkv_runtime.tiny import ByteTokenizer

ROOT = Path(__file__).parents[2]
TEXTS = ["", "Call me Ishmael.", "naïve 日本語 🦊\n\n\t<s> [PAD7]", "\x00\\'\"\x7f"]


def write(path: Path, tokens: list[str], **options) -> Path:
    return write_gguf(path, model_of("7"), "7", tokens=tokens, **options)


def world_tokens(rows: int = 65536) -> list[str]:
    """As convert_hf_to_gguf.py writes the World vocabulary."""
    tokens = ["<s>", *(repr(token)[2:-1] for _, token in sorted(shipped_vocabulary().items()))]
    return tokens + [f"[PAD{row}]" for row in range(len(tokens), rows)]


def test_the_world_vocabulary_inside_is_the_shipped_one(tmp_path: Path) -> None:
    found = identify(write(tmp_path / "m.gguf", world_tokens()))
    assert found.tokenizer_path is None
    assert found.tokenizer_sha256 == tokenizers.load(None).fingerprint


def test_one_other_token_makes_it_another_vocabulary(tmp_path: Path) -> None:
    tokens = world_tokens()
    tokens[60000] = "another token that is nowhere else"
    path = write(tmp_path / "m.gguf", tokens)
    found = identify(path)
    assert found.tokenizer_path == path
    own = tokenizers.load(path)
    assert found.tokenizer_sha256 == own.fingerprint != tokenizers.load(None).fingerprint
    assert own.encode("another token that is nowhere else") == [60000]
    for text in TEXTS:
        assert own.encode(text) == tokenizers.load(None).encode(text)


def test_a_model_and_its_own_vocabulary_are_loaded_from_one_file(tmp_path: Path) -> None:
    model = rwkv_runtime.load(write(tmp_path / "m.gguf", BYTE_TOKENS))
    for text in TEXTS:
        assert model.tokenizer.encode(text) == ByteTokenizer().encode(text)
        assert model.tokenizer.decode(model.tokenizer.encode(text)) == text


def test_the_tokenizer_inside_goes_before_one_beside_and_one_beside_before_the_shipped(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    inside = identify(write(tmp_path / "with.gguf", BYTE_TOKENS))
    assert inside.tokenizer_path == inside.weights_path
    assert identify(write(tmp_path / "without.gguf", [])).tokenizer_path == tmp_path / "tokenizer.json"
    (tmp_path / "tokenizer.json").unlink()
    assert identify(tmp_path / "without.gguf").tokenizer_path is None


def bpe_writer(spec: dict, pre: str = "gpt-2"):
    def change(writer: gguf.GGUFWriter) -> None:
        vocabulary = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
        special = {added["content"] for added in spec["added_tokens"]}
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list([token.encode() for token in vocabulary])
        writer.add_token_types([3 if token in special else 1 for token in vocabulary])
        writer.add_token_merges(
            [" ".join(pair) if isinstance(pair, list) else pair for pair in spec["model"]["merges"]]
        )

    return change


def test_a_bpe_tokenizer_inside_encodes_as_its_tokenizer_json_does(tmp_path: Path) -> None:
    spec = json.loads((DEFAULT_FOLDER / "tokenizer.json").read_text())
    path = write(tmp_path / "m.gguf", [], change=bpe_writer(spec))
    found, own = identify(path), tokenizers.load(path)
    assert found.tokenizer_path == path
    assert found.tokenizer_sha256 == own.fingerprint

    spec["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    whole = library.Tokenizer.from_str(json.dumps(spec))
    whole.encode_special_tokens = True
    for text in TEXTS:
        assert own.encode(text) == whole.encode(text, add_special_tokens=False).ids


def test_tokenizers_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    spec = json.loads((DEFAULT_FOLDER / "tokenizer.json").read_text())
    with pytest.raises(TokenizerError, match=r"splits text as 'qwen2', only gpt-2 is known"):
        identify(write(tmp_path / "pre.gguf", [], change=bpe_writer(spec, "qwen2")))

    def llama(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([b"a"])

    with pytest.raises(TokenizerError, match=r"of the kind 'llama'; rwkv and gpt2 are read"):
        identify(write(tmp_path / "llama.gguf", [], change=llama))
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        tokenizers.load(write(tmp_path / "none.gguf", []))


def test_a_vocabulary_without_every_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="without a token for the single byte 0xff"):
        rwkv_runtime.load(write(tmp_path / "m.gguf", [*BYTE_TOKENS[:-1], "more"]))


@pytest.mark.parametrize("token", ["\\x4", "\\", "\\xzz", "a\\x41\\n\\q"])
def test_an_odd_escape_is_read_or_refused_and_nothing_else(token: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", [*BYTE_TOKENS, token + "."])
    try:
        assert tokenizers.load(path).vocab_size == 258
    except RwkvError as error:
        assert "\n" not in str(error)


def test_naming_a_gguf_model_loads_neither_torch_nor_numpy(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", BYTE_TOKENS)
    code = (
        f"import sys; from rwkv_runtime.identity import identify; identify({str(path)!r});"
        "print([name for name in ('torch', 'numpy', 'ray', 'tokenizers', 'gguf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
