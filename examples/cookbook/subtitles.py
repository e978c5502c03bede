"""A format of one's own: SubRip subtitles (.srt). What is said becomes the text, numbers and times are left out.

Copied into pipeline/formats/, every command reads .srt files. `extract` runs in a process with limits of its own, so it
may trust nothing and need not be careful: whatever it raises costs this file alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import BinaryIO, Final

from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch

SUFFIXES: Final = (".srt",)
_LARGEST: Final = 16 << 20
_CUE: Final = re.compile(r"\d+\s*\n(\d\d:\d\d):\d\d,\d{3} --> .*\n((?:.+\n?)+)")
_MARKUP: Final = re.compile(r"</?[a-z]+>|\{\\an\d\}")


def version() -> str:
    """Part of the text's hash: another version is another text."""
    return "1"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise DocumentError("parse", "too_large", f"more than {_LARGEST >> 20} MiB of subtitles; split the file")
    cues = _CUE.findall(data.decode("utf-8-sig", "replace").replace("\r\n", "\n"))
    for minute, words in cues:
        yield Stretch(_MARKUP.sub("", words).strip() + "\n", section=minute)  # a section is a minute of the film
    yield About(encoding="utf-8")
