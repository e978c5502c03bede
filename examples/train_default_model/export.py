"""From a checkpoint to the files of a model: weights, heads, tokenizer, configuration, reference values.

Knows nothing of training beyond what a checkpoint holds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from examples.train_default_model.hidden import model_profile
from examples.train_default_model.prepare import ROTATION, TOKENIZER
from examples.train_default_model.profiles import Profile
from examples.train_default_model.reference import reference_values
from examples.train_default_model.train import CHECKPOINT
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.weights.deferred import made
from rwkv_runtime.weights.row_scaled import SUFFIX, joined, split

WEIGHTS = "model.safetensors"
HEADS = "heads.safetensors"
REFERENCE = "reference.safetensors"
CONFIG = "config.json"
ROTATION_NAME = "embed_head.rotation"
TABLES = ("emb.weight", "head.weight", "embed_head.static.weight", "embed_head.words.weight")
"""The matrices with a row per token or per word."""
MATRICES = (
    *("att.receptance.weight", "att.key.weight", "att.value.weight", "att.output.weight"),
    *("ffn.key.weight", "ffn.value.weight", "mlp.up.weight", "mlp.down.weight"),
)
"""What the names of the large matrices of a layer and of the head end with."""


def export(out: Path, profile: Profile) -> list[Path]:
    """Write OUT/model from OUT/checkpoint.pt. Returns the files. Raises FileNotFoundError without a checkpoint."""
    if not (out / CHECKPOINT).exists():
        raise FileNotFoundError(f"{out / CHECKPOINT} is missing; train first")
    held = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=False)
    folder = out / "model"
    folder.mkdir(exist_ok=True)
    tensors = stored_form(held["model"]) | {ROTATION_NAME: torch.from_numpy(np.load(out / "data" / ROTATION))}
    save_file({name: tensor.contiguous() for name, tensor in held["heads"].items()}, folder / HEADS)
    tokenizer = out / "data" / TOKENIZER
    described = configuration(profile, BpeTokenizer.from_file(tokenizer).vocab_size, held["step"])
    write_model(folder, tensors, tokenizer, described)
    return [folder / name for name in (WEIGHTS, TOKENIZER, REFERENCE, HEADS, CONFIG)]


def write_model(folder: Path, tensors: Mapping[str, Tensor], tokenizer: Path, described: Mapping[str, object]) -> None:
    """Write tensors as they are stored, with what the training code computes from them and their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(tokenizer, folder / TOKENIZER)
    loaded = as_loaded(tensors)
    values = reference_values(loaded, model_profile(loaded), BpeTokenizer.from_file(folder / TOKENIZER))
    save_file(values, folder / REFERENCE)
    hashes = {name: sha256_of(folder / name) for name in (WEIGHTS, TOKENIZER, REFERENCE)}
    (folder / CONFIG).write_text(json.dumps({**described, "sha256": hashes}, indent=1) + "\n", "utf-8")


def stored_form(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the weights file: tables and large matrices in int8 with `.scale` beside them, else bfloat16."""
    stored = {}
    for name, tensor in parameters.items():
        if name in TABLES or name.endswith(MATRICES):
            stored[name], stored[name + SUFFIX] = split(tensor)
        else:
            stored[name] = tensor.to(torch.bfloat16).contiguous()
    return stored


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex, as config.json has it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def as_loaded(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a reader of the weights file gets."""
    return {name: made(tensor) for name, tensor in joined(stored).items()}


def configuration(profile: Profile, vocabulary: int, steps: int) -> dict[str, object]:
    """What config.json says: shapes, the tokenizer, the formula of the vectors, how long it was trained."""
    model, run = profile.model, profile.training
    heads = model.width // model.head_size
    state = model.layers * (2 * model.width + heads * model.head_size**2)
    return {
        "name": f"rwkv7-l{model.layers}-d{model.width}-embed",
        "architecture": "rwkv7 (x070), RWKV-LM tensor names; tables and large matrices in int8 with a scale a row",
        "n_layer": model.layers,
        "n_embd": model.width,
        "head_size": model.head_size,
        "n_head": heads,
        "dim_ffn": 4 * model.width,
        "vocab_size": vocabulary,
        "state_fp32_bytes": 4 * state,
        "tokenizer": {"file": TOKENIZER, "type": "byte-level BPE", "bos": "none", "unused": {"<|endoftext|>": 0}},
        "embed_head": {
            "dim": model.vector_size,
            "formula": "rwkv_runtime/pooling.py, EmbeddingHead",
            "space": "all-MiniLM-L6-v2, turned by embed_head.rotation: minilm = rotation @ vector",
            "prefixes": [256, 128, 64],
        },
        "trained": {"steps": steps, "tokens": steps * sum(run.rows) * run.tokens},
    }
