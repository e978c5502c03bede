"""One document read without a run, its rows handed on as they come: for text whose end nobody has seen yet.

The same reading as in a run, so the rows are the same; nothing is kept, so memory does not grow and nothing can be
taken up again. Knows nothing of files and tables on disks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

import rwkv_runtime
from pipeline import vectors
from pipeline.documents import Document
from pipeline.reading import Reader
from pipeline.segments import SplitOptions
from pipeline.tasks import Emit, make_tasks, queries_of
from pipeline.worker import refuse_more_dimensions
from rwkv_runtime.engine import Engine, Fed, Feed


@dataclass(frozen=True)
class StreamSpec:
    """What a text is read with: plain values, as those of a worker."""

    model_source: str
    device: str
    dtype: str
    threads: int
    window: int
    max_chars: int
    language: str | None
    tasks: tuple[Mapping[str, Any], ...]


def rows_as_read(spec: StreamSpec, document: Document, table: str) -> Iterator[pa.Table]:
    """Rows of a table, as soon as they are certain. Raises DocumentError, OptionError, RwkvError."""
    torch.set_num_threads(spec.threads)
    model = rwkv_runtime.load(spec.model_source, device=spec.device, dtype=spec.dtype, shared=True)
    engine = Engine(model, window=spec.window, lanes=1)
    tasks = make_tasks(list(spec.tasks))
    refuse_more_dimensions(spec.tasks, engine.pooler.dimensions)
    texts = queries_of(tasks)
    queries = dict(zip(texts, vectors.isolated(engine, texts), strict=True))
    options = SplitOptions(spec.window, spec.max_chars, spec.language)
    reader = Reader(document, tasks, model.tokenizer, engine.pooler, options, model.initial_state(), queries)
    steps = reader.steps()
    fed: Fed | None = None
    while True:
        try:
            step = next(steps) if fed is None else steps.send(fed)
        except StopIteration:
            return
        fed = engine.feed([step])[0] if isinstance(step, Feed) else None
        if isinstance(step, Emit) and step.table == table:
            yield step.rows
