"""Schemas that come with the package: JSON files, of the same form as those of users. Light: needs no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pipeline.fields.field import Field

FOLDER: Final = Path(__file__).with_name("schemas")


def names() -> list[str]:
    """What they are called."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def path_of(name: str) -> Path:
    """The file of a schema."""
    return FOLDER / f"{name}.json"


def fields_of(name: str) -> tuple[Field, ...]:
    """The fields of a schema."""
    return tuple(Field.of(field) for field in json.loads(path_of(name).read_text("utf-8"))["fields"])
