"""Plain values that may be written to a checkpoint: JSON values, bytes and float32 arrays, nested at will.

Knows nothing of what the values mean. Nothing here can run code when it is read back, which is why a
checkpoint holds these and never a pickle.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Storable(Protocol):
    """What can be told as a value. It stays what it is until a checkpoint is written, which most windows do without."""

    def to_value(self) -> Mapping[str, Value]: ...


Value: TypeAlias = (
    "bool | int | float | str | bytes | NDArray[np.float32] | Sequence[Value] | Mapping[str, Value] | Storable | None"
)

_ARRAY = "$float32"
_BYTES = "$bytes"


def to_json(value: Value) -> str:
    """Canonical JSON of a value. Arrays and bytes become base64, so what is read back is bit-equal.

    What is `Storable` is read back as the value that it tells of itself.
    """
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Value:
    """The value that `to_json` wrote. Raises ValueError if the text is not such a value."""
    return _value(json.loads(text))


def _plain(value: Value) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode("ascii")}
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value, dtype="<f4")
        return {_ARRAY: base64.b64encode(data.tobytes()).decode("ascii"), "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Storable):
        return _plain(value.to_value())
    return [_plain(item) for item in value]


def _value(plain: Any) -> Value:
    if isinstance(plain, list):
        return [_value(item) for item in plain]
    if not isinstance(plain, dict):
        return plain  # type: ignore[no-any-return]
    if _BYTES in plain:
        return base64.b64decode(plain[_BYTES], validate=True)
    if _ARRAY in plain:
        raw = base64.b64decode(plain[_ARRAY], validate=True)
        array = np.frombuffer(raw, dtype="<f4").astype(np.float32)
        return array.reshape([int(size) for size in plain["shape"]])
    return {key: _value(item) for key, item in plain.items()}
