"""What a model remembers, for people: the grid of pipeline/recall.py is measured, told in lines and drawn.

Turns what the pipeline and the runtime refuse into exit codes. Importing it loads no torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import usage_error
from jobs.models import model_errors
from jobs.run_directory import storage_errors

if TYPE_CHECKING:
    from pipeline.recall import Recall

_WINDOW: Final = 512
_SUFFIXES: Final = (".svg", ".png")


@dataclass(frozen=True)
class Measured:
    """A grid, and what it was measured with."""

    recall: Recall
    model: str
    model_fingerprint: str
    seconds: float
    anew: int

    def to_json(self) -> dict[str, Any]:
        found = _modes(self.recall)
        return {
            "model": Path(self.model).name,
            "model_fingerprint": self.model_fingerprint,
            "seconds": round(self.seconds, 1),
            "tries": self.recall.tries,
            "guessing": 10.0,
            "anew": self.anew,
            "horizon": {mode: self.recall.horizon(mode) for mode in found},
            "cells": [asdict(cell) for cell in self.recall.cells],
        }


def measure(source: str, full: bool) -> Measured:
    """Measure what a model remembers. Raises JobError (exit 7)."""
    began = time.monotonic()
    with model_errors():
        import rwkv_runtime
        from pipeline import recall
        from rwkv_runtime.engine import Engine

        model = rwkv_runtime.load(source)
        grid = recall.FULL if full else recall.QUICK
        found = recall.measure(Engine(model, window=_WINDOW, lanes=1), grid)
    return Measured(found, source, model.fingerprint, time.monotonic() - began, grid.anew)


def lines_of(measured: Measured) -> Iterator[str]:
    """The grid for a terminal: a row a number of facts and a way to answer, a column a distance."""
    cells = {(cell.facts, cell.mode, cell.distance): cell for cell in measured.recall.cells}
    distances = sorted({cell.distance for cell in measured.recall.cells})
    yield f"{'facts':>5}  {'answered from':<13}" + "".join(f"{distance:>9,}" for distance in distances) + "  tokens ago"
    for facts in sorted({cell.facts for cell in measured.recall.cells}):
        for mode in _modes(measured.recall):
            row = "".join(f"{cells[facts, mode, distance].value:>8.0f}%" for distance in distances)
            yield f"{facts:>5}  {mode:<13}{row}"
    yield f"Per cent of {measured.recall.tries} questions a cell. Of ten answers one is chosen: guessing gives 10%."
    yield f"by section, primed anew: as those policies have the state, begun anew every {measured.anew:,} tokens."
    yield "quoted: the fact stands in the passage that is found by words; it is how `ask` answers with any model."
    known = measured.recall.horizon("state")
    reach = f"up to {known:,} tokens back" if known else "at no distance of this grid"
    yield f"From its state alone this model knows a single fact in half of the cases {reach}."


def check_picture(path: Path) -> None:
    """Raise JobError (exit 2) before anything is measured, if no picture can be drawn there."""
    if path.suffix not in _SUFFIXES:
        raise usage_error("CHART", f"a chart is drawn as one of {', '.join(_SUFFIXES)}; name it so", str(path))
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        message = "charts are drawn by matplotlib; run `pip install unspool[bench]`"
        raise usage_error("CHART", message) from None


def draw(measured: Measured, path: Path) -> None:
    """Draw the grid: per cent right by distance, a line a number of facts. Raises JobError (exit 6)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4), layout="constrained")
    modes = _modes(measured.recall)
    plots = figure.subplots(1, len(modes), sharey=True)
    for plot, mode in zip(plots, modes, strict=True):
        for facts in sorted({cell.facts for cell in measured.recall.cells}):
            own = [cell for cell in measured.recall.cells if (cell.facts, cell.mode) == (facts, mode)]
            bars = [[cell.value - cell.low for cell in own], [cell.high - cell.value for cell in own]]
            places, values = [cell.distance for cell in own], [cell.value for cell in own]
            plot.errorbar(places, values, yerr=bars, marker="o", capsize=3, label=f"{facts} told")
        plot.axhline(10, color="grey", linestyle=":", label="guessing")
        plot.set_xscale("log", base=2)
        plot.set_ylim(0, 105)
        plot.set_title(f"answered from: {mode}")
        plot.set_xlabel("tokens since the fact")
    plots[0].set_ylabel("per cent right")
    plots[-1].legend()
    with storage_errors(path):
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def _modes(recall: Recall) -> list[str]:
    """What was answered from, in the order in which it was measured."""
    return list(dict.fromkeys(cell.mode for cell in recall.cells))
