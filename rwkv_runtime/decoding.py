"""Continues several prompts together: one step of the model a token, for a fixed number of lanes.

Each request gets what it would get alone, bit for bit: every step is computed for the same number of lanes, whether
they are taken or not, and a row of a product of that shape depends neither on its place nor on the other rows.
Requests that wait take the lanes of those that are done. Knows nothing of documents; what a grammar allows is
grammar.py's business.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rwkv_runtime.errors import RwkvError, ShapeError, StateError
from rwkv_runtime.network import Tensors
from rwkv_runtime.sampling import Penalties, SamplingOptions, Transcript, sample
from rwkv_runtime.state import State
from rwkv_runtime.token_ids import shown

if TYPE_CHECKING:
    from rwkv_runtime.grammar import Grammar
    from rwkv_runtime.model import Model

END_OF_TEXT = 0
LANES = 16
"""Measured on one core: with 16 lanes the shipped model writes three times as many tokens a second as with one.

Numbers of lanes are multiples of 16 (or 1): torch computes sigmoid and its like in vectors of up to 16 values, and what
is left at the end one by one, with other bits. Of a multiple of 16 rows nothing is ever left, whatever the widths.
"""

FinishReason = Literal["end", "stop", "length", "complete"]
"""Why a text ended: token 0; a stop string; the budget (with a grammar, closed in time); nothing more is allowed."""


@dataclass(frozen=True)
class Request:
    """A prompt to continue, after what `state` has read (None: nothing), for at most `max_tokens` tokens.

    Draws depend on `seed` alone; `sampling.named_seed` makes one of names. Stop strings are left out of the text, and
    count behind the first `stop_after` only. A grammar takes no stop strings: it says itself where a text may end.
    """

    prompt: str
    state: State | None = None
    max_tokens: int = 64
    sampling: SamplingOptions = SamplingOptions()  # noqa: RUF009  frozen
    stop: tuple[str, ...] = ()
    stop_after: str = ""
    seed: int = 0
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Completion:
    """What was written. `logprobs` has for each of `tokens` the natural log of its probability under the model alone,
    before penalties, temperature and grammar. `tokens` holds neither token 0 nor anything of the prompt."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason


def decode(model: Model, requests: Sequence[Request], lanes: int = LANES) -> list[Completion]:
    """Continue every request; the results are in their order.

    A result depends on its request, the model, the machine and `lanes`, never on the other requests. Raises RwkvError
    for an empty prompt, for stop strings beside a grammar, and for a budget that a grammar cannot be kept with.
    """
    if lanes < 1 or (lanes > 1 and lanes % LANES):
        raise ShapeError(f"lanes {lanes} must be 1 or a multiple of {LANES}: other rows depend on their place")
    waiting = deque(_Text(model, request) for request in requests)
    texts = list(waiting)
    table = _Lanes(model, lanes)
    with torch.inference_mode():
        while waiting or table.taken:
            while waiting and len(table.taken) < lanes:
                table.start(waiting.popleft())
            table.step()
    return [text.completion() for text in texts]


class _Text:
    """One text in the making: everything of it but the model's state."""

    def __init__(self, model: Model, request: Request) -> None:
        if request.grammar is not None and request.stop:
            raise RwkvError(
                f"stop strings {list(request.stop)} would cut what a grammar has to complete; leave them out"
            )
        _check(request)
        self.request = request
        self.prompt = model.tokenizer.encode(request.prompt)
        if not self.prompt:
            raise RwkvError("the prompt has no tokens, so there is nothing to continue; give at least one character")
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None if request.max_tokens > 0 else "length"
        self._guide = None if request.grammar is None else request.grammar.guide(model, request.max_tokens)
        self._tokenizer = model.tokenizer
        self._logprobs: list[float] = []
        self._draw = random.Random(request.seed)
        self._penalties = Penalties(request.sampling)
        self._transcript = Transcript(request.stop, request.stop_after)

    def goes_on_with(self, logits: Tensor) -> bool:
        """Draw the next token from logits [vocabulary]; returns whether the text goes on behind it."""
        allowed = self._penalties.applied(logits)
        if self._guide is not None:
            allowed = self._guide.restricted(allowed)
        token = sample(allowed, self.request.sampling, self._draw)
        if self._guide is not None:
            token = self._guide.admitted(token, self.request.max_tokens - len(self.tokens))
        if token == END_OF_TEXT:
            self.finish_reason = "length" if self._closed else "end"
            return False
        self.tokens.append(token)
        self._logprobs.append(float(torch.log_softmax(logits.float(), dim=-1)[token]))
        self._penalties.count(token, self._tokenizer.decode([token]))
        self._transcript.append(self._tokenizer.token_bytes(token))
        self.finish_reason = self._ended()
        return self.finish_reason is None

    def completion(self) -> Completion:
        return Completion(
            self._transcript.text, tuple(self.tokens), tuple(self._logprobs), self.finish_reason or "length"
        )

    @property
    def _closed(self) -> bool:
        return self._guide is not None and self._guide.closed

    def _ended(self) -> FinishReason | None:
        if self._transcript.stopped:
            return "stop"
        if self._guide is not None and self._guide.complete:
            return "length" if self._closed else "complete"
        return "length" if len(self.tokens) >= self.request.max_tokens else None


def _check(request: Request) -> None:
    """Raise RwkvError for values of other types than a request has."""
    if not isinstance(request.prompt, str):
        raise RwkvError(f"the prompt {shown(request.prompt)} is no text; give a str")
    if not isinstance(request.state, State | None):
        raise StateError(f"{shown(request.state)} is no state; give one that `forward` returned, or None")
    if not isinstance(request.max_tokens, int):
        raise RwkvError(f"max_tokens {shown(request.max_tokens)} is no whole number; give an int")
    if not all(isinstance(one, str) for one in request.stop):
        raise RwkvError(f"stop {shown(request.stop)} must be strings; give a list of str")


class _Lanes:
    """The states of the texts being written, side by side: [L, lanes, ...]."""

    def __init__(self, model: Model, count: int) -> None:
        self.taken: dict[int, _Text] = {}
        self._model = model
        self._count = count
        self._tensors = model.initial_lanes(count)
        self._older: Tensors | None = None  # of the step before, whose room the next one takes

    def start(self, text: _Text) -> None:
        """Read the prompt, choose the first token, and give the text a lane if it goes on."""
        if text.finish_reason is not None:
            return
        logits, state = self._model.prefill(text.prompt, text.request.state or self._model.initial_state())
        if not text.goes_on_with(logits.cpu()):
            return
        lane = next(lane for lane in range(self._count) if lane not in self.taken)
        self.taken[lane] = text
        place = torch.tensor([lane], device=self._model.device)
        for name, tensor in state.tensors.items():
            self._tensors[name].index_copy_(1, place, tensor.unsqueeze(1).to(self._model.device))

    def step(self) -> None:
        """Read the last token of every text, and choose the next."""
        if not self.taken:
            return
        tokens = [self.taken[lane].tokens[-1] if lane in self.taken else None for lane in range(self._count)]
        logits, after = self._model.step(tokens, self._tensors, self._older)
        self._tensors, self._older = after, self._tensors
        rows = logits.cpu()
        for lane, text in list(self.taken.items()):
            if not text.goes_on_with(rows[lane]):
                del self.taken[lane]
