"""Schemas that come with the package: JSON files, of the same form as those of users. Light: needs no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pipeline.fields.field import Field

FOLDER: Final = Path(__file__).with_name("schemas")


def names() -> list[str]:
    """What they are called."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def path_of(name: str) -> Path:
    """The file of a schema."""
    return FOLDER / f"{name}.json"


def options_of(name: str) -> list[dict[str, Any]]:
    """What a schema says of each of its fields."""
    fields: list[dict[str, Any]] = json.loads(path_of(name).read_text("utf-8"))["fields"]
    return fields


def fields_of(name: str) -> tuple[Field, ...]:
    """The fields of a schema."""
    return tuple(map(Field.of, options_of(name)))
