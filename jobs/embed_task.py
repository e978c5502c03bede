"""What a job file may say of an `embed` task: what gets a vector, how it is read, how it is stored.

Knows nothing of how vectors are made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from jobs.sections import Section, TaskName, matching, not_yet, problem


def _always(value: bool) -> bool:
    if not value:
        raise problem("not_yet", f"{not_yet('`false`')}; embeddings have length 1")
    return value


class EmbedTask(Section):
    """A vector for each sentence, section, window of tokens, or document."""

    called = "embed"

    name: TaskName
    """Names the task in messages and tables."""
    type: Literal["embed"]
    unit: Literal["sentence", "section", "window", "document"] = "sentence"
    """What gets a vector; sentences become the table `sentences`, all others rows of `vectors`."""
    tokens: Annotated[int, Field(ge=16, le=8192)] | None = None
    """How long a window is; null means 512. A window ends with a sentence."""
    pooling: Literal["auto", "span", "isolated", "eol", "echo", "multi-eos", "contextual+isolated"] = "auto"
    """`auto` and `span` take a vector off the stream. The others read each unit again, by itself: `isolated` once,
    `echo` twice, `eol` with a question behind it, `multi-eos` as EmbeddingRWKV; `contextual+isolated` stores both."""
    head: Literal["retr", "sts", "cls"] = "retr"
    """With `multi-eos`, the head of EmbeddingRWKV: for retrieval, similarity or classification."""
    profile: Annotated[str, Field(min_length=1)] | None = None
    """A file that `unspool calibrate` wrote: the layers that vectors are taken from, and a map; null is as usual."""
    profile_sha256: Annotated[str, matching(re.compile("[0-9a-f]{64}"), "64 hexadecimal digits")] | None = None
    """The hash of that file; it is filled in."""
    normalize: Annotated[bool, AfterValidator(_always)] = True
    """Vectors have length 1; nothing else in this version."""
    dtype: Literal["float32", "float16", "int8", "binary"] = "float32"
    """The stored numbers; int8 holds 127 times each, rounded, which keeps the order of cosines all but exactly; binary
    holds one bit for each, 1 above 0."""
    dims: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Keep only the first numbers of each vector; null keeps all."""
    surprise: bool = False
    """Fill the column `nll`: the mean of -ln p over a sentence's tokens, in nats; it costs the output layer."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tokens is not None and self.unit != "window":
            message = "is the length of a window; leave it out or write unit: window"
            raise problem("value", message, at=("tokens",))
        if self.pooling == "echo" and self.unit in ("section", "document"):
            message = "echo reads a unit twice, so it must be short; use unit: sentence or window, or another pooling"
            raise problem("value", message, at=("pooling",))
        if self.head != "retr" and self.pooling != "multi-eos":
            raise problem("value", "is one of EmbeddingRWKV; it wants pooling: multi-eos", at=("head",))
        if self.profile is not None and self.pooling == "multi-eos":
            raise problem("value", "multi-eos has heads of its own; leave the profile out", at=("profile",))
        if self.surprise and self.unit != "sentence":
            raise problem("value", "the surprise is that of sentences; write unit: sentence", at=("surprise",))
        return self

    @property
    def pooler(self) -> str:
        """How tokens become one vector, in the runtime's words: as the weights have it, or by an EOS head."""
        return f"eos_{self.head}" if self.pooling == "multi-eos" else "auto"


def same_kinds(tasks: Sequence[tuple[int, EmbedTask]]) -> None:
    """Refuse tasks, each with its place in the job, whose vectors cannot be made in one job or stand in one table."""
    for index, task in tasks[1:]:
        if (task.pooler, task.profile_sha256) != (tasks[0][1].pooler, tasks[0][1].profile_sha256):
            message = f"a job makes vectors of one kind, and {tasks[0][1].name} wants another; make a second job"
            raise problem("value", message, at=(index, "pooling"))
    others = [(index, task) for index, task in tasks if task.unit != "sentence"]
    for index, task in others[1:]:
        first = others[0][1]
        for key in ("dims", "dtype"):
            if getattr(task, key) != getattr(first, key):
                message = f"must be that of the task {first.name}: their vectors stand in one table"
                raise problem("value", message, at=(index, key))
        if ("+" in task.pooling) != ("+" in first.pooling):
            message = f"gives vectors of another length than the task {first.name}; they stand in one table"
            raise problem("value", message, at=(index, "pooling"))
