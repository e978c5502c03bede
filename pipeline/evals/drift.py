"""Whether a model reads worse the further it has read: bits for each byte of whole books, by the place in the book.

The state is carried from the first token to the last. Books of fewer tokens than the furthest stretch are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.evals import EvalError, Row, Table, reading
from pipeline.metrics.bootstrap import estimate, paired_difference
from pipeline.metrics.foresight import bits_per_byte

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "drift"
NEEDS: Final = ("books/en",)

_STRETCHES: Final = ((0, 512), (512, 2048), (2048, 4096), (4096, 8192), (8192, 16384), (16384, 32768), (32768, 65536))
_FIRST_COMPARED: Final = 2
_BOOKS: Final = 8
_CHARS_PER_TOKEN: Final = 8


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Bits per byte of each stretch of tokens that all books reach, and what it has more than tokens 2,048 to 4,096."""
    paths = sorted((folder / NEEDS[0]).glob("*.txt"))[: limit or _BOOKS]
    tokens = [_tokens(model, path) for path in paths]
    stretches = [stretch for stretch in _STRETCHES if sum(len(one) >= stretch[1] for one in tokens) >= 1]
    if not stretches:
        raise EvalError(f"{folder / NEEDS[0]}: has no book of {_STRETCHES[0][1]} tokens; take it from its source again")
    read = [one for one in tokens if len(one) >= stretches[-1][1]]
    bits = np.array([bits_per_byte(model, one[: stretches[-1][1]], stretches) for one in read])
    base = bits[:, min(_FIRST_COMPARED, len(stretches) - 1)]
    rows = tuple(
        Row(
            f"tokens {first:,} to {last:,}",
            {"bits per byte": estimate(bits[:, place]), "drift": paired_difference(bits[:, place], base)},
        )
        for place, (first, last) in enumerate(stretches)
    )
    return Table(
        NAME, f"{len(read)} English books, state carried", rows, ("drift: more than the third row, or the last",)
    )


def _tokens(model: Model, path: Path) -> list[int]:
    with reading(path), path.open(encoding="utf-8") as file:
        return model.tokenizer.encode(file.read(_STRETCHES[-1][1] * _CHARS_PER_TOKEN))
