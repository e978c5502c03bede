"""Models in several files, as Hugging Face writes them: *.index.json names the file of each tensor.

Only files beside the index are opened. Knows nothing of which tensors a model needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rwkv_runtime.errors import ModelFileError
from rwkv_runtime.shards import shards_of
from rwkv_runtime.weights import pth, safetensors
from rwkv_runtime.weights.deferred import Stored

NAME = "sharded"


def recognises(head: bytes, path: Path) -> bool:
    """Tell from a file's name, as any JSON starts alike, whether it is the index of a model in several files."""
    return path.name.endswith(".index.json") and head.lstrip().startswith(b"{")


def read(path: Path) -> dict[str, Stored]:
    """Return the tensors of all files by name, memory-mapped where their format allows it.

    Raises ModelFileError if a file is missing or damaged, or holds other tensors than the index says.
    """
    promised = shards_of(path)
    found: dict[str, Stored] = {}
    for shard in sorted(set(promised.values())):
        found.update(_of_one(path, path.with_name(shard), promised))
    return found


def _of_one(index: Path, shard: Path, promised: Mapping[str, str]) -> Mapping[str, Stored]:
    try:
        with shard.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelFileError(
            f"{index}: its part {shard.name} cannot be read ({error.strerror}); download it"
        ) from error
    container = next((one for one in (safetensors, pth) if one.recognises(head, shard)), None)
    if container is None:
        raise ModelFileError(f"{shard}: is neither a safetensors nor a PyTorch file; download it again")
    tensors: dict[str, Stored] = container.read(shard)
    wanted = {name for name, file_name in promised.items() if file_name == shard.name}
    if differing := wanted.symmetric_difference(tensors):
        raise ModelFileError(
            f"{shard}: {index.name} and this file differ about {len(differing)} tensor(s), among them "
            f"{min(differing)!r}; download both again"
        )
    return tensors
