"""Training documents: read from shards of JSON lines, one at a time, and cut into passages.

A shard is zstd-compressed JSONL with the fields id, src, licence and text. Only text under a permissive licence is
handed on. Knows nothing of tokens, duplicates or teachers.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

PASSAGE_CHARS = 3000
SHARD_PATTERN = "train/text/perm-*.jsonl.zst"

_REFUSED = re.compile(r"\bSA\b|\bNC\b|\bND\b|share.?alike|non.?commercial|US only|evaluation", re.IGNORECASE)
_ACCEPTED = re.compile(r"public domain|CC0|CC BY\b|MIT\b|Apache-2\.0|BSD", re.IGNORECASE)


@dataclass(frozen=True)
class TextDocument:
    """One training document, as its shard has it."""

    id: str
    source: str
    licence: str
    text: str


def is_permissive(licence: str) -> bool:
    """Whether text under this licence may go into weights that anybody may use: no share-alike, no other strings."""
    return bool(_ACCEPTED.search(licence)) and not _REFUSED.search(licence)


def read_documents(folder: Path) -> Iterator[TextDocument]:
    """Stream the permissive documents of all shards of a data folder, in order.

    Raises FileNotFoundError if the folder has no shard.
    """
    shards = sorted(folder.glob(SHARD_PATTERN))
    if not shards:
        raise FileNotFoundError(f"{folder}: has no {SHARD_PATTERN}; give the folder that holds train/text")
    for shard in shards:
        with pa.input_stream(shard, compression="zstd") as packed:
            for row in map(json.loads, io.TextIOWrapper(packed, "utf-8")):
                if is_permissive(row["licence"]):
                    yield TextDocument(row["id"], row["src"], row["licence"], row["text"])


def passages(text: str, size: int = PASSAGE_CHARS) -> list[str]:
    """Cut a text at blank lines into passages of about `size` characters; joined, they are the text.

    A passage without a blank line is cut at white space when it has twice the size.
    """
    cuts = [0]
    while len(text) - cuts[-1] > size:
        start = cuts[-1]
        blank = text.find("\n\n", start + size // 2, start + 2 * size)
        space = text.find(" ", start + size, start + 2 * size)
        found = [cut for cut in (blank, space) if cut >= 0]
        cuts.append(found[0] if found else min(len(text), start + 2 * size))
    return [text[begin:end] for begin, end in zip(cuts, [*cuts[1:], len(text)], strict=True) if end > begin]
