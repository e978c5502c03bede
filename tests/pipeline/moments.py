"""What tasks see of a document, made without a model: real segments, and vectors that depend on the text alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline.segments import Segment, Segmenter, SplitOptions
from pipeline.tasks import Emit, Ending, Keep, Memory, Moment, Steps, Task
from pipeline.values import from_json, to_json
from rwkv_runtime.state import State
from tests.pipeline.memory_document import MemoryDocument, StrideTokenizer

DIMENSIONS = 16


def vector_of(text: str, dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """A unit vector: the mean of random ones for the words, so that texts with the same words are near."""
    total = np.zeros(dimensions)
    for word in text.lower().split() or [""]:
        total += _word_vector(word, dimensions)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


@cache
def _word_vector(word: str, dimensions: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
    return np.random.RandomState(seed).standard_normal(dimensions)


def state_of(number: int) -> State:
    """States that can be told apart."""
    return State("7", "tiny", number, {"wkv": torch.full((2,), float(number))})


@dataclass(frozen=True)
class Rehearsal:
    """A task carried through a document; between two segments its memory goes through a checkpoint, if asked to."""

    document: MemoryDocument
    window: int = 32
    stride: int = 4

    def segments(self) -> list[Segment]:
        return list(Segmenter(self.document, StrideTokenizer(self.stride), SplitOptions(self.window, 2000)))

    def moments(self, task: Task) -> Iterator[Moment]:
        """With an empty memory; `play` puts the real one in."""
        for segment in self.segments():
            found = [vector_of(sentence.text) for sentence in segment.sentences]
            vectors = np.stack(found) if found else np.zeros((0, DIMENSIONS), np.float32)
            wanted = vectors if task.wants_vectors else None
            yield Moment(self.document.ref, self.document.facts, segment, wanted, state_of(segment.index), {})

    def play(self, task: Task, stops: Sequence[int] = ()) -> list[Emit | Keep]:
        """What the task asks for, in order. `stops` are the segments behind which it goes through a checkpoint."""
        asked: list[Emit | Keep] = []
        memory: Memory = {}
        tokens = 0
        for moment in self.moments(task):
            memory = carry_out(task.visit(replace(moment, memory=memory)), asked)
            tokens = moment.segment.token_end
            if moment.segment.index in stops:
                memory = cast(Memory, from_json(to_json(memory)))
        ending = Ending(
            self.document.ref, self.document.facts, len(self.document.text), tokens, state_of(98), state_of(99), memory
        )
        carry_out(task.finish(ending), asked)
        return asked


def carry_out(steps: Steps, asked: list[Emit | Keep]) -> Memory:
    """Run a task's generator; note what it asks for."""
    while True:
        try:
            request = next(steps)
        except StopIteration as stop:
            return cast(Memory, stop.value)
        assert isinstance(request, Emit | Keep)
        asked.append(request)


def table_of(asked: Sequence[Emit | Keep], name: str) -> pa.Table:
    """The rows asked for of one table, in order."""
    return pa.concat_tables([request.rows for request in asked if isinstance(request, Emit) and request.table == name])


def rows_of(asked: Sequence[Emit | Keep], name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table_of(asked, name).to_pylist()
    return found
