"""A real file system to lose its power: ext4 in an image on a loop device.

EXT4_IOC_SHUTDOWN without a flush of the journal drops what the page cache and the journal hold, and lets nothing more
reach the disk, as a power loss does; then the file system is mounted again, which replays what is left of its journal.
Needs root, in a mount namespace of its own, so that nothing stays mounted.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path
from typing import Final

_SHUTDOWN: Final = 0x8004587D
_WITHOUT_THE_JOURNAL: Final = 2
_IMAGE_BYTES: Final = 512 << 20
"""Of which the file system takes the little that is written."""


class Volume:
    """A new ext4 file system, mounted at `path`."""

    def __init__(self, folder: Path) -> None:
        self._image, self.path = folder / "disk.img", folder / "mounted"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        self._mount()

    def lose_power(self) -> None:
        lose_power(self.path)

    def come_back(self) -> None:
        """The power is back: what is on the disk is mounted."""
        self.unmount()
        self._mount()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True)

    def _mount(self) -> None:
        # With commit=1 the kernel writes its journal every second, so some of what nobody flushed gets to the disk.
        subprocess.run(["mount", "-o", "loop,commit=1", str(self._image), str(self.path)], check=True)


def lose_power(mounted: Path) -> None:
    """Nothing that is not on the disk gets there any more; for any process that sees the file system."""
    descriptor = os.open(mounted, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_THE_JOURNAL))
    finally:
        os.close(descriptor)
