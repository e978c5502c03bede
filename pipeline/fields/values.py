"""What the value of a field may be, once it is read out of the text: JSON values that are not nested deep."""

from __future__ import annotations

import json
from typing import TypeAlias

Typed: TypeAlias = "str | int | float | bool | dict[str, str]"


def as_json(value: Typed) -> str:
    """The value as it stands in the `extractions` table."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def squeezed(text: str) -> str:
    """The text on one line, with single spaces."""
    return " ".join(text.split())
