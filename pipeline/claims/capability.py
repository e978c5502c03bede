"""Whether a model can write at all: six small things that it must be able to do, five of which it has to get right.

The questions are a file. What a model could do is kept in the user's cache, by its weights.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from pipeline.claims.writing import ModelWriter, Writer
from rwkv_runtime import user_cache

NEEDED: Final = 5
_TOKENS: Final = 64


@dataclass(frozen=True)
class Check:
    """A question, and what its answer must look like."""

    name: str
    question: str
    expect: str
    most_words: int

    def passes(self, answer: str) -> bool:
        text = answer.strip()
        return bool(re.fullmatch(self.expect, text)) and 0 < len(text.split()) <= self.most_words


@dataclass(frozen=True)
class Capability:
    """What a model could do and what it could not, by the names of the checks."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def can_write(self) -> bool:
        return len(self.passed) >= NEEDED

    def __str__(self) -> str:
        count = len(self.passed) + len(self.failed)
        lacking = f"; it fails: {', '.join(self.failed)}" if self.failed else ""
        return f"{len(self.passed)} of {count} checks, {NEEDED} are needed{lacking}"


def checks() -> tuple[Check, ...]:
    """Those that are shipped."""
    return tuple(Check(**check) for check in tomllib.loads(_text())["checks"])


def probe(writer: Writer, asked: Sequence[Check]) -> Capability:
    """Ask a model everything."""
    results = {check.name: check.passes(writer.write(check.question, _TOKENS, None).text) for check in asked}
    return Capability(
        tuple(name for name, right in results.items() if right),
        tuple(name for name, right in results.items() if not right),
    )


def capability_of(writer: ModelWriter) -> Capability:
    """What a model can do, asked once for each template and set of questions on this machine."""
    model = writer.engine.model
    key = hashlib.sha256(f"{model.fingerprint} {model.dtype} {writer.template!r} {_text()}".encode()).hexdigest()
    path = user_cache.folder() / "capability" / f"{key}.json"
    known: Any = user_cache.read(path)
    if isinstance(known, dict) and set(known) == {"passed", "failed"}:
        return Capability(tuple(known["passed"]), tuple(known["failed"]))
    found = probe(writer, checks())
    with suppress(OSError):  # without a place to keep it, it is asked again next time
        user_cache.write(path, {"passed": list(found.passed), "failed": list(found.failed)})
    return found


def _text() -> str:
    return resources.files("pipeline.claims").joinpath("prompts/capability.toml").read_text("utf-8")
