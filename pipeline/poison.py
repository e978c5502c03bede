"""Documents that harm the process that reads them, for tests: what a crash, a hang and a lack of memory look like.

No document does any of this unless a test asks for it by the document's URI. Knows nothing of who reads it.
"""

from __future__ import annotations

import ctypes
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

_ROOM_BYTES: Final = 256 << 20
_BLOCK_BYTES: Final = 16 << 20


class Harm(StrEnum):
    """What a document does once its first window has been read."""

    SEGFAULT = "segfault"
    HANG = "hang"
    MEMORY = "memory"


@dataclass(frozen=True)
class Poisons:
    """The documents that do harm, by URI; none outside of tests."""

    harms: Mapping[str, Harm] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Poisons:
        """From one or more `HARM:URI`, separated by commas. Raises ValueError with what is wrong."""
        pairs = (piece.partition(":") for piece in text.split(",") if piece)
        return cls({uri: Harm(harm) for harm, _, uri in pairs})

    def act(self, uri: str) -> None:
        """Do what reading this document does; nothing for most."""
        match self.harms.get(uri):
            case Harm.SEGFAULT:
                ctypes.string_at(0)
            case Harm.HANG:
                _hold_the_interpreter()
            case Harm.MEMORY:
                _use_up_memory()


def _hold_the_interpreter() -> None:
    """A match that takes longer than the universe has been there, and never lets another thread run."""
    re.match(r"(a+)+$", "a" * 100 + "b")


def _use_up_memory() -> None:
    """Raises MemoryError, as it comes under a limit on the address space, which stays until the process is replaced."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ROOM_BYTES, hard))
    blocks = []
    while True:
        blocks.append(bytearray(_BLOCK_BYTES))
