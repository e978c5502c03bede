"""A task of one's own: the sentences that are nearest to a few words, in the order of the text.

    python examples/cookbook/own_task.py FILE "WORDS"

A task is a frozen dataclass whose fields are its options. It sees the document a window at a time (`visit`), and what
it has to remember is a plain value that it hands back, so that a checkpoint can hold it: here, the best few so far.
To have it in job files, copy it into pipeline/tasks/ and add its options to jobs/schema.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

import rwkv_runtime
from pipeline.in_memory import TextDocument, read
from pipeline.segments import SplitOptions
from pipeline.tasks import Emit, Ending, Memory, Moment, Options, Steps
from rwkv_runtime.engine import Engine

TYPE: Final = "nearest"
ROWS: Final = pa.schema([("doc_id", pa.string()), ("char_start", pa.int64()), ("text", pa.string())])


@dataclass(frozen=True)
class Nearest:
    """The `most` sentences of a document whose vectors are nearest to that of `words`."""

    name: str
    words: str
    most: int = 3
    wants_vectors: bool = True

    @property
    def queries(self) -> tuple[str, ...]:
        return (self.words,)

    def visit(self, moment: Moment) -> Steps:
        yield from ()
        assert moment.vectors is not None  # they were asked for
        scores = moment.vectors @ moment.queries[self.words]
        found = [
            [float(score), one.char_start, one.text]
            for score, one in zip(scores, moment.segment.sentences, strict=True)
        ]
        return {"best": sorted([*moment.memory.get("best", []), *found], reverse=True)[: self.most]}

    def finish(self, ending: Ending) -> Steps:
        best = sorted(ending.memory.get("best", []), key=lambda one: one[1])
        rows = [{"doc_id": ending.ref.doc_id, "char_start": start, "text": text} for _, start, text in best]
        yield Emit("nearest", pa.Table.from_pylist(rows, schema=ROWS))
        return {}


def make(options: Options) -> Nearest:
    return Nearest(options["name"], options["words"], options.get("most", 3))


def rows(task: Nearest, text: str) -> list[dict[str, object]]:
    """Read a text with this one task, without a job."""
    from pipeline.vectors import isolated

    engine = Engine(rwkv_runtime.load("default"), window=512, lanes=1)
    document = TextDocument(text)
    queries = {words: isolated(engine, [words])[0] for words in task.queries}
    memory: Memory = {}
    state, tokens = engine.model.initial_state(), 0
    for part in read(document, engine, SplitOptions(window=512, max_chars=2000)):
        state, tokens = part.state, tokens + len(part.segment.tokens)
        moment = Moment(document.ref, document.facts, part.segment, part.vectors, state, memory, queries)
        memory = _last(task.visit(moment))
    ending = Ending(document.ref, document.facts, len(text), tokens, state, state, memory, queries)
    return [row for asked in task.finish(ending) for row in asked.rows.to_pylist()]


def _last(steps: Steps) -> Memory:
    """What a task hands back that asks for nothing on its way."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("this task asks for nothing while it reads")


if __name__ == "__main__":
    for row in rows(Nearest("near", sys.argv[2]), Path(sys.argv[1]).read_text("utf-8")):
        print(f"[{row['char_start']}] {' '.join(str(row['text']).split())[:100]}")
