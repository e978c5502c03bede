"""Every evaluation text of a data folder: what training must not have seen.

All of the folder but train/ is for evaluation. Text files are read as they are, of JSON lines every string counts, and
packed files are unpacked. Knows nothing of training.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEXT_SUFFIXES = frozenset({".txt", ".md", ".html", ".htm", ".xml", ".rst", ".json", ".csv", ".tsv"})
TRAINING_FOLDER = "train"


def evaluation_files(folder: Path) -> list[Path]:
    """The files of the folder that are not training data, in order."""
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != TRAINING_FOLDER
    )


def evaluation_texts(folder: Path) -> Iterator[str]:
    """Stream the texts of all evaluation files that are text, JSON lines or archives of text."""
    for path in evaluation_files(folder):
        if path.suffix == ".jsonl" and path.name != "MANIFEST.jsonl":
            for line in path.read_text("utf-8", "replace").splitlines():
                yield "\n\n".join(_strings(json.loads(line)))
        elif path.suffix in TEXT_SUFFIXES:
            yield path.read_text("utf-8", "replace")
        elif path.name.endswith(".tar.xz"):
            yield from _archived(path)


def _archived(path: Path) -> Iterator[str]:
    with lzma.open(path) as packed, tarfile.open(fileobj=io.BytesIO(packed.read())) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                yield file.read().decode("utf-8", "replace")


def _strings(value: Any) -> Iterator[str]:
    """All strings inside a JSON value; a list of plain words is one string, so that its n-grams count."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        if value and all(isinstance(part, str) for part in value):
            yield " ".join(value)
        else:
            for part in value:
                yield from _strings(part)
