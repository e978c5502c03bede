"""Reading invoices and receipts by the schema `invoice`: their number, day and sum, beside JSON files that say them.

The JSON files are as invoice2data writes them: a list of one object with `invoice_number`, `date` and `amount`. The
peer takes the first value of each kind. Nothing is read by a model.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.documents import Document, DocumentRef
from pipeline.durable import Disk
from pipeline.evals import AGAIN, EvalError, Row, Table, read_text
from pipeline.fields.field import Field
from pipeline.fields.finding import Found
from pipeline.fields.shipped import fields_of
from pipeline.formats import open_document, reader_for
from pipeline.metrics.bootstrap import estimate
from pipeline.metrics.ranking import calibration_error
from pipeline.metrics.rules import quotes
from pipeline.text_store import TextStore

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "invoices"
NEEDS: Final = ("labelled/invoices",)

_KEYS: Final = {"invoice_number": "invoice_number", "date": "date", "total": "amount"}
_NOTE: Final = (
    "a field that the JSON has not is not counted; the sum must have the right amount, the number its characters"
)


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Share of invoices of which each field is right, and of all fields together."""
    ours = tuple(field for field in fields_of("invoice") if field.name in _KEYS)
    first = tuple(replace(field, cues=(), description="", at_start=False) for field in ours)
    systems = {"the first of its kind": first, "schema `invoice`": ours}
    right: dict[str, dict[str, list[float]]] = {name: {key: [] for key in ("all", *_KEYS)} for name in systems}
    sure: list[tuple[float, bool]] = []
    count = 0
    for wanted, document in _invoices(folder / NEEDS[0], limit):
        count += 1
        for name, fields in systems.items():
            for key, found in _best(document, fields, model).items():
                if _KEYS[key] in wanted:
                    ok = found is not None and _is(found, wanted[_KEYS[key]])
                    right[name][key].append(100.0 * ok)
                    right[name]["all"].append(100.0 * ok)
                    if found is not None and fields is ours:
                        sure.append((found.confidence, ok))
    if not count:
        raise EvalError(
            f"{folder / NEEDS[0]}: has no JSON file with a document beside it; take it from its source again"
        )
    rows = tuple(Row(name, {key: estimate(values) for key, values in found.items()}) for name, found in right.items())
    error = calibration_error([one for one, _ in sure], [ok for _, ok in sure])
    note = f"schema `invoice`: expected calibration error {error:.3f} over {len(sure)} values"
    return Table(NAME, f"{count} invoices", rows, (_NOTE, note))


def _invoices(folder: Path, limit: int | None) -> Iterator[tuple[Mapping[str, Any], Document]]:
    with tempfile.TemporaryDirectory(prefix="unspool-eval-") as scratch:
        store = TextStore(Path(scratch), Disk())
        for labels in sorted(folder.glob("*.json"))[:limit]:
            for path in sorted(set(folder.glob(f"{labels.stem}.*")) - {labels}):
                facts, reader = path.stat(), reader_for(path.name) or "text"
                ref = DocumentRef(path.stem, path.name, str(path), facts.st_size, facts.st_mtime_ns, reader)
                yield _labels(labels), open_document(ref, store)


def _labels(path: Path) -> Mapping[str, Any]:
    """The facts of an invoice. Raises EvalError for what is no list of an object."""
    try:
        [facts, *_] = json.loads(read_text(path))
        return dict(facts)
    except (ValueError, TypeError) as error:
        raise EvalError(f"{path}: is no JSON list of an object; {AGAIN}") from error


def _best(document: Document, fields: Sequence[Field], model: Model) -> dict[str, Found | None]:
    """The likeliest value of each field; of equally likely ones the first."""
    return {name: found[0] if found else None for name, found in quotes(document, fields, model).items()}


def _is(found: Found, wanted: Any) -> bool:
    if isinstance(found.match.value, dict):
        return abs(float(found.match.value["amount"]) - float(wanted)) < 0.005
    plain = [re.sub(r"[^\w]", "", str(one)).lower() for one in (found.match.normalized, wanted)]
    return plain[0] == plain[1]
