"""The shortest ending of a text under a grammar: a search over bytes, for want of a grammar's inside.

What a state of the engine allows next (its token mask) stands for the state: of two ways of the same length over the
same last two masks only one is followed. Where much is allowed, inside a string, what closes is tried long before what
goes on. Where the ending is too long to be searched for, one way is walked to an end, which need not be the shortest.
Knows nothing of tokens' meaning, budgets or models.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import llguidance

CLOSING = frozenset(b'"}]:,0')
LETTERS = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
FEW = 8
DETOUR = 8
"""Where more than FEW bytes are allowed, the first letter costs as much as so many more bytes, the others four times as
much, and what is neither a letter nor closes anything eight times."""
MOST_STATES = 1_500
MOST_STEPS = 20_000
PATIENCE = 16
"""Uses of a byte at one mask after which the walk likes it less by one."""


def searched(matcher: llguidance.LLMatcher, byte_ids: Mapping[int, int]) -> bytes | None:
    """The cheapest bytes that complete the text: a byte costs 1 and its detour. None if MOST_STATES do not suffice.

    `matcher` is left as it was; `byte_ids` has for each byte the token that is this byte alone.
    """
    ways: list[tuple[int, int, llguidance.LLMatcher | None, bytes, int]] = [(0, 0, matcher, b"", -1)]
    order = count(1)  # of equally dear ways the first found goes first
    masks: dict[bytes, int] = {}
    seen: set[tuple[int, int, int]] = set()
    loops: dict[int, int] = {}  # by mask: a byte behind which all is as before
    for _ in range(MOST_STATES):
        if not ways:
            break
        cost, _, before, ending, came_from = heapq.heappop(ways)
        if before is None:
            return ending
        state = before.deep_copy()
        state.consume_tokens([byte_ids[byte] for byte in ending[-1:]])
        forced = _forced(state, byte_ids)
        if state.is_accepting():
            heapq.heappush(ways, (cost + len(forced), next(order), None, ending + forced, -1))
            continue
        mask = state.compute_bitmask()
        here = masks.setdefault(mask, len(masks))
        if here == came_from and not forced:
            loops.setdefault(here, ending[-1])
        ending += forced
        if state.is_error() or (len(ending), here, came_from) in seen:
            continue
        seen.add((len(ending), here, came_from))
        for byte, detour in _choices(mask, byte_ids, loops.get(here)):
            way = (cost + len(forced) + 1 + detour, next(order), state, ending + bytes([byte]), here)
            heapq.heappush(ways, way)
    return None


def walked(matcher: llguidance.LLMatcher, byte_ids: Mapping[int, int]) -> bytes | None:
    """Bytes that complete the text, by the cheapest byte at each place; one often taken at the same mask gets dearer.

    So every byte that a mask allows is taken in the end, and no loop is walked for ever. None after MOST_STEPS. Takes
    what `searched` takes.
    """
    uses: Counter[tuple[bytes, int]] = Counter()
    state, ending = matcher.deep_copy(), b""
    for _ in range(MOST_STEPS):
        ending += _forced(state, byte_ids)
        if state.is_accepting():
            return ending
        mask = state.compute_bitmask()
        choices = [(_rank(byte) + uses[mask, byte] // PATIENCE, byte) for byte, _ in _choices(mask, byte_ids, None)]
        if state.is_error() or not choices:
            return None
        byte = min(choices)[1]
        uses[mask, byte] += 1
        state.consume_token(byte_ids[byte])
        ending += bytes([byte])
    return None


def _rank(byte: int) -> int:
    if byte in b'"}]':
        return 0
    return 1 if byte in CLOSING else 2 if byte in LETTERS else 3


def _forced(state: llguidance.LLMatcher, byte_ids: Mapping[int, int]) -> bytes:
    """Let a state follow the bytes that must come next; returns them."""
    forced: bytes = state.compute_ff_bytes()
    state.consume_tokens([byte_ids[byte] for byte in forced])
    return forced


def _choices(mask: bytes, byte_ids: Mapping[int, int], loop: int | None) -> Iterator[tuple[int, int]]:
    """The bytes that a mask allows, each with the cost of its detour; of those that change nothing only `loop`."""
    allowed = [byte for byte, token in byte_ids.items() if mask[token // 8] >> token % 8 & 1]
    if len(allowed) <= FEW:
        yield from ((byte, 0) for byte in allowed)
        return
    letter = loop if loop is not None else next((byte for byte in allowed if byte in LETTERS - CLOSING), None)
    for byte in allowed:
        if byte in CLOSING:
            yield byte, 0
        elif byte == letter:
            yield byte, DETOUR
        elif loop is None:
            yield byte, (4 if byte in LETTERS else 8) * DETOUR
