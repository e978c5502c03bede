"""Semantic textual similarity: does the cosine of two sentences' vectors order pairs as people do (STS-B, dev).

Also what reading costs: the same sentences behind 512 and 4,096 tokens of unrelated text, another one for each side of
a pair; what smaller vectors keep; and what the parts of a trained head reach by themselves. Beside them
all-MiniLM-L6-v2, where it is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import vectors
from pipeline.evals import Estimate, Row, Table, read_jsonl, read_text
from pipeline.metrics import minilm
from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.correlation import spearman
from rwkv_runtime.engine import Engine
from rwkv_runtime.matrices import RowByRow
from rwkv_runtime.state import State

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "sts"
NEEDS: Final = ("labelled/stsb-en.jsonl", "labelled/wikitext2-valid.txt")

_READ_BEFORE: Final = (512, 4096)
_CHARS_PER_TOKEN: Final = 6
_PREFIXES: Final = (128, 64)
_WINDOW: Final = 512

Floats = NDArray[np.float32]


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Spearman x 100 of each kind of vector, and what it has more or less than the first."""
    pairs = list(read_jsonl(folder / NEEDS[0], limit))
    firsts, seconds = [pair["a"] for pair in pairs], [pair["b"] for pair in pairs]
    scores = np.array([pair["score"] for pair in pairs], np.float64)
    engine = Engine(model, window=_WINDOW, lanes=1)
    a, b = vectors.isolated(engine, firsts), vectors.isolated(engine, seconds)
    cosines = {"isolated": _cosines(a, b)}
    other = read_text(folder / NEEDS[1])
    for count in _READ_BEFORE:
        behind = _states(engine, other, count)
        sides = [
            vectors.vectors_after(engine, state, texts) for state, texts in zip(behind, (firsts, seconds), strict=True)
        ]
        cosines[f"behind {count:,} tokens of other text"] = _cosines(*sides)
    cosines |= _smaller(a, b) | _parts(model, firsts, seconds) | _peer(firsts, seconds)
    rows = tuple(Row(name, _metrics(found, cosines["isolated"], scores)) for name, found in cosines.items())
    notes = ["gap: Spearman less that of the first row"]
    if not minilm.is_installed():
        notes.append(f"with {minilm.NAME} beside them after `pip install unspool[peers]`")
    return Table(NAME, f"STS-B dev, {len(pairs):,} pairs", rows, tuple(notes))


def _peer(firsts: list[str], seconds: list[str]) -> dict[str, NDArray[np.float64]]:
    """Cosines of the vectors of another model, none where it is not installed."""
    if not minilm.is_installed():
        return {}
    found = minilm.vectors_of([*firsts, *seconds])
    return {minilm.NAME: _cosines(found[: len(firsts)], found[len(firsts) :])}


def _states(engine: Engine, text: str, count: int) -> list[State]:
    """Two states, behind the first and behind the last `count` tokens or so of a text."""
    size = count * _CHARS_PER_TOKEN
    ends = (text[:size], text[-size:])
    return [vectors.state_behind(engine, engine.model.tokenizer.encode(end)[:count]) for end in ends]


def _smaller(a: Floats, b: Floats) -> dict[str, NDArray[np.float64]]:
    """Cosines of shortened and of coarser vectors."""
    found = {f"{size} dimensions": _cosines(a[:, :size], b[:, :size]) for size in _PREFIXES if size < a.shape[1]}
    return found | {"int8": _cosines(np.rint(a * 127), np.rint(b * 127)), "binary": _cosines(np.sign(a), np.sign(b))}


def _parts(model: Model, firsts: list[str], seconds: list[str]) -> dict[str, NDArray[np.float64]]:
    """Cosines from the static table, with its words, without the network, and from the network without either."""
    head = model.embedding_head
    if head is None:
        return {}
    evenly = replace(head, gate_weight=torch.zeros_like(head.gate_weight), gate_bias=torch.zeros_like(head.gate_bias))
    nothing = RowByRow(torch.zeros_like(head.projection.weight))
    parts = {
        "static table alone": replace(evenly, projection=nothing, perceptron=None),
        "network alone": replace(head, static=torch.zeros_like(head.static), words=None),
    }
    found = {}
    for name, pooler in parts.items():
        engine = Engine(model, window=_WINDOW, lanes=1, pooling=pooler)
        found[name] = _cosines(vectors.isolated(engine, firsts), vectors.isolated(engine, seconds))
    return found


def _cosines(a: Floats, b: Floats) -> NDArray[np.float64]:
    first, second = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: NDArray[np.float64] = (first * second).sum(axis=1) / np.maximum(lengths, 1e-12)
    return cosines


def _metrics(
    found: NDArray[np.float64], baseline: NDArray[np.float64], scores: NDArray[np.float64]
) -> Mapping[str, Estimate]:
    def gap(items: NDArray[np.intp]) -> float:
        return 100 * (spearman(found[items], scores[items]) - spearman(baseline[items], scores[items]))

    return {
        "Spearman": estimate_of(lambda items: 100 * spearman(found[items], scores[items]), len(scores)),
        "gap": estimate_of(gap, len(scores)),
    }
