"""How surprising each sentence is: the mean of -ln p over its tokens, in nats, summed while the windows go by.

The token behind a window is scored with the window, so of a window nothing has to be kept but one number. The first
token of a document has nothing before it that could predict it and does not count. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.segments import Segment


@dataclass(frozen=True)
class OpenSurprise:
    """Of the sentence that is open: the nats of its tokens so far, how many they are, and those of the next one.

    `next_nats` is None where nothing has been read that could have predicted the next token.
    """

    nats: float = 0.0
    tokens: int = 0
    next_nats: float | None = None

    def as_values(self) -> Mapping[str, float | int | None]:
        """For a checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> OpenSurprise:
        """What `as_values` gave; of a checkpoint without it, the beginning."""
        return cls(**values)


def followers(segment: Segment) -> tuple[int, ...]:
    """The tokens that the segment's tokens predict."""
    return segment.tokens[1:] if segment.follower is None else (*segment.tokens[1:], segment.follower)


def measured(
    segment: Segment, nats: NDArray[np.float32] | None, before: OpenSurprise
) -> tuple[NDArray[np.float32], OpenSurprise]:
    """Mean nats a token [n] of the sentences that end in a segment, and where the open one stands behind it.

    `nats` are those of `followers(segment)`, None if there are none. A sentence of no token that counts is NaN.
    """
    told = np.zeros(0, np.float32) if nats is None else nats
    own = np.concatenate([[np.nan if before.next_nats is None else before.next_nats], told]).astype(np.float64)
    own, behind = own[: len(segment.tokens)], own[len(segment.tokens) :]
    means, held = [], before
    begin = 0
    for sentence in segment.sentences:
        end = sentence.token_end - segment.token_start
        held = _with(held, own[begin:end])
        means.append(held.nats / held.tokens if held.tokens else np.nan)
        held, begin = OpenSurprise(), end
    held = _with(held, own[begin:])
    return np.array(means, np.float32), OpenSurprise(held.nats, held.tokens, float(behind[0]) if len(behind) else None)


def _with(held: OpenSurprise, more: NDArray[np.float64]) -> OpenSurprise:
    counted = more[~np.isnan(more)]
    return OpenSurprise(held.nats + float(counted.sum()), held.tokens + len(counted))
