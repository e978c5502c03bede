"""Kept states: the model's memory of the whole document, to be asked later, and of the part that cannot change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.tasks import Ending, Keep, Moment, Options, Steps

TYPE: Final = "state"


@dataclass(frozen=True)
class KeepState:
    """`at_end` keeps the state behind the last token; `boundary` the one that a grown document goes on from."""

    name: str
    at_end: bool = True
    boundary: bool = False
    wants_vectors: bool = False

    def visit(self, moment: Moment) -> Steps:
        yield from ()
        return moment.memory

    def finish(self, ending: Ending) -> Steps:
        if self.at_end:
            yield Keep("end", ending.state)
        if self.boundary:
            yield Keep("boundary", ending.boundary)
        return ending.memory


def make(options: Options) -> KeepState:
    return KeepState(options["name"], "end" in options["at"], options["boundary"])
