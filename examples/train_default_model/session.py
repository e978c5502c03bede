"""From a prepared folder to a trainer that is ready for its first step.

Knows nothing of the command line.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples.train_default_model.model import Student
from examples.train_default_model.prepare import PIECES, ROTATION, TOKENIZER, prepared_pool
from examples.train_default_model.profiles import Profile
from examples.train_default_model.shards import Floats
from examples.train_default_model.static_table import bags_of, initial_table, token_frequencies, train_table
from examples.train_default_model.train import Trainer
from examples.train_default_model.wkv import kernel
from rwkv_runtime.tokenizers.bpe import BpeTokenizer

STATIC_TABLE = "static.npy"
EMBEDDING_SPREAD = 0.25


def new_trainer(folder: Path, profile: Profile, steps: int, shards: int | None = None) -> Trainer:
    """A trainer at step 0: the reference initialisation, the teacher's token vectors, a trained static table.

    The static table is kept beside the shards. Raises FileNotFoundError if the folder is not prepared.
    """
    if not (folder / ROTATION).exists():
        raise FileNotFoundError(f"{folder}: is not prepared; run with --data first")
    tokenizer, rotation = BpeTokenizer.from_file(folder / TOKENIZER), np.load(folder / ROTATION)
    pool = prepared_pool(folder, tokenizer, rotation, shards)
    pieces = np.load(folder / PIECES).astype(np.float32) @ rotation
    if not (folder / STATIC_TABLE).exists():
        start = initial_table(pieces, token_frequencies(pool, tokenizer.vocab_size))
        np.save(
            folder / STATIC_TABLE,
            train_table(start, bags_of(pool), profile.training.static_steps, profile.training.static_batch),
        )
    torch.manual_seed(0)
    student = Student(profile.model, tokenizer.vocab_size, kernel(profile.training.kernel))
    with torch.no_grad():
        student.embed_head.static.weight.copy_(torch.from_numpy(np.load(folder / STATIC_TABLE)))
        student.emb.weight.copy_(_embeddings(pieces, profile.model.width))
    if profile.training.compiled:
        student.compile_layers()
    return Trainer(student, pool, profile.training, steps)


def _embeddings(pieces: Floats, width: int) -> Tensor:
    """The leading axes of the teacher's token vectors, evened out a little, at a spread that LayerNorm makes use of."""
    centred = (pieces - pieces.mean(0))[:, :width]
    evened = centred / np.sqrt(centred.std(0, keepdims=True) + 1e-9)
    return torch.from_numpy((evened / evened.std() * EMBEDDING_SPREAD).astype(np.float32))
