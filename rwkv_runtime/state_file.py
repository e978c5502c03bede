"""State files as such: whole or not, whose state it is, which tensors it has, and how two of them differ. No torch.

`rwkv_runtime.state` makes states of them, for which it takes the model that they belong to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rwkv_runtime.errors import StateError

FORMAT: Final = "unspool-state"
VERSION: Final = 1
SEAL: Final = b"unspool-state-sha256:"
BLANK: Final = b"0" * 64


@dataclass(frozen=True)
class StateFile:
    """A sound state file. `tensors` are float32, by name, in the shapes that `rwkv_runtime.state.State` gives."""

    generation: str
    model_fingerprint: str
    tokens_seen: int
    tensors: Mapping[str, NDArray[np.float32]]

    @property
    def nbytes(self) -> int:
        """The size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class TensorDifference:
    """How a tensor differs between two states. `relative` is |a - b| / |a| (Euclidean), None where a is zero.

    `layer` is the one where it differs most by |a - b|, None where it nowhere does.
    """

    name: str
    largest: float
    relative: float | None
    layer: int | None


def unseal(data: bytes, where: str) -> tuple[dict[str, Any], pa.RecordBatch]:
    """The header and the one row of a state file, once its bytes match its SHA-256. Raises StateError."""
    _check_seal(data, where)
    try:
        batch = pa.ipc.open_file(pa.BufferReader(data)).get_batch(0)
        metadata = batch.schema.metadata
        kind, version = metadata[b"format"].decode(), int(metadata[b"version"])
        header = json.loads(metadata[b"header"])
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise StateError(f"{where}: not a state file that this version wrote ({error}); make it anew") from error
    if (kind, version) != (FORMAT, VERSION):
        raise StateError(f"{where}: {kind} version {version}, but this version reads {FORMAT} {VERSION}; make it anew")
    return header, batch


def read_state_file(path: Path) -> StateFile:
    """Read a state file without its model. Raises StateError if it is missing, damaged or no state file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StateError(f"{path}: cannot be read ({error.strerror}); give the path of a state file") from error
    header, batch = unseal(data, str(path))
    try:
        tensors = {
            name: np.frombuffer(batch.column(name)[0].as_py(), "<f4").astype(np.float32).reshape(shape)
            for name, (_, shape) in header["tensors"].items()
        }
        owner = (str(header["generation"]), str(header["model_fingerprint"]))
        return StateFile(*owner, int(header["tokens_seen"]), tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{path}: not a state file that this version wrote ({error}); make it anew") from error


def compare(one: StateFile, other: StateFile) -> list[TensorDifference]:
    """How two states of one model differ, tensor by tensor. Raises StateError if they are of different models."""
    mine, yours = (one.generation, one.model_fingerprint), (other.generation, other.model_fingerprint)
    if mine != yours or one.tensors.keys() != other.tensors.keys():
        raise StateError(
            f"states of different models (RWKV-{mine[0]} {mine[1][:12]} and RWKV-{yours[0]} {yours[1][:12]}) have "
            "nothing in common; compare states of one model"
        )
    return [_difference(name, one.tensors[name], other.tensors[name]) for name in one.tensors]


def _difference(name: str, one: NDArray[np.float32], other: NDArray[np.float32]) -> TensorDifference:
    apart = np.abs(one.astype(np.float64) - other)
    largest = float(apart.max())
    length = float(np.linalg.norm(one.astype(np.float64)))
    relative = float(np.linalg.norm(apart)) / length if length else None
    layers = apart.reshape(len(apart), -1).max(axis=1)
    return TensorDifference(name, largest, relative, int(layers.argmax()) if largest else None)


def _check_seal(data: bytes, where: str) -> None:
    """Compare the SHA-256 of everything else in the file with the digits that the file holds, in two places."""
    if not data.startswith(b"ARROW1"):
        raise StateError(f"{where}: not a state file (an Arrow file starts with ARROW1); give one that was saved here")
    begin = data.find(SEAL) + len(SEAL)
    digits = data[begin : begin + len(BLANK)]
    content = data.replace(SEAL + digits, SEAL + BLANK)
    if hashlib.sha256(content).hexdigest().encode() != digits:
        raise StateError(f"{where}: damaged: {len(data)} bytes that do not match their SHA-256; use an earlier state")
