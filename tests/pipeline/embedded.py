"""The rows that an embed task makes of a text, read by hand, if wanted through checkpoints."""

from __future__ import annotations

from typing import Any

from pipeline import vectors
from pipeline.checkpoints import Checkpoint, Identity, from_bytes, to_bytes
from pipeline.lane import memory_of, standing_of
from pipeline.policy import Policy
from pipeline.reading import Reader, SavePoint, Standing
from pipeline.segments import SplitOptions
from pipeline.tasks import Emit, make_tasks, wants_of
from pipeline.units import SPAN
from rwkv_runtime import Model, State
from rwkv_runtime.engine import Engine, Feed
from tests.pipeline.memory_document import MemoryDocument

ASKED = {"name": "vectors", "type": "embed"}


def rows(
    model: Model,
    text: str | MemoryDocument,
    *,
    window: int = 64,
    block: int = 700,
    stops: frozenset[int] = frozenset(),
    policy: Policy = "carry",
    tables: tuple[str, ...] = ("sentences", "vectors"),
    **task: Any,
) -> list[dict[str, Any]]:
    """The rows of some tables, of a reading that goes through a checkpoint behind each of the windows `stops`."""
    if isinstance(text, str):
        text = MemoryDocument(tuple(text[i : i + block] for i in range(0, len(text), block)))
    document = text
    engine = Engine(model, window=window, lanes=1)
    tasks = make_tasks([ASKED | task])
    alone = vectors.alone(engine, ways=[want.pooling for want in wants_of(tasks) if want.pooling != SPAN])

    def reader(start: State | Standing) -> Reader:
        options = SplitOptions(window, 2000)
        return Reader(document, tasks, model.tokenizer, engine.pooler, options, start, None, alone, policy)

    now, number = reader(model.initial_state()), 0
    steps, fed, found = now.steps(), None, list[dict[str, Any]]()
    while True:
        try:
            step = steps.send(fed) if fed is not None else next(steps)
        except StopIteration:
            return found
        fed = None
        if isinstance(step, Feed):
            fed = engine.feed([step])[0]
        elif isinstance(step, SavePoint):
            if number in stops:
                now = reader(through_a_checkpoint(now.standing(), model))
                steps = now.steps()
            number += 1
        elif isinstance(step, Emit) and step.table in tables:
            found += step.rows.to_pylist()


def through_a_checkpoint(standing: Standing, model: Model) -> Standing:
    state, boundary = standing.state.to_bytes(), standing.boundary.to_bytes()
    stored = Checkpoint(Identity(*"abcdef"), standing.tokens, state, boundary, memory_of(standing), {}, ())
    return standing_of(from_bytes(to_bytes(stored)), lambda data: State.from_bytes(data, model))
