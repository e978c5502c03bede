"""A loaded model: tokens and a state in, hidden states, logits and a new state out.

Knows one network and one tokenizer; nothing of files, documents or sentences. A state that is passed in is never
written, and nothing that was not asked for is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from rwkv_runtime import huge_pages
from rwkv_runtime.config import ModelConfig
from rwkv_runtime.errors import NotFiniteError, RwkvError, ShapeError, StateError
from rwkv_runtime.layers import is_finite
from rwkv_runtime.network import Network, Tensors
from rwkv_runtime.pooling import EmbeddingHead
from rwkv_runtime.sampling import SamplingOptions
from rwkv_runtime.state import State
from rwkv_runtime.token_ids import shown, token_ids
from rwkv_runtime.tokenizers import Tokenizer

if TYPE_CHECKING:
    from rwkv_runtime.eos_heads import EosHead
    from rwkv_runtime.grammar import Grammar, Vocabulary
    from rwkv_runtime.spans import SpanReader

__all__ = ["Logits", "Model", "ModelConfig", "Output"]

SCORED = 64
"""Rows of logits that `surprises` holds at a time; always so many, so that bits do not depend on how many are asked."""

WINDOW = 512
"""Tokens that `forward` computes at a time: what it needs beside its result does not grow with the text."""

Logits = Literal["none", "last", "all"]
Item = tuple[Sequence[int], State]
"""Tokens, and the state that they are read from."""


@dataclass(frozen=True)
class Output:
    """What reading T tokens gave. All tensors are float32.

    `residual` [T, D] is the stream after the last layer, `hidden` [T, D] the same after the final norm; `logits` is
    [V] for "last", [T, V] for "all", and None for "none" and, of "last", if there were no tokens. `tapped` [T, D]
    is the mean of the normalised streams behind the layers that were asked for, None if none were.
    """

    hidden: Tensor
    residual: Tensor
    logits: Tensor | None
    state: State
    tapped: Tensor | None = None


class Model:
    """Weights, their tokenizer, and what can be done with the two."""

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        fingerprint: str,
        embedding_head: EmbeddingHead | None = None,
        dtype: str = "fp32",
        eos_heads: Mapping[str, EosHead] | None = None,
        span_reader: SpanReader | None = None,
    ) -> None:
        """`dtype` names the precision of the network's matrices, or is the strategy that they were placed by.

        `span_reader` is one that was fitted on this model, if there is one.
        """
        self.config = network.config
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.embedding_head = embedding_head
        self.eos_heads = eos_heads or {}
        self.span_reader = span_reader
        self.device = network.device
        self.dtype = dtype
        self._network = network
        self._batches = network.device.type == "cuda"
        self._shapes = {name: tensor.shape for name, tensor in network.initial_state().items()}

    @cached_property
    def grammar_vocabulary(self) -> Vocabulary:
        """The tokens as grammars see them; made when the first grammar asks."""
        from rwkv_runtime.grammar import Vocabulary

        return Vocabulary(self.tokenizer, self.config.vocab_size)

    @property
    def output_matrix(self) -> Tensor:
        """What makes logits of hidden states, as stored [vocabulary, D]; not to be written."""
        return self._network.head_weight

    def initial_state(self) -> State:
        """The state before the first token."""
        return State(self.config.generation, self.fingerprint, 0, self._network.initial_state())

    def initial_lanes(self, count: int) -> Tensors:
        """The state before the first token in each of `count` lanes, as `step` takes it: tensors [L, count, ...].

        Raises ShapeError unless there is a lane.
        """
        if count < 1:
            raise ShapeError(f"{count} lanes must be at least 1")
        start = self._network.initial_state()
        return {
            name: huge_pages.room((len(one), count, *one.shape[1:]), one.device).copy_(one.unsqueeze(1))
            for name, one in start.items()
        }

    def forward(self, tokens: Sequence[int], state: State, logits: Logits = "last") -> Output:
        """Read T tokens from a state on. T may be 0 and may be large. Tensors and arrays of one axis are tokens, too.

        Raises ShapeError for what is no token or outside the vocabulary, StateError for a state of another model or
        shape, NotFiniteError for a NaN or an infinity.
        """
        tokens = self._checked(tokens, state)
        if logits not in ("none", "last", "all"):
            raise ShapeError(f"logits {logits!r} must be none, last or all")
        with torch.inference_mode():
            residuals, tensors = list[Tensor](), state.tensors
            for begin in range(0, len(tokens), WINDOW):
                window = tokens[begin : begin + WINDOW]
                residual, after = self._run(window, tensors, len(window))
                self._check_finite([residual, *after.values()], window, tensors, state.tokens_seen + begin)
                tensors = after
                residuals.append(residual)
            residual = torch.cat(residuals) if len(residuals) > 1 else residuals[0] if residuals else self._nothing(0)
            hidden = self._network.final_norm(residual)
            scores = self._scores(hidden, logits)
            if scores is not None and not is_finite(scores):
                raise NotFiniteError(_bad_logits(scores, state.tokens_seen + len(tokens)))
            return Output(hidden, residual, scores, self._advanced(state, tensors, len(tokens)))

    def prefill(self, tokens: Sequence[int], state: State) -> tuple[Tensor, State]:
        """Read a prompt of at least one token: (the logits [V] behind its last token, the state after it).

        These are what `forward` gives, to the bit. What only the other tokens' hidden states need is left out where the
        network can, so that a NaN or an infinity which shows in those alone is no error here. Raises as `forward` does
        otherwise, and ShapeError if there is no token.
        """
        tokens = self._checked(tokens, state)
        if not tokens:
            raise ShapeError("a prompt of 0 tokens has no last one; give at least 1")
        *earlier, last = range(0, len(tokens), WINDOW)
        with torch.inference_mode():
            tensors = state.tensors
            for begin in earlier:
                window = tokens[begin : begin + WINDOW]
                lane = self._network.advance(_padded(window, WINDOW), self._lane(tensors), [WINDOW])
                after = {name: tensor.squeeze(1) for name, tensor in lane.items()}
                self._check_finite([*after.values()], window, tensors, state.tokens_seen + begin)
                tensors = after
            window = tokens[last:]
            ends, lane = self._network.ending(_padded(window, len(window)), self._lane(tensors), [len(window)])
            after = {name: tensor.squeeze(1) for name, tensor in lane.items()}
            self._check_finite([ends, *after.values()], window, tensors, state.tokens_seen + last)
            scores = self._network.logits(self._network.final_norm(ends)[0])
            if not is_finite(scores):
                raise NotFiniteError(_bad_logits(scores, state.tokens_seen + len(tokens)))
            return scores, self._advanced(state, after, len(tokens))

    def forward_padded(
        self, items: Sequence[tuple[Sequence[int], State]], lanes: int, width: int, layers: tuple[int, ...] = ()
    ) -> list[Output]:
        """Read up to `lanes` items of up to `width` tokens each; no logits. `layers`, from 1 on, are to be tapped.

        Every item is computed as at [1, width], on a GPU together with the others at [lanes, width], whatever its own
        length: its bits depend on its tokens, its state and that shape alone, never on the other items or on its place
        among them. Padding never touches a state, and where it changes no bit there is little of it.
        Raises ShapeError if there are more items than lanes or more tokens than the width.
        """
        items = self._fitting(items, lanes, width)
        if self._batches and items:
            return self._padded_together(items, lanes, width, layers)
        return [self._padded(tokens, state, width, layers) for tokens, state in items]

    def advance_padded(self, items: Sequence[tuple[Sequence[int], State]], lanes: int, width: int) -> list[State]:
        """The states that `forward_padded` gives, to the bit, without the work that only its hidden states need."""
        items = self._fitting(items, lanes, width)
        if self._batches and items:
            return self._advanced_together(items, lanes, width)
        return [self._advanced_padded(tokens, state, width) for tokens, state in items]

    def surprises(self, hidden: Tensor, followers: Sequence[int]) -> Tensor:
        """-ln p of each token, in nats, under the hidden state [D] of the token before it: float32 [n] on the CPU.

        `hidden` [n, D] are those of an `Output`. `SCORED` rows of logits are held at a time, and each result depends
        on its row alone, bit for bit. Raises ShapeError if the two do not fit or a token is outside the vocabulary,
        NotFiniteError if the head gives a NaN or an infinity.
        """
        followers = token_ids(followers, self.config.vocab_size)
        if not isinstance(hidden, Tensor) or hidden.ndim != 2 or hidden.shape[1] != self.config.n_embd:
            given = list(hidden.shape) if isinstance(hidden, Tensor) else shown(hidden)
            raise ShapeError(f"hidden states {given} must be a tensor [n, {self.config.n_embd}]; pass `Output.hidden`")
        if len(hidden) != len(followers):
            raise ShapeError(f"{len(followers)} tokens do not follow {len(hidden)} hidden states; pass one for each")
        with torch.inference_mode():
            found = torch.empty(len(followers))
            for begin in range(0, len(followers), SCORED):
                wanted = torch.tensor(followers[begin : begin + SCORED])
                rows = hidden[begin : begin + SCORED]
                padding = rows.new_zeros(SCORED - len(rows), rows.shape[1])
                scores = self._network.logits(torch.cat([rows, padding]))[: len(rows)].float().cpu()
                picked = scores.gather(1, wanted[:, None])[:, 0]
                found[begin : begin + SCORED] = scores.logsumexp(dim=1) - picked
            if not is_finite(found):
                place = int((~found.isfinite()).int().argmax())
                raise NotFiniteError(_bad_head(f"before token {followers[place]} in row {place}"))
            return found

    def step(self, tokens: Sequence[int | None], lanes: Tensors, room: Tensors | None = None) -> tuple[Tensor, Tensors]:
        """Read one token in each of B lanes; in a lane with None, none.

        `lanes` holds a state's tensors [L, B, ...]; they are left as they were. Returns (logits [B, vocabulary], of
        which those of a lane without a token mean nothing, the new tensors). `room` may hold tensors of an earlier step
        that nobody needs any more: the new ones may be written there, which saves their memory from being asked for
        anew. Raises ShapeError for a token outside the
        vocabulary, StateError for tensors of other shapes, NotFiniteError for a NaN or an infinity.
        """
        token_ids([token for token in tokens if token is not None], self.config.vocab_size)
        self._check_state(lanes, len(tokens))
        lengths = [int(token is not None) for token in tokens]
        with torch.inference_mode():
            given = torch.tensor([[token or 0] for token in tokens])
            residual, after = self._network.window(given, lanes, lengths, room)
            logits = self._network.logits(self._network.final_norm(residual[:, 0]))
            taken = [row for row, length in zip(logits, lengths, strict=True) if length]
            if not all(map(is_finite, [*taken, *after.values()])):
                raise NotFiniteError(self._bad_step(tokens, lanes))
            return logits, after

    def generate(
        self,
        prompt: str,
        state: State | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Mapping[str, Any] | None = None,
        *,
        top_k: int = 0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        penalty_decay: float = 0.996,
        stop_after: str = "",
        grammar: Grammar | None = None,
    ) -> str:
        """Continue a prompt, after what `state` has read; the prompt is not part of the result.

        Ends at a stop string (left out), at token 0 (end of text) or after `max_tokens`. A character whose bytes are
        not all there at the end is left out. With a JSON `schema` or another `grammar` the text always keeps to it,
        whole, whatever the budget. `decoding.decode` takes several prompts at once and says more of each; the options
        are those of `sampling.SamplingOptions`. Raises RwkvError for an empty prompt, and for a budget that is too
        small for the grammar.
        """
        from rwkv_runtime.decoding import Request, decode

        if schema is not None:
            from rwkv_runtime.grammar import Grammar

            if grammar is not None:
                raise RwkvError("`schema` and `grammar` both say what may be written; give one of them")
            grammar = Grammar.json_schema(schema)
        if isinstance(stop, str):
            raise RwkvError(f"stop {shown(stop)} is one text, of which each letter would stop; give [{shown(stop)}]")
        sampling = SamplingOptions(temperature, top_p, top_k, presence_penalty, frequency_penalty, penalty_decay)
        request = Request(prompt, state, max_tokens, sampling, tuple(stop), stop_after, seed, grammar)
        return decode(self, [request], lanes=1)[0].text

    def _padded(self, tokens: Sequence[int], state: State, width: int, layers: tuple[int, ...]) -> Output:
        width = self._network.narrowest(len(tokens), width)
        with torch.inference_mode():
            tapped = None
            if layers and tokens:
                lane = self._lane(state.tensors)
                streams, after, taps = self._network.tapped(_padded(tokens, width), lane, [len(tokens)], layers)
                residual, tapped = streams[0], taps[0, : len(tokens)]
                tensors: Mapping[str, Tensor] = {name: tensor.squeeze(1) for name, tensor in after.items()}
            else:
                residual, tensors = self._run(tokens, state.tensors, width)
            self._check_finite([residual[: len(tokens)], *tensors.values()], tokens, state.tensors, state.tokens_seen)
            hidden = self._network.final_norm(residual)[: len(tokens)]
            return Output(hidden, residual[: len(tokens)], None, self._advanced(state, tensors, len(tokens)), tapped)

    def _run(
        self, tokens: Sequence[int], tensors: Mapping[str, Tensor], width: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Read one sequence, padded to `width` tokens; returns (residual [width, D], the new tensors)."""
        if not tokens:
            return self._nothing(width), tensors
        residual, lane = self._network.window(_padded(tokens, width), self._lane(tensors), [len(tokens)])
        return residual[0], {name: tensor.squeeze(1) for name, tensor in lane.items()}

    def _advanced_padded(self, tokens: Sequence[int], state: State, width: int) -> State:
        if not tokens:
            return state
        with torch.inference_mode():
            padded = _padded(tokens, self._network.narrowest(len(tokens), width))
            lane = self._network.advance(padded, self._lane(state.tensors), [len(tokens)])
            tensors = {name: tensor.squeeze(1) for name, tensor in lane.items()}
            self._check_finite([*tensors.values()], tokens, state.tensors, state.tokens_seen)
            return self._advanced(state, tensors, len(tokens))

    def _padded_together(self, items: Sequence[Item], lanes: int, width: int, layers: tuple[int, ...]) -> list[Output]:
        with torch.inference_mode():
            given, tensors, lengths = self._batch(items, lanes, width)
            taps = None
            if layers:
                residuals, after, taps = self._network.tapped(given, tensors, lengths, layers)
            else:
                residuals, after = self._network.window(given, tensors, lengths)
            hidden = self._network.final_norm(residuals)
            outputs = []
            for lane, (tokens, state) in enumerate(items):
                count, own = len(tokens), _lane_of(after, lane)
                residual = residuals[lane, :count]
                self._check_finite([residual, *own.values()], tokens, state.tensors, state.tokens_seen)
                advanced = self._advanced(state, own if count else state.tensors, count)
                tapped = None if taps is None else taps[lane, :count]
                outputs.append(Output(hidden[lane, :count], residual, None, advanced, tapped))
            return outputs

    def _advanced_together(self, items: Sequence[Item], lanes: int, width: int) -> list[State]:
        with torch.inference_mode():
            given, tensors, lengths = self._batch(items, lanes, width)
            after = self._network.advance(given, tensors, lengths)
            states = []
            for lane, (tokens, state) in enumerate(items):
                own = _lane_of(after, lane) if tokens else state.tensors
                self._check_finite([*own.values()], tokens, state.tensors, state.tokens_seen)
                states.append(self._advanced(state, own, len(tokens)))
            return states

    def _batch(self, items: Sequence[Item], lanes: int, width: int) -> tuple[Tensor, dict[str, Tensor], list[int]]:
        """Items as lanes [lanes, width], those left over without a token: (tokens, the states' tensors, lengths)."""
        empty = self._network.initial_state()
        states = [state.tensors for _, state in items] + [empty] * (lanes - len(items))
        tensors = {name: torch.stack([one[name].to(self.device) for one in states], dim=1) for name in empty}
        given = torch.cat([_padded(tokens, width) for tokens, _ in items])
        given = torch.cat([given, torch.zeros(lanes - len(items), width, dtype=torch.long)])
        return given, tensors, [len(tokens) for tokens, _ in items] + [0] * (lanes - len(items))

    def _check_finite(
        self, found: Sequence[Tensor], tokens: Sequence[int], before: Mapping[str, Tensor], position: int
    ) -> None:
        """Raise NotFiniteError if reading tokens from `position` on has given a NaN or an infinity, and say where."""
        if all(map(is_finite, found)):
            return
        if not all(map(is_finite, before.values())):
            raise NotFiniteError(f"the state before token {position} holds a NaN or an infinity; go back to another")
        lane = self._lane(before)
        for place, token in enumerate(tokens):
            one = torch.tensor([[token]])
            layer = self._network.first_not_finite(one, lane, [1])
            if layer is not None:
                raise NotFiniteError(_bad_layer(layer, f"token {position + place} (id {token})"))
            lane = self._network.window(one, lane, [1])[1]
        layer = self._network.first_not_finite(_padded(tokens, len(tokens)), self._lane(before), [len(tokens)])
        raise NotFiniteError(_bad_layer(layer, f"one of the tokens {position} to {position + len(tokens) - 1}"))

    def _bad_step(self, tokens: Sequence[int | None], before: Tensors) -> str:
        """Say in which lane and, where it is not the head, from which layer on a step is not finite."""
        for lane, token in enumerate(tokens):
            if token is None:
                continue
            own = {name: tensor[:, lane : lane + 1] for name, tensor in before.items()}
            if not all(map(is_finite, own.values())):
                return f"the state in lane {lane} holds a NaN or an infinity; go back to another"
            layer = self._network.first_not_finite(torch.tensor([[token]]), own, [1])
            if layer is not None:
                return _bad_layer(layer, f"the token (id {token}) in lane {lane}")
        return "the head gives a NaN or an infinity; load the model as fp32"

    def _lane(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state's tensors as one lane, where the network wants them."""
        return {name: tensor.unsqueeze(1).to(self.device) for name, tensor in tensors.items()}

    def _nothing(self, rows: int) -> Tensor:
        return torch.zeros(rows, self.config.n_embd, device=self._network.output_device)

    def _scores(self, hidden: Tensor, logits: Logits) -> Tensor | None:
        if logits == "all" and not len(hidden):
            return hidden.new_zeros(0, self.config.vocab_size)
        if logits == "none" or not len(hidden):
            return None
        return self._network.logits(hidden if logits == "all" else hidden[-1])

    def _advanced(self, state: State, tensors: Mapping[str, Tensor], count: int) -> State:
        return State(state.generation, state.model_fingerprint, state.tokens_seen + count, tensors)

    def _fitting(self, items: Sequence[Item], lanes: int, width: int) -> list[Item]:
        """Items with their tokens as ints. Raises ShapeError and StateError for what cannot be read."""
        checked = [(self._checked(tokens, state), state) for tokens, state in items]
        longest = max((len(tokens) for tokens, _ in checked), default=0)
        if len(checked) > lanes or longest > width:
            raise ShapeError(f"{len(checked)} items of up to {longest} tokens do not fit {lanes} lanes of {width}")
        return checked

    def _checked(self, tokens: Sequence[int], state: State) -> Sequence[int]:
        """The tokens as ints. Raises ShapeError for others, StateError for what is no state of this model."""
        found = token_ids(tokens, self.config.vocab_size)
        if not isinstance(state, State):
            raise StateError(f"{shown(state)} is no state; start from initial_state()")
        if state.model_fingerprint != self.fingerprint:
            raise StateError(
                f"a state of the model {state.model_fingerprint[:12]} cannot be continued by the model "
                f"{self.fingerprint[:12]}; load the model that made it"
            )
        self._check_state(state.tensors)
        return found

    def _check_state(self, tensors: Mapping[str, Tensor], lanes: int | None = None) -> None:
        """Raise StateError unless these are a state's tensors, of one sequence or of so many lanes."""
        if not isinstance(tensors, Mapping):
            raise StateError(f"{shown(tensors)} are no tensors of a state; start from initial_lanes()")
        found, wanted = {name: tensor.shape for name, tensor in tensors.items()}, self._shapes
        if lanes is not None:
            wanted = {name: torch.Size((shape[0], lanes, *shape[1:])) for name, shape in wanted.items()}
        if found != wanted:
            shapes, due = ({name: list(shape) for name, shape in these.items()} for these in (found, wanted))
            raise StateError(f"a state of the shapes {shapes}, but the model's are {due}; start from initial_state()")
        if other := next((name for name, tensor in tensors.items() if tensor.dtype != torch.float32), None):
            raise StateError(f"the state's {other} is {tensors[other].dtype}; states are always torch.float32")


def _lane_of(tensors: Mapping[str, Tensor], lane: int) -> dict[str, Tensor]:
    """One lane of a state's tensors, on its own: the others' memory can go."""
    return {name: tensor[:, lane].clone() for name, tensor in tensors.items()}


def _padded(tokens: Sequence[int], width: int) -> Tensor:
    """Tokens as one lane of a window: [1, width]."""
    if len(tokens) == width:
        return torch.tensor(tokens, dtype=torch.long).unsqueeze(0)
    padded = torch.zeros(1, width, dtype=torch.long)
    padded[0, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return padded


def _bad_layer(layer: int | None, where: str) -> str:
    found = "the model" if layer is None else f"layer {layer}"
    return f"{found} gives a NaN or an infinity at {where}; check it with `unspool model verify`, or load it as fp32"


def _bad_logits(scores: Tensor, end: int) -> str:
    """Name the first token whose scores are not finite; the last row is that of token `end` - 1."""
    rows = scores.reshape(-1, scores.shape[-1])
    bad = int((~rows.isfinite().all(dim=-1)).int().argmax())
    return _bad_head(f"for token {end - len(rows) + bad}")


def _bad_head(where: str) -> str:
    return f"the head gives a NaN or an infinity {where}; load the model as fp32"
