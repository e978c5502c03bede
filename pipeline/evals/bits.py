"""How well a model foresees text: bits for each byte of texts of several kinds, each read from its beginning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.evals import EvalError, Row, Table
from pipeline.metrics.bootstrap import estimate
from pipeline.metrics.foresight import bits_per_byte
from pipeline.metrics.held_out import KINDS, stretches

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "bits"
NEEDS: Final = tuple(KINDS.values())


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Bits per byte of all stretches, and of those of each kind; the first token of each is given."""
    read = [(one.kind, _bits_per_byte(model, one.text)) for one in stretches(folder, limit)]
    if not read:
        raise EvalError(f"{folder}: has no English text in {', '.join(NEEDS)}; take it from its source again")
    groups = {"all": [bits for _, bits in read]}
    for kind in KINDS:
        if of_kind := [bits for name, bits in read if name == kind]:
            groups[kind] = of_kind
    rows = tuple(Row(name, {"bits per byte": estimate(values)}) for name, values in groups.items())
    return Table(NAME, f"{len(read)} stretches of 6,000 characters", rows, ("the mean over stretches",))


def _bits_per_byte(model: Model, text: str) -> float:
    tokens = model.tokenizer.encode(text)
    [bits] = bits_per_byte(model, tokens, [(0, len(tokens))])
    return bits
