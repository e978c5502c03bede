"""From a checkpoint to the files of a model: weights, tokenizer, configuration, reference values.

Knows nothing of training beyond what a checkpoint holds.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from examples.train_default_model.prepare import ROTATION, TOKENIZER
from examples.train_default_model.profiles import Profile
from examples.train_default_model.train import CHECKPOINT

WEIGHTS = "model.safetensors"
HEADS = "heads.safetensors"
CONFIG = "config.json"


def export(out: Path, profile: Profile) -> list[Path]:
    """Write OUT/model from OUT/checkpoint.pt. Returns the files. Raises FileNotFoundError without a checkpoint."""
    if not (out / CHECKPOINT).exists():
        raise FileNotFoundError(f"{out / CHECKPOINT} is missing; train first")
    held = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=False)
    folder = out / "model"
    folder.mkdir(exist_ok=True)
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in held["model"].items()}
    tensors["embed_head.rotation"] = torch.from_numpy(np.load(out / "data" / ROTATION))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "arch": "rwkv7"})
    save_file({name: tensor.contiguous() for name, tensor in held["heads"].items()}, folder / HEADS)
    shutil.copy(out / "data" / TOKENIZER, folder / TOKENIZER)
    (folder / CONFIG).write_text(json.dumps(configuration(profile, tensors, held["step"]), indent=1) + "\n", "utf-8")
    return [folder / name for name in (WEIGHTS, HEADS, TOKENIZER, CONFIG)]


def configuration(profile: Profile, tensors: dict[str, Tensor], steps: int) -> dict[str, object]:
    """What config.json says: shapes, the tokenizer, the formula of the vectors, how long it was trained."""
    model, run = profile.model, profile.training
    heads = model.width // model.head_size
    state = model.layers * (2 * model.width + heads * model.head_size**2)
    return {
        "architecture": "rwkv7 (x070), RWKV-LM tensor names",
        "n_layer": model.layers,
        "n_embd": model.width,
        "head_size": model.head_size,
        "n_head": heads,
        "dim_ffn": 4 * model.width,
        "vocab_size": tensors["emb.weight"].shape[0],
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
