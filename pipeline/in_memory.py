"""A text as a document, and a document's sentences with their vectors, read through a model without a run.

For what is asked of one document at once: questions, evals. Knows nothing of files or tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.documents import Block, Cursor, Document, DocumentFacts, DocumentRef
from pipeline.language import detect_language
from pipeline.reading import OpenSpan, pooled
from pipeline.segments import Segment, Segmenter, Sentence, SplitOptions, Streams
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.state import State

_SAMPLE_CHARS = 8192
_BLOCK_CHARS = 1 << 14


@dataclass(frozen=True)
class TextDocument:
    """A text of no section and no page."""

    text: str
    name: str = "text"
    ref: DocumentRef = field(init=False)
    facts: DocumentFacts = field(init=False)

    def __post_init__(self) -> None:
        size = len(self.text.encode("utf-8", "surrogatepass"))
        language = detect_language(self.text[:_SAMPLE_CHARS])
        object.__setattr__(self, "ref", DocumentRef(self.name, self.name, self.name, size, 0, "text"))
        object.__setattr__(self, "facts", DocumentFacts("", size, "utf-8", 0, None, language, None))

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        begin = int(str(after["char"])) if after else 0
        for start in range(begin, len(self.text), _BLOCK_CHARS):
            end = start + _BLOCK_CHARS
            yield Block(self.text[start:end], None, None, {"char": end})


def segments(document: Document, tokenizer: Streams, options: SplitOptions) -> Iterator[Segment]:
    """The windows of a document, with the sentences that end in each."""
    return iter(Segmenter(document, tokenizer, options))


@dataclass(frozen=True)
class ReadSegment:
    """A window that has been read: its sentences, their unit vectors [n, dimensions], and the state behind it."""

    segment: Segment
    vectors: NDArray[np.float32]
    state: State

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        return self.segment.sentences


def read(
    document: Document, engine: Engine, options: SplitOptions, start: State | None = None
) -> Iterator[ReadSegment]:
    """Read a document from a state on, which stays as it is; without one, from the beginning."""
    state = start or engine.model.initial_state()
    span = OpenSpan(np.zeros(engine.pooler.feature_size, np.float32))
    for segment in segments(document, engine.model.tokenizer, options):
        fed = engine.feed([Feed(segment.tokens, state, True, before=segment.before)])[0]
        assert fed.features is not None  # they were asked for
        vectors, span = pooled(segment, fed.features, span, engine.pooler)
        state = fed.state
        yield ReadSegment(segment, vectors, state)
