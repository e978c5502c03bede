"""The Triton kernel for the time mix of RWKV-4: channels side by side, tokens one after another, all in registers.

The steps, parameters and sums are those of operations.Steps4, Parameters4 and kernels/wkv4.py.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def walk(
    receptance, key, value, log_decay, bonus, lengths, mixed,
    numerator, denominator, maximum, numerator_after, denominator_after, maximum_after,
    tokens, width,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (lane, block of channels). The sums may be written in their place."""
    lane = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < width
    place = lane * width + channel
    top = tl.load(numerator + place, mask=inside, other=0.0)
    below = tl.load(denominator + place, mask=inside, other=0.0)
    most = tl.load(maximum + place, mask=inside, other=0.0)
    fading = tl.load(log_decay + channel, mask=inside, other=0.0)
    own = tl.load(bonus + channel, mask=inside, other=0.0)
    length = tl.load(lengths + lane).to(tl.int32)
    for step in range(length):
        at = (lane * tokens + step) * width + channel
        k = tl.load(key + at, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(value + at, mask=inside, other=0.0).to(tl.float32)
        r = tl.load(receptance + at, mask=inside, other=0.0).to(tl.float32)
        larger = tl.maximum(most, k + own)
        old, new = tl.exp(most - larger), tl.exp(k + own - larger)
        read = (old * top + new * v) / (old * below + new)
        tl.store(mixed + at, read * tl.sigmoid(r), mask=inside)
        larger = tl.maximum(most + fading, k)
        old, new = tl.exp(most + fading - larger), tl.exp(k - larger)
        top, below, most = old * top + new * v, old * below + new, larger
    for step in range(length, tokens):
        at = (lane * tokens + step) * width + channel
        tl.store(mixed + at, tl.zeros([BLOCK], tl.float32), mask=inside)
    tl.store(numerator_after + place, top, mask=inside)
    tl.store(denominator_after + place, below, mask=inside)
    tl.store(maximum_after + place, most, mask=inside)
