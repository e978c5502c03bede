"""What rules find in a whole document, with the code that the task `extract` finds it with. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.documents import Document
from pipeline.fields.field import Field
from pipeline.fields.finding import Found, find
from pipeline.fields.ledger import Ledger
from pipeline.fields.stretches import Buffer, Stretch, cores
from pipeline.in_memory import segments
from pipeline.metrics.collections import OPTIONS

if TYPE_CHECKING:
    from rwkv_runtime.model import Model


def quotes(document: Document, fields: Sequence[Field], model: Model, language: str = "en") -> dict[str, list[Found]]:
    """What rules find for each field, likeliest first in fields with one value, else in the order of the text."""
    ledgers = {field.name: Ledger() for field in fields}
    listed: dict[str, list[Found]] = {field.name: [] for field in fields}
    for stretch in _stretches(document, model):
        for field in fields:
            ledgers[field.name], now = ledgers[field.name].added(field, find(field, stretch, language))
            listed[field.name] += now
    return {name: [*found, *ledgers[name].answers()] for name, found in listed.items()}


def _stretches(document: Document, model: Model) -> Iterator[Stretch]:
    buffer = Buffer()
    for segment in segments(document, model.tokenizer, OPTIONS):
        buffer = buffer.seen(segment.sentences)
        for stretch, rest in cores(buffer):
            buffer = rest
            yield stretch
    if (last := buffer.last_core()) is not None:
        yield last
