"""What a network that is not trained says of every token of streams, kept in files: a head is fitted on these alone.

Each part is made from a seed of its own, so a stopped pass goes on with the part that is missing. Knows nothing of how
heads are fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from examples.train_default_model.heads import layer_norm
from examples.train_default_model.model import Student
from examples.train_default_model.pool import Pool
from examples.train_default_model.profiles import HeadProfile, ModelProfile
from examples.train_default_model.streams import Batch, make_streams, next_batch
from examples.train_default_model.wkv import kernel
from rwkv_runtime.words import NONE


@dataclass(frozen=True)
class Readings:
    """All that was read: `hidden` [N, D] float16 behind the head's norm and `tokens` [N]; `spans` [n, 2] of these.

    `targets` [n] are rows of the pool's targets, `rows` [n] the stream that a span stood in. `words` [N] is what else
    of the head's table counts at a token, or -1.
    """

    hidden: Tensor
    tokens: Tensor
    spans: NDArray[np.int64]
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]
    words: Tensor


def model_profile(tensors: Mapping[str, Tensor]) -> ModelProfile:
    """The sizes of an RWKV-7 with an embedding head, from its tensors. Raises RuntimeError for another model."""
    try:
        heads, head_size = tensors["blocks.0.att.r_k"].shape
        layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
        decay, rate, blend, gate = (tensors[f"blocks.{layers - 1}.att.{kind}1"].shape[1] for kind in "wavg")
        size = tensors["embed_head.static.weight"].shape[1]
        _ = tensors["embed_head.rotation"]
        mlp = len(tensors.get("embed_head.mlp.up.bias", ()))
    except KeyError as error:
        raise RuntimeError(f"the model has no tensor {error}; start from an RWKV-7 with an embed_head") from error
    return ModelProfile(layers, heads * head_size, (decay, rate, blend, gate), head_size, size, mlp)


def frozen_network(tensors: Mapping[str, Tensor], kernel_name: str = "native") -> Student:
    """The network of a weights file, as training code has it."""
    network = Student(model_profile(tensors), len(tensors["emb.weight"]), kernel(kernel_name))
    network.load_state_dict({name: tensors[name].float() for name in network.state_dict()})
    return network.requires_grad_(requires_grad=False)


def write_parts(folder: Path, network: Student, pool: Pool, profile: HeadProfile, log: Callable[[str], None]) -> None:
    """Write the parts that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(profile.parts):
        path = folder / f"part-{number:03d}.safetensors"
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            save_file(_part(network, pool, profile, seed=number), temporary)
            temporary.replace(path)
            log(f"{path.name}: {profile.part_steps * sum(profile.rows) * profile.tokens:,} tokens read")


def read_parts(folder: Path) -> Readings:
    """All parts, one behind the other; no words are looked for yet."""
    parts = [load_file(path) for path in sorted(folder.glob("part-*.safetensors"))]
    begins = np.cumsum([0, *(len(part["tokens"]) for part in parts)])
    tokens = torch.cat([part["tokens"] for part in parts])
    return Readings(
        torch.cat([part["hidden"] for part in parts]),
        tokens,
        np.concatenate([part["spans"].numpy() + begin for part, begin in zip(parts, begins, strict=False)]),
        np.concatenate([part["targets"].numpy() for part in parts]),
        np.concatenate([part["rows"].numpy() for part in parts]),
        torch.full_like(tokens, NONE),
    )


@torch.inference_mode()
def _part(network: Student, pool: Pool, profile: HeadProfile, seed: int) -> dict[str, Tensor]:
    streams = make_streams(pool, profile.rows, seed)
    state = network.initial_state(sum(profile.rows))
    hidden, batches = [], []
    for _ in range(profile.part_steps):
        batch = next_batch(streams, profile.tokens)
        residual, state = network(torch.from_numpy(batch.tokens), torch.from_numpy(batch.keep), state)
        hidden.append(layer_norm(residual, network.embed_head.ln).flatten(0, 1).half())
        batches.append(batch)
    return {
        "hidden": torch.cat(hidden),
        "tokens": torch.from_numpy(np.concatenate([batch.tokens.ravel() for batch in batches])),
        "spans": torch.from_numpy(np.concatenate(list(_places(batches)))),
        "targets": torch.from_numpy(np.concatenate([batch.targets for batch in batches])),
        "rows": torch.from_numpy(np.concatenate([batch.spans[:, 0] for batch in batches])),
    }


def _places(batches: list[Batch]) -> Iterator[NDArray[np.int64]]:
    """The spans of each batch [n, 2] among the tokens of all batches."""
    begin = 0
    for batch in batches:
        yield begin + batch.spans[:, :1] * batch.tokens.shape[1] + batch.spans[:, 1:]
        begin += batch.tokens.size
