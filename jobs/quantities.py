"""Quantities as job files write them: durations (`2h`), shares (`5%`), sizes (`64MiB`), whole numbers.

Knows nothing of which option wants which.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from jobs.sections import problem

LARGEST_COUNT = 2**63 - 1

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([KMGT]i?)?B?")
_BYTES = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def seconds(value: object) -> object:
    """`2h`, `30s`, `1h30m`, `1.5d`, `250ms` → seconds; a number is seconds already."""
    if not isinstance(value, str):
        return value
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise problem("expected", "a duration such as 2h, 1h30m or 30s, or a number of seconds")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def share(value: object) -> object:
    """`5%` → 0.05; a number is a share already."""
    if not isinstance(value, str):
        return value
    found = _SHARE.fullmatch(value)
    if not found:
        raise problem("expected", "a share such as 5%, or a number from 0 to 1")
    return float(found[1]) / 100


def size(value: object) -> object:
    """`64MiB`, `1.5GB` → bytes; a number is bytes already."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value)
    if not found:
        raise problem("expected", "a size such as 64MiB or 1GB, or a number of bytes")
    return int(float(found[1]) * _BYTES.get(found[2], 1))


def whole_number(value: object) -> object:
    """Keeps `true` and 1.0 from passing for 1, which a Literal would let through."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise problem("expected", "a whole number")
    return value


Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Duration = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
]
Share = Annotated[
    float,
    Field(ge=0, le=1),
    BeforeValidator(share),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string"}]}),
]
Size = Annotated[
    int,
    Field(ge=1, le=LARGEST_COUNT),
    BeforeValidator(size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
