"""Whether several machines mean the same folder by one path: each reads what another has just written there.

`announce` here, `echo` over there, `confirm` here again. The names are new each time, so that no cache of a network
file system can know them. Knows nothing of runs, workers or Ray.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from pipeline.durable import TEMPORARY, Disk, read_bytes


class NotSharedError(Exception):
    """Two machines mean different folders, or one of them may not read or write it. One line that says which."""


@dataclass(frozen=True)
class Token:
    """A small file in the folder, and what stands in it."""

    path: str
    content: str

    @property
    def folder(self) -> Path:
        return Path(self.path).parent

    def stands_there(self) -> bool:
        """Whether this machine sees the file as it was written."""
        try:
            return read_bytes(Path(self.path)) == self.content.encode("ascii")
        except OSError:
            return False


def announce(folder: Path, disk: Disk) -> Token:
    """Write a token for others to find. Raises OSError."""
    path = folder.absolute() / f"shared{TEMPORARY}{secrets.token_hex(8)}"
    token = Token(os.fspath(path), secrets.token_hex(16))
    disk.publish(path, token.content.encode("ascii"))
    return token


def echo(token: Token, disk: Disk) -> Token:
    """Answer a token of another machine with one of this machine. Raises NotSharedError."""
    here = socket.gethostname()
    if not token.stands_there():
        raise NotSharedError(
            f"{here} does not see what was written to {token.folder}; put output.path on a file system that all "
            "nodes of the cluster mount at the same place"
        )
    try:
        return announce(token.folder, disk)
    except OSError as error:
        raise NotSharedError(
            f"{here} cannot write to {token.folder} ({error.strerror or error}); let the user of Ray there write it"
        ) from error


def confirm(answer: Token, disk: Disk) -> None:
    """Look for the answer here and remove it. Raises NotSharedError."""
    if not answer.stands_there():
        raise NotSharedError(
            f"this machine does not see what a node of the cluster wrote to {answer.folder}; put output.path on a "
            "file system that all nodes mount at the same place"
        )
    disk.remove(Path(answer.path))
