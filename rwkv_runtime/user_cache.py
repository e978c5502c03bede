"""The user's cache folder, and small JSON files in it that are replaced whole. Knows nothing of what they hold."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any


def folder() -> Path:
    """Where this program may keep what it can make again: below XDG_CACHE_HOME, or ~/.cache."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(configured) if os.path.isabs(configured) else Path.home() / ".cache") / "unspool"


def read(path: Path) -> Any:
    """The file's JSON value, or None if it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write(path: Path, value: Any) -> None:
    """Replace the file, so that another process never reads a part of it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
