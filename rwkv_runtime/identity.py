"""Which model is meant: from what a user writes to two files and their hashes.

Light on purpose, so that a plan can name the model without loading it: needs neither torch nor numpy. Knows
nothing of what is inside the files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from rwkv_runtime import hub, shards
from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.tokenizers.world import shipped_fingerprint

DEFAULT = "default"
DEFAULT_FOLDER = Path(__file__).with_name("default")
DEFAULT_FINGERPRINT = "5cb007cf112646a760da3967d303e809b73482bb426185ee961ccfc9ea8a5bb5"
"""Of the model that this version ships."""
SUFFIXES = (".pth", ".safetensors", ".st", ".gguf", ".bin", shards.SUFFIX)
KINDS = "a .pth, .safetensors, .st, .gguf or .bin file, or a folder with one"
HUGGING_FACE = ("model.safetensors", "pytorch_model.bin")
"""What Hugging Face calls the weights beside a config.json, whole or, with .index.json behind it, in several files."""

SPAN_READER = "spans.safetensors"
"""A reader of spans beside the weights, which is no weights file itself."""


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies. Of weights in several files, `weights_path` is the index, and `parts` are all of them.

    `tokenizer_path` is the weights file itself for a GGUF file with a tokenizer inside, and None for the World
    vocabulary that is shipped. `tokenizer_sha256` is the fingerprint of the tokenizer.
    """

    weights_path: Path
    parts: tuple[Path, ...]
    tokenizer_path: Path | None
    tokenizer_sha256: str


@dataclass(frozen=True)
class ModelIdentity:
    """The files of a model and their content. Two with the same `fingerprint` compute the same, wherever they
    lie.

    Of weights in several files, `weights_path` is the index, and `weights_sha256` and `weights_bytes` go over all.
    `tokenizer_path` None means the World vocabulary that is shipped; it can be the weights file itself, if that is a
    GGUF file with a tokenizer inside. `tokenizer_sha256` is the fingerprint of
    the tokenizer that `tokenizers.load(tokenizer_path)` gives.
    """

    source: str
    weights_path: Path
    tokenizer_path: Path | None
    weights_sha256: str
    tokenizer_sha256: str
    weights_bytes: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over both hashes."""
        return hashlib.sha256(f"{self.weights_sha256} {self.tokenizer_sha256}".encode("ascii")).hexdigest()


def identify(source: str | Path) -> ModelIdentity:
    """Find and hash the files of a model.

    `source` is "default" for the shipped model, or the path of a weights file, of the *.index.json of several, or of a
    folder with exactly one of these, or hf://OWNER/REPO for what was pulled; in a Hugging Face folder (one with a
    config.json) safetensors files are preferred to others. The tokenizer is the one inside a GGUF file, or the
    tokenizer.json beside the weights; without one, the World vocabulary. Raises ModelFileError if there is no such
    model or it could be several, or a GGUF file is damaged, TokenizerError if the tokenizer inside is of an unknown
    kind.
    """
    files = find(source)
    found = _weights_sha256(files)
    if str(source).startswith(hub.SCHEME) and hub.recorded_sha256(str(source)) not in (None, found):
        raise ModelFileError(f"{files.weights_path}: is not what was pulled (SHA-256 {found[:12]}); pull it again")
    return ModelIdentity(
        source=str(source),
        weights_path=files.weights_path,
        tokenizer_path=files.tokenizer_path,
        weights_sha256=found,
        tokenizer_sha256=files.tokenizer_sha256,
        weights_bytes=sum(part.stat().st_size for part in files.parts),
    )


def pull(repo: str, file: str, revision: str) -> tuple[hub.Pulled, Path]:
    """Fetch a model from the Hugging Face Hub, record its hash, say where it lies. Raises ModelFileError."""
    return hub.pull(repo, file, revision, lambda path: _weights_sha256(find(path)))


def find(source: str | Path) -> ModelFiles:
    """Find the files of a model as `identify` does, without hashing the weights. Raises as it does."""
    weights = _find_weights(source)
    tokenizer, fingerprint = _find_tokenizer(weights)
    parts = [weights]
    if weights.name.endswith(shards.SUFFIX):
        parts = [weights.with_name(file) for file in sorted(set(shards.shards_of(weights).values()))]
    return ModelFiles(weights, tuple(parts), tokenizer, fingerprint)


def _find_tokenizer(weights: Path) -> tuple[Path | None, str]:
    """Return (the file that the tokenizer is in, or None for the shipped one; its fingerprint)."""
    if weights.suffix == ".gguf" and _is_gguf(weights):
        from rwkv_runtime import gguf_header
        from rwkv_runtime.tokenizers import gguf

        if inside := gguf.inside(gguf_header.read(weights)):
            return (weights if inside.content is not None else None), inside.fingerprint
    beside = weights.with_name("tokenizer.json")
    if beside.is_file():
        return beside, _sha256(beside)
    return None, shipped_fingerprint()


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False  # hashing it says what is wrong


def _find_weights(source: str | Path) -> Path:
    if source == DEFAULT:
        return DEFAULT_FOLDER / "model.safetensors"
    if str(source).startswith(hub.SCHEME):
        return hub.find(str(source))
    if "://" in str(source):
        raise ModelFileError(
            f"{source}: nothing is downloaded from there; fetch it yourself and give the path of the file, or pull it "
            "from the Hugging Face Hub (`unspool model pull`) and write hf://OWNER/REPO"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        return _only_weights_in(path)
    if not path.exists():
        raise ModelFileError(f"{source}: no such file or folder; give {KINDS}, or `{DEFAULT}`")
    if not path.name.endswith(SUFFIXES) or not path.is_file():
        raise ModelFileError(f"{source}: is no weights file by its name; give {KINDS}, or `{DEFAULT}`")
    return path


def _only_weights_in(folder: Path) -> Path:
    if (folder / "config.json").is_file():
        for name in HUGGING_FACE:
            for candidate in (folder / name, folder / f"{name}{shards.SUFFIX}"):
                if candidate.is_file():
                    return candidate
    entries = (entry for entry in folder.iterdir() if entry.name.endswith(SUFFIXES) and entry.name != SPAN_READER)
    found = sorted(entry for entry in entries if entry.is_file())
    if not found:
        raise ModelFileError(f"{folder}: has no weights file; give {KINDS}")
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise ModelFileError(f"{folder}: has {len(found)} weights files ({names}); give the path of one of them")
    return found[0]


def _weights_sha256(files: ModelFiles) -> str:
    return _sha256(files.weights_path) if files.parts == (files.weights_path,) else _sha256_of_all(files)


def _sha256_of_all(files: ModelFiles) -> str:
    """Hash which tensor is in which file, and every file."""
    named = shards.shards_of(files.weights_path)
    hashes = {part.name: _sha256(part) for part in files.parts}
    return hashlib.sha256(json.dumps([named, hashes], sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    """Hash a file of any size in constant memory."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be read ({error.strerror}); check that it exists and may be read"
        ) from error
