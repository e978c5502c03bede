"""From training documents to balanced, clean passages: no near-duplicates, no evaluation text, no source too large.

Whole documents are kept apart for measuring. Knows nothing of tokens or teachers.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from examples.train_default_model.documents import TextDocument, passages
from examples.train_default_model.overlap import EvaluationText, NearDuplicates

HELD_OUT_ONE_IN = 60


@dataclass(frozen=True)
class Limits:
    """How many characters one document, one source and everything may give."""

    document_chars: int
    source_chars: int
    chars: int


@dataclass(frozen=True)
class Excerpt:
    """Successive passages of one document. `held_out`: for measuring only."""

    id: str
    source: str
    licence: str
    held_out: bool
    passages: tuple[str, ...]


def excerpts(
    documents: Iterable[TextDocument], duplicates: NearDuplicates, evaluation: EvaluationText, limits: Limits
) -> Iterator[Excerpt]:
    """Stream what may be trained on. A passage that shares 13 words with an evaluation document is left out."""
    taken: Counter[str] = Counter()
    for document in documents:
        if taken.total() >= limits.chars:
            return
        room = min(limits.document_chars, limits.source_chars - taken[document.source])
        if room <= 0 or not duplicates.accept(document.text):
            continue
        chosen = tuple(part for part in _stretch(document, room) if not evaluation.touches(part))
        if chosen:
            taken[document.source] += sum(map(len, chosen))
            yield Excerpt(document.id, document.source, document.licence, _is_held_out(document.id), chosen)


def write_excerpts(path: Path, found: Iterable[Excerpt]) -> Counter[str]:
    """Write excerpts as zstd-compressed JSON lines; returns the characters per source."""
    chars: Counter[str] = Counter()
    with pa.output_stream(path, compression="zstd") as packed:
        for excerpt in found:
            packed.write(json.dumps(asdict(excerpt), ensure_ascii=False).encode() + b"\n")
            chars[excerpt.source] += sum(map(len, excerpt.passages))
    return chars


def read_excerpts(path: Path) -> Iterator[Excerpt]:
    """Stream the excerpts of a file."""
    with pa.input_stream(path, compression="zstd") as packed:
        for row in map(json.loads, io.TextIOWrapper(packed, "utf-8")):
            yield Excerpt(**(row | {"passages": tuple(row["passages"])}))


def _stretch(document: TextDocument, room: int) -> list[str]:
    """Successive passages of about `room` characters, from a place that depends on the document's id."""
    parts = passages(document.text)
    if len(document.text) <= room:
        return parts
    count = max(1, room * len(parts) // len(document.text))
    start = _number(document.id) % (len(parts) - count + 1)
    return parts[start : start + count]


def _is_held_out(name: str) -> bool:
    return _number(name) // 1_000_003 % HELD_OUT_ONE_IN == 0


def _number(name: str) -> int:
    """A number that is always the same for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
