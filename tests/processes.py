"""Whole trees of processes, as /proc shows them: start one, see what it listens on, kill every member of it.

A tree is known by a mark in its environment, which children inherit even when their parent is gone. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import IO

_MARK = "UNSPOOL_TEST_TREE"
_LISTENING = "0A"  # the state in /proc/net/tcp


@dataclass(frozen=True)
class Tree:
    """A started command and all that it starts in turn."""

    process: subprocess.Popen[bytes]
    mark: str

    def members(self) -> set[int]:
        """The living processes of the tree."""
        wanted = f"{_MARK}={self.mark}".encode()
        found = {pid for pid in _pids() if wanted in _environment(pid)}
        return {pid for pid in found | _descendants(self.process.pid, found) if _is_running(pid)}

    def kill(self) -> set[int]:
        """SIGKILL everything, until nothing is left; the processes that there were."""
        killed: set[int] = set()
        empty = 0
        while empty < 2:  # one that was being born during the first look is there at the second
            members = self.members()
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            killed |= members
            empty = 0 if members else empty + 1
            time.sleep(0.02)
        self.process.wait()
        return killed


def start_tree(
    command: Sequence[str], output: IO[bytes] | int = subprocess.DEVNULL, environment: Mapping[str, str] = os.environ
) -> Tree:
    """Start a command in a session of its own. What it says on stdout and stderr goes to `output`."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**environment, _MARK: mark},
        start_new_session=True,
    )
    return Tree(process, mark)


def descendants(pid: int) -> set[int]:
    """The living children of a process, and theirs."""
    return {child for child in _descendants(pid, {pid}) - {pid} if _is_running(child)}


def state_of(pid: int) -> str:
    """The letter for what a process does: R running, S sleeping, T stopped, Z dead; nothing if there is none."""
    status = _status(pid)
    return status[0] if status is not None else ""


def command_of(pid: int) -> str:
    """The command line of a process; nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def listening_addresses(pids: set[int]) -> set[IPv4Address | IPv6Address]:
    """The addresses at which any of the processes accepts TCP connections."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    return {address for inode, address in _listening_sockets() if inode in inodes}


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _status(pid: int) -> tuple[str, int] | None:
    """State and parent of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def _is_running(pid: int) -> bool:
    status = _status(pid)
    return status is not None and status[0] not in "ZX"


def _descendants(root: int, known: set[int]) -> set[int]:
    parents = {pid: status[1] for pid in _pids() if (status := _status(pid))}
    found = {root, *known} & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _socket_inodes(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]


def _listening_sockets() -> Iterator[tuple[str, IPv4Address | IPv6Address]]:
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING:
                yield fields[9], _address(fields[1].partition(":")[0])


def _address(digits: str) -> IPv4Address | IPv6Address:
    """An address as /proc/net writes it: words of four bytes, each with its last byte first."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    if len(words) == 1:
        return IPv4Address(words[0])
    whole = IPv6Address(b"".join(words))
    return whole.ipv4_mapped or whole
