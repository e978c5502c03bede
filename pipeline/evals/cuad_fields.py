"""Reading a contract's first page by rules alone: CUAD's name, parties, dates, end and law (Jaccard of words >= 0.5).

The confidence of rules was measured on contracts with even places; the calibration error is that of the odd ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evals import Estimate, Row, Table, read_jsonl
from pipeline.fields.field import Field
from pipeline.fields.shipped import fields_of
from pipeline.in_memory import TextDocument
from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.ranking import calibration_error
from pipeline.metrics.rules import quotes

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "cuad-fields"
NEEDS: Final = ("labelled/cuad.jsonl.xz",)

_LABELS: Final = {
    "document_name": "Document Name",
    "parties": "Parties",
    "agreement_date": "Agreement Date",
    "effective_date": "Effective Date",
    "expiration": "Expiration Date",
    "governing_law": "Governing Law",
}
_ALIKE: Final = 0.5
"""Share of words in common from which on a quote is that of the annotators."""


@dataclass(frozen=True)
class Counts:
    """What was found in one contract of one field: quotes, those that are right, spans wanted, those of them found."""

    quotes: int
    right: int
    wanted: int
    found: int


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """F1 of each field and their mean, by the schema of contracts and by the bare rules of its types."""
    contracts = list(read_jsonl(folder / NEEDS[0], limit))
    fields = tuple(field for field in fields_of("contract") if field.name in _LABELS)
    bare = tuple(Field(field.name, field.type, field.cardinality, patterns=field.patterns[-1:]) for field in fields)
    rows, notes = [], []
    for system, given in (("rules without context", bare), ("rules", fields)):
        counts, confidences = _measured(contracts, given, model)
        rows.append(Row(system, _metrics(counts)))
        odd = [one for place, one in confidences if place % 2]
        error = calibration_error([sure for sure, _ in odd], [ok for _, ok in odd])
        notes.append(
            f"{system}: expected calibration error {error:.3f} over {len(odd)} values of contracts not fitted on"
        )
    return Table(NAME, f"CUAD, {len(contracts)} contracts, quotes of rules only", tuple(rows), tuple(notes))


def _measured(
    contracts: Sequence[Mapping[str, Any]], fields: Sequence[Field], model: Model
) -> tuple[dict[str, list[Counts]], list[tuple[int, tuple[float, bool]]]]:
    counts: dict[str, list[Counts]] = {name: [] for name in _LABELS}
    confidences: list[tuple[int, tuple[float, bool]]] = []
    for place, contract in enumerate(contracts):
        found = quotes(TextDocument(contract["text"]), fields, model)
        for field in fields:
            wanted = _spans(contract, _LABELS[field.name])
            one_of = field.cardinality == "one"
            shown = found[field.name][:1] if one_of else found[field.name]
            right = [any(alike(one.quote, span) for span in wanted) for one in shown]
            reached = [any(alike(one.quote, span) for one in shown) for span in wanted]
            reached = [any(reached)] if one_of and wanted else reached
            counts[field.name].append(Counts(len(shown), sum(right), len(reached), sum(reached)))
            confidences += [(place, (one.confidence, ok)) for one, ok in zip(shown, right, strict=True)]
    return counts, confidences


def alike(quote: str, span: str) -> bool:
    """Whether two stretches have half of their words in common."""
    first, second = (set(re.findall(r"\w+", one.lower())) for one in (quote, span))
    return len(first & second) >= _ALIKE * max(len(first | second), 1)


def _spans(contract: Mapping[str, Any], label: str) -> list[str]:
    return [span["text"] for found in contract["labels"] if found["category"] == label for span in found["spans"]]


def _metrics(counts: Mapping[str, Sequence[Counts]]) -> dict[str, Estimate]:
    tables = {
        name: np.array([[one.quotes, one.right, one.wanted, one.found] for one in found], np.float64)
        for name, found in counts.items()
    }
    contracts = len(next(iter(tables.values())))

    def mean(items: NDArray[np.intp]) -> float:
        return float(np.mean([_f1(table[items]) for table in tables.values()]))

    each = {
        _LABELS[name]: estimate_of(lambda items, table=table: _f1(table[items]), contracts)  # type: ignore[misc]
        for name, table in tables.items()
    }
    return {"mean F1": estimate_of(mean, contracts), **each}


def _f1(counts: NDArray[np.float64]) -> float:
    shown, right, wanted, found = counts.sum(axis=0)
    precision, recall = right / max(shown, 1), found / max(wanted, 1)
    return float(2 * precision * recall / max(precision + recall, 1e-9))
