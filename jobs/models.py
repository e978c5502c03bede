"""Models for people: what a file is, which ones there are, whether one is sound, and one file out of another.

Turns the runtime's answers into lines and JSON, and its errors into exit codes. Importing it loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import usage_error
from jobs.prepare import model_error
from jobs.progress import human_bytes
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.identity import DEFAULT, identify, pull

if TYPE_CHECKING:
    from rwkv_runtime.weights.inspection import Description

PROBE = (0, 1, 2, 1)
"""Tokens that every vocabulary has; `verify` reads them to see that numbers come out."""


def inspect_model(source: str) -> Description:
    """Describe a model file or folder. Raises JobError (exit 7)."""
    with model_errors():
        from rwkv_runtime.weights.inspection import inspect

        return inspect(source)


def to_json(description: Description) -> dict[str, Any]:
    """The description as a JSON value."""
    return asdict(description) | {"path": str(description.path)}


def lines_of(description: Description) -> Iterator[str]:
    """The description for people."""
    found = description
    named = f"RWKV-{found.generation}" if found.generation else "no RWKV language model"
    yield f"{found.path}: {named}, {found.parameters:,} parameters, {human_bytes(found.nbytes)}"
    yield f"  container: {found.container}, names of {found.naming}"
    sizes = {
        "layers": found.n_layer,
        "channels": found.n_embd,
        "heads": found.n_head,
        "of size": found.head_size,
        "feed-forward": found.n_ffn,
        "vocabulary rows": found.vocab_size,
    }
    yield "  sizes: " + ", ".join(f"{name} {size}" for name, size in sizes.items() if size is not None)
    shares = (f"{kind} {count / max(found.parameters, 1):.1%}" for kind, count in found.stored_as.items())
    yield f"  stored as: {', '.join(shares)}"
    yield f"  tokenizer: {found.tokenizer}"
    yield f"  {'runs here' if found.runs_here else 'this version does not run it'}"


def list_models(folders: list[Path]) -> list[Description]:
    """Describe the shipped model and those below the folders. Raises JobError (exit 2) for what is no folder."""
    for folder in folders:
        if not folder.is_dir():
            raise usage_error("NO-FOLDER", "no such folder; give one with models", str(folder))
    from rwkv_runtime.weights.inspection import models_below

    found = {one.path.resolve(): one for folder in folders for one in models_below(folder)}
    shipped = inspect_model(DEFAULT)
    found.pop(shipped.path.resolve(), None)
    return [shipped, *found.values()]


def verify_model(source: str, sha256: str | None) -> dict[str, str]:
    """Load a model strictly and read a few tokens; returns its hashes. Raises JobError (exit 7) for what is wrong."""
    with model_errors():
        found = identify(source)
        if sha256 is not None and found.weights_sha256 != sha256.lower():
            raise RwkvError(
                f"{found.weights_path}: its SHA-256 is {found.weights_sha256}, not {sha256}; download it again"
            )
        import rwkv_runtime

        model = rwkv_runtime.load(source)
        output = model.forward(list(PROBE), model.initial_state())
        if output.logits is None or not output.state.is_finite() or not bool(output.logits.isfinite().all()):
            raise RwkvError(f"{found.weights_path}: gives numbers that are not finite; download it again")
    return {
        "path": str(found.weights_path),
        "generation": model.config.generation,
        "weights_sha256": found.weights_sha256,
        "tokenizer_sha256": found.tokenizer_sha256,
        "fingerprint": found.fingerprint,
    }


def pull_model(repo: str, file: str, revision: str) -> dict[str, str]:
    """Fetch a model from the Hugging Face Hub; returns where it lies and its hash. Raises JobError (exit 7)."""
    with model_errors():
        pulled, path = pull(repo, file, revision)
    return {"path": str(path), "source": pulled.source, "sha256": pulled.sha256, "revision": pulled.revision}


def convert_model(source: str, target: Path, dtype: str) -> Path:
    """Write a model as one safetensors file. Raises JobError (exit 2 for the target, 7 for the model)."""
    from rwkv_runtime.weights.conversion import TargetError, convert

    with model_errors():
        try:
            return convert(source, target, dtype)
        except TargetError as error:
            raise usage_error("TARGET", str(error)) from error


@contextmanager
def model_errors() -> Iterator[None]:
    """Turn what the runtime refuses into exit 7."""
    try:
        yield
    except RwkvError as error:
        raise model_error(error) from error
