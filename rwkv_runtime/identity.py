"""Which model is meant: from what a user writes to two files and their hashes.

Light on purpose, so that a plan can name the model without loading it: needs neither torch nor numpy. Knows
nothing of what is inside the files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.tokenizers.world import shipped_fingerprint

DEFAULT = "default"
DEFAULT_FOLDER = Path(__file__).with_name("default")
SUFFIXES = (".pth", ".safetensors")


@dataclass(frozen=True)
class ModelIdentity:
    """The files of a model and their content. Two with the same `fingerprint` compute the same, wherever they
    lie.

    `tokenizer_path` None means the World vocabulary that is shipped. `tokenizer_sha256` is the fingerprint of
    the tokenizer that `tokenizers.load(tokenizer_path)` gives.
    """

    source: str
    weights_path: Path
    tokenizer_path: Path | None
    weights_sha256: str
    tokenizer_sha256: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over both hashes."""
        return hashlib.sha256(f"{self.weights_sha256} {self.tokenizer_sha256}".encode("ascii")).hexdigest()


def identify(source: str | Path) -> ModelIdentity:
    """Find and hash the files of a model.

    `source` is "default" for the shipped model, or the path of a .pth or .safetensors file, or of a folder
    with exactly one. The tokenizer is the tokenizer.json beside the weights; without one, the World
    vocabulary. Raises ModelFileError if there is no such model or it could be several.
    """
    weights = _find_weights(source)
    beside = weights.with_name("tokenizer.json")
    tokenizer = beside if beside.is_file() else None
    return ModelIdentity(
        source=str(source),
        weights_path=weights,
        tokenizer_path=tokenizer,
        weights_sha256=_sha256(weights),
        tokenizer_sha256=_sha256(tokenizer) if tokenizer else shipped_fingerprint(),
    )


def _find_weights(source: str | Path) -> Path:
    if source == DEFAULT:
        return DEFAULT_FOLDER / "model.safetensors"
    if "://" in str(source):
        raise ModelFileError(
            f"{source}: remote models are not supported yet; download it "
            "(`huggingface-cli download OWNER/REPO --local-dir FOLDER`) and give the path of the file"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        return _only_weights_in(path)
    if not path.exists():
        raise ModelFileError(f"{source}: no such file or folder; give a .pth or .safetensors file, or `{DEFAULT}`")
    if path.suffix not in SUFFIXES or not path.is_file():
        raise ModelFileError(f"{source}: is no .pth or .safetensors file; give one of these, or `{DEFAULT}`")
    return path


def _only_weights_in(folder: Path) -> Path:
    found = sorted(entry for entry in folder.iterdir() if entry.suffix in SUFFIXES and entry.is_file())
    if not found:
        raise ModelFileError(f"{folder}: has no .pth or .safetensors file; give the path of the weights")
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise ModelFileError(f"{folder}: has {len(found)} weights files ({names}); give the path of one of them")
    return found[0]


def _sha256(path: Path) -> str:
    """Hash a file of any size in constant memory."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be read ({error.strerror}); check that it exists and may be read"
        ) from error
