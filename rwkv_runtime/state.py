"""A sequence's memory as a value: named tensors that are never written after they are made, and its file.

The file is an Arrow IPC file of one row, a fixed-width binary column per tensor; the schema metadata says whose state
it is. Arrow has no checksum, so the metadata also holds a SHA-256 of the whole file (its own digits blanked), and
nothing is parsed before it matches. Knows nothing of how a state comes about, of documents or of checkpoints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from rwkv_runtime import weights
from rwkv_runtime.errors import StateError
from rwkv_runtime.layers import is_finite
from rwkv_runtime.state_file import BLANK, FORMAT, SEAL, VERSION, unseal
from rwkv_runtime.whole_files import write_whole

if TYPE_CHECKING:
    from rwkv_runtime.model import Model


@dataclass(frozen=True)
class State:
    """What a model knows of the tokens it has read. Tensors are float32 and must never be written.

    For L layers, width D and H heads of size N they are `att_shift` [L, D], what the recurrence carries, and
    `ffn_shift` [L, D]. It carries `wkv_num`, `wkv_den` and `wkv_max` [L, D] in generation "4", `wkv` [L, H, K, V] in
    "5.0", "5.1", "5.2" and "6", and `wkv` [L, H, V, K] in "7" and "7a".
    """

    generation: str
    model_fingerprint: str
    tokens_seen: int
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))

    def __reduce__(self) -> tuple[type[State], tuple[str, str, int, dict[str, Tensor]]]:
        return State, (self.generation, self.model_fingerprint, self.tokens_seen, dict(self.tensors))

    @property
    def nbytes(self) -> int:
        """The size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def is_finite(self) -> bool:
        """Whether no tensor holds a NaN or an infinity."""
        return all(map(is_finite, self.tensors.values()))

    def to_bytes(self) -> bytes:
        """The file's content. Equal states give equal bytes."""
        header = {
            "generation": self.generation,
            "model_fingerprint": self.model_fingerprint,
            "tokens_seen": self.tokens_seen,
            "tensors": {name: ["float32", list(tensor.shape)] for name, tensor in self.tensors.items()},
        }
        metadata = {
            b"format": FORMAT.encode(),
            b"version": str(VERSION).encode(),
            b"header": json.dumps(header, sort_keys=True).encode(),
            b"seal": SEAL + BLANK,
        }
        rows = {name: _tensor_bytes(tensor) for name, tensor in self.tensors.items()}
        schema = pa.schema([pa.field(name, pa.binary(len(row)), False) for name, row in rows.items()], metadata)
        # Of buffers as they are: `pa.array` would look whether it is given something of pandas, and load pandas for it.
        arrays = [pa.Array.from_buffers(field.type, 1, [None, pa.py_buffer(rows[field.name])]) for field in schema]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(arrays, schema=schema))
        content: bytes = sink.getvalue().to_pybytes()
        return content.replace(SEAL + BLANK, SEAL + hashlib.sha256(content).hexdigest().encode())

    @classmethod
    def from_bytes(cls, data: bytes, model: Model) -> State:
        """Read what `to_bytes` wrote. Raises StateError if it is damaged or of another model."""
        return _parse(data, model, "this state")

    def to_arrow(self, path: str | Path) -> None:
        """Write the file whole or not at all: to a new name beside it, to the disk, then renamed.

        Raises StateError if it cannot be written.
        """
        path, content = Path(path), self.to_bytes()
        try:
            write_whole(path, lambda file: file.write(content))
        except OSError as error:
            raise StateError(
                f"{path}: cannot be written to the folder {path.parent} ({error.strerror}); "
                "make the folder, or give another path"
            ) from error

    @classmethod
    def from_time_state(cls, path: str | Path, model: Model) -> State:
        """Start from a tuned state: a file with `blocks.N.att.time_state` for each layer, as state tuning makes it.

        Token shifts start at zero. Raises ModelFileError if the file cannot be read, WeightsError if it does not hold
        one matrix for each head of this model or more than that, StateError if the model has no such matrices.
        """
        start = model.initial_state()
        if "wkv" not in start.tensors:
            raise StateError(f"{path}: a tuned state, which RWKV-{model.config.generation} models do not have")
        tuned = _tuned_wkv(Path(path), model, start.tensors["wkv"])
        return cls(start.generation, start.model_fingerprint, 0, {**start.tensors, "wkv": tuned})

    @classmethod
    def from_arrow(cls, path: str | Path, model: Model) -> State:
        """Read a state file. Raises StateError if it is missing, damaged or of another model.

        The file is read whole: a memory map of a file that is cut later would kill the process.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise StateError(f"{path}: cannot be read ({error.strerror}); give the path of a state file") from error
        return _parse(data, model, str(path))


def _tuned_wkv(path: Path, model: Model, start: Tensor) -> Tensor:
    """Put the layers of a `time_state` file together, [L, H, V, K] for RWKV-7 and [L, H, K, V] before.

    RWKV-LM trainers write [H, V, K]; files of web-rwkv (.st, .state) hold [H, K, V].
    """
    layers, *shape = start.shape
    read = weights.read(path)
    tuned = [read.take(f"blocks.{layer}.att.time_state", *shape).float() for layer in range(layers)]
    read.finish()
    stored_by_key = path.suffix in (".st", ".state")
    wanted_by_key = not model.config.generation.startswith("7")
    wkv = torch.stack(tuned)
    return (wkv.transpose(-1, -2) if stored_by_key != wanted_by_key else wkv).contiguous()


def _tensor_bytes(tensor: Tensor) -> bytes:
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = tensor.detach().cpu().numpy()
    return array.astype("<f4", copy=False).tobytes()


def _parse(data: bytes, model: Model, where: str) -> State:
    header, batch = unseal(data, where)
    _check_owner(header, model, where)
    start = model.initial_state().tensors
    expected = {name: ["float32", list(tensor.shape)] for name, tensor in start.items()}
    if header["tensors"] != expected:
        raise StateError(f"{where}: tensors {header['tensors']}, but the model's are {expected}; make it anew")
    tensors = {
        name: torch.from_numpy(np.frombuffer(batch.column(name)[0].as_py(), "<f4").astype(np.float32).reshape(z.shape))
        for name, z in start.items()
    }
    return State(header["generation"], header["model_fingerprint"], header["tokens_seen"], tensors)


def _check_owner(header: dict[str, object], model: Model, where: str) -> None:
    found = (header["generation"], header["model_fingerprint"])
    wanted = (model.config.generation, model.fingerprint)
    if found != wanted:
        raise StateError(
            f"{where}: a state of the RWKV-{found[0]} model {str(found[1])[:12]}, but the model is RWKV-{wanted[0]} "
            f"{wanted[1][:12]}; load the model that made it"
        )
