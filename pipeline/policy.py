"""Which context a document is read in: carried on from its beginning, or begun anew, and where.

`carry` never begins anew. `section` does where a section begins. `reprime` does every so many tokens, where the next
section begins or else a little later, and reads the last tokens again behind the beginning. `auto` carries on and
measures every 8,192 tokens whether that still helps: the same tokens are scored behind the carried state and behind a
fresh one that has read only what stands right before them. When carrying has cost more than it gave twice in a row, the
state is primed anew, as `reprime` does. Knows nothing of models: what is computed is asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.segments import Segment
from rwkv_runtime.engine import Fed, Feed
from rwkv_runtime.state import State
from rwkv_runtime.tokenizers import Tokenizer
from rwkv_runtime.words import REACH

Policy: TypeAlias = Literal["carry", "section", "reprime", "auto"]
Action: TypeAlias = Literal["probe", "section", "reprime"]

PRIMED_WITH: Final = 256
"""Tokens that are read again behind the beginning when the state is primed anew."""
PROBED: Final = 128
"""Tokens that a probe scores twice, at most half a window."""
EVERY: Final = 8192
"""Tokens between two probes, and the length after which `reprime` looks for a place."""
PATIENCE: Final = 2048
"""Tokens that a place for priming is waited for; then it is done at the end of a window."""
MARGIN: Final = 0.02
"""Bits a byte that carrying may cost more than a fresh state before it counts."""
IN_A_ROW: Final = 2


@dataclass(frozen=True)
class Event:
    """What was done at a token of the document, and why: bits a byte of the probed tokens behind either state.

    `magnitude` is the mean absolute value of the state's numbers: a rise without end would be its collapse.
    """

    token: int
    action: Action
    carried: float | None = None
    fresh: float | None = None
    magnitude: float | None = None


@dataclass(frozen=True)
class Context:
    """What a policy remembers: the token that the state has read from, the last tokens, and probes lost in a row.

    `due` is the token from which the state is to be primed anew at the next place, `events` how many there were.
    """

    since: int = 0
    recent: tuple[int, ...] = ()
    lost: int = 0
    due: int | None = None
    events: int = 0

    def as_values(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self) | {"recent": list(self.recent)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Context:
        """What `as_values` gave; of a checkpoint without it, the beginning."""
        return cls(**{**values, "recent": tuple(values.get("recent", ()))})


@dataclass(frozen=True)
class Policed:
    """A segment that has been read: all of its tokens' results as one, what was done, and what is remembered."""

    fed: Fed
    events: tuple[Event, ...]
    context: Context


@dataclass(frozen=True)
class Policing:
    """A policy with what it needs: the state before the first token, in windows of so many tokens."""

    policy: Policy
    anchor: State
    tokenizer: Tokenizer
    window: int

    def read(
        self, segment: Segment, state: State, context: Context, features: bool, followers: Sequence[int]
    ) -> Generator[Feed, Fed, Policed]:
        """Read a segment; `followers` are the tokens whose surprise is wanted, none or one for each that has one.

        Yields what must be computed.
        """
        places = self._places(segment, context)
        probing = self.policy == "auto" and segment.token_end % EVERY == 0 and not places
        asked, first = tuple(followers), 0
        if probing and not asked:
            count = _probed_of(segment)
            asked, first = segment.tokens[len(segment.tokens) - count :], len(segment.tokens) - count - 1
        fed = yield from self._pieces(segment, state, context, places, features, asked, first)
        events = tuple(Event(place, "section" if self.policy == "section" else "reprime") for place in places)
        if self.policy in ("carry", "section"):
            return Policed(fed, events, _noted(context, events))
        recent = (*context.recent, *segment.tokens)[-(PRIMED_WITH + PROBED) :]
        context = replace(context, recent=recent)
        if places:
            context = replace(context, since=places[-1], due=None, lost=0)
        if probing:
            event = yield from self._probed(segment, fed, context)
            events, context = (event,), _judged(event, context)
        return Policed(fed if followers else replace(fed, surprise=None), events, _noted(context, events))

    def _places(self, segment: Segment, context: Context) -> list[int]:
        """The tokens in a segment at which the state is begun anew."""
        opens = [token for token in segment.opens if token > 0]
        if self.policy in ("carry", "section"):
            return opens if self.policy == "section" else []
        due = context.due if self.policy == "auto" else context.since + EVERY
        if due is None:
            return []
        waited = [segment.token_start] if segment.token_start >= due + PATIENCE else []
        return [token for token in sorted({*opens, *waited}) if token >= due][:1]

    def _pieces(
        self,
        segment: Segment,
        state: State,
        context: Context,
        places: Sequence[int],
        features: bool,
        followers: tuple[int, ...],
        first: int,
    ) -> Generator[Feed, Fed, Fed]:
        """Read a segment in pieces, each but the first behind a state that was begun anew.

        `followers` are those of its tokens from number `first` on.
        """
        cuts = [place - segment.token_start for place in places]
        parts: list[Fed] = []
        for begin, end in pairwise([0, *cuts, len(segment.tokens)]):
            if begin in cuts:
                state = self.anchor
                if self.policy != "section":
                    before = (*context.recent, *segment.tokens[:begin])[-PRIMED_WITH:]
                    state = (yield from self._primed(before)).state
                # A state says where in the document it stands; boundaries are told by it.
                state = replace(state, tokens_seen=segment.token_start + begin)
            if end > begin:
                own = followers[max(begin - first, 0) : max(end - first, 0)]
                first_scored = max(first - begin, 0) if own else 0
                read_last = (*segment.before, *segment.tokens[:begin])[-REACH:]
                fed = yield Feed(segment.tokens[begin:end], state, features, own, first_scored, read_last)
                state = fed.state
                parts.append(fed)
        return _joined(parts)

    def _primed(self, tokens: Sequence[int]) -> Generator[Feed, Fed, Fed]:
        fed = Fed(self.anchor, None)
        for begin in range(0, len(tokens), self.window):
            fed = yield Feed(tuple(tokens[begin : begin + self.window]), fed.state, False)
        return fed

    def _probed(self, segment: Segment, fed: Fed, context: Context) -> Generator[Feed, Fed, Event]:
        """Score the last tokens of a segment behind a state that has read only those right before them."""
        count = _probed_of(segment)
        probed, before = context.recent[-count:], context.recent[:-count][-PRIMED_WITH:]
        primed = yield from self._primed(before[:-1])
        fresh = yield Feed((*before[-1:], *probed[:-1]), primed.state, False, probed)
        assert fed.surprise is not None and fresh.surprise is not None  # they were asked for
        size = sum(len(self.tokenizer.token_bytes(token)) for token in probed)
        # Where all tokens were asked for, that behind the last is among them, which no probe sees.
        own = fed.surprise[: len(segment.tokens) - 1][-count:]
        return Event(segment.token_end, "probe", _bits(own, size), _bits(fresh.surprise, size), _magnitude(fed.state))


def _probed_of(segment: Segment) -> int:
    """How many of the last tokens of a segment a probe scores."""
    return min(PROBED, len(segment.tokens) // 2)


def _noted(context: Context, events: Sequence[Event]) -> Context:
    return replace(context, events=context.events + len(events)) if events else context


def _judged(event: Event, context: Context) -> Context:
    """What is remembered behind a probe: after some that carrying has lost, the state is to be primed anew."""
    assert event.carried is not None and event.fresh is not None  # it is a probe
    lost = context.lost + 1 if event.carried - event.fresh > MARGIN else 0
    due = event.token if lost >= IN_A_ROW else context.due
    return replace(context, lost=lost, due=due)


def _joined(parts: Sequence[Fed]) -> Fed:
    """The results of parts of a segment as those of the whole."""
    if len(parts) == 1:
        return parts[0]
    features = [part.features for part in parts if part.features is not None]
    surprise = [part.surprise for part in parts if part.surprise is not None]
    return Fed(
        parts[-1].state,
        np.concatenate(features) if features else None,
        np.concatenate(surprise) if surprise else None,
    )


def _bits(nats: NDArray[np.float32], size: int) -> float:
    """Bits a byte of tokens with so many bytes."""
    return float(nats.astype(np.float64).sum()) / float(np.log(2)) / max(size, 1)


def _magnitude(state: State) -> float:
    """The mean absolute value of what the recurrence carries."""
    carried = [tensor for name, tensor in state.tensors.items() if name not in ("att_shift", "ffn_shift", "wkv_max")]
    return float(sum(float(tensor.abs().mean()) for tensor in carried) / len(carried))
