"""Documents in gzip or zstd (`.txt.gz`, `.md.zst`, `.pdf.gz`, …): the suffix in front says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import BinaryIO, Final

from pipeline.compression import unpacked
from pipeline.extraction import Extraction
from pipeline.inner import extract_inner, versions

TEXT_SHARE: Final = 3.0
SUFFIXES: Final = (".gz", ".zst")
IS_OUTER: Final = True


def version() -> str:
    return f"3 {versions()}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    yield from extract_inner(PurePath(options["name"]).stem, unpacked(file), options)
