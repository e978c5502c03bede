"""What a model must give, computed in float64 by the code that trained it: the values of reference.safetensors.

This is another program than `rwkv_runtime`, so a test that compares the two is one of both. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from examples.train_default_model.model import Student
from examples.train_default_model.profiles import ModelProfile
from examples.train_default_model.sentences import sentences
from examples.train_default_model.wkv import kernel
from examples.train_default_model.words import WORD_TOKENS, WORD_VECTORS
from rwkv_runtime.tokenizers.bpe import BpeTokenizer

DOCUMENT = (
    "The harbour was quiet in the morning. Two fishermen mended a net by the wall, and a dog slept at their feet.\n\n"
    "By noon the wind had turned to the north. Boats that had left at dawn came back one after another; their crews "
    "spoke of high waves and of a lighthouse that nobody had lit. What had happened to its keeper?\n\n"
    "Section 3. The lessee shall pay $1,200.50 on the first day of each month.\n"
)
ALONE = ("A child is riding a horse.", "The committee approved the budget for 2024.", "Naïve café owners disagree.")
PROMPT = "The history of the city begins in"


def reference_values(
    tensors: Mapping[str, Tensor], profile: ModelProfile, tokenizer: BpeTokenizer
) -> dict[str, Tensor]:
    """Vectors of the sentences of a document and of sentences alone, the residual stream, logits and the state."""
    network = Student(profile, tokenizer.vocab_size, kernel("recurrent"), torch.float64).double()
    network.load_state_dict({name: tensors[name].double() for name in network.state_dict()})
    words = _Words.of(tensors)
    with torch.inference_mode():
        found = _document(network, words, tokenizer) | _alone(network, words, tokenizer) | _prompt(network, tokenizer)
    return {name: (value.float() if value.is_floating_point() else value).contiguous() for name, value in found.items()}


@dataclass(frozen=True)
class _Words:
    """The words of several tokens that have a vector of their own: which row of `table` [n, E] each is."""

    rows: Mapping[tuple[int, ...], int]
    table: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> _Words:
        if WORD_TOKENS not in tensors:
            return cls({}, torch.empty(0))
        words = [tuple(token for token in row if token >= 0) for row in tensors[WORD_TOKENS].tolist()]
        return cls({word: row for row, word in enumerate(words)}, tensors[WORD_VECTORS].double())

    def ends(self, tokens: list[int]) -> Iterator[tuple[int, int]]:
        """Where a word ends, and which: the longest, if there are several."""
        longest = max(map(len, self.rows), default=0)
        for end in range(len(tokens)):
            for begin in range(max(0, end + 1 - longest), end):
                word = self.rows.get(tuple(tokens[begin : end + 1]))
                if word is not None:
                    yield end, word
                    break


def _read(network: Student, tokens: list[int]) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    one = torch.tensor([tokens])
    residual, state = network(one, torch.ones(one.shape, dtype=torch.float64), network.initial_state(1))
    return residual, state


def _vectors(network: Student, words: _Words, residual: Tensor, tokens: list[int], spans: Tensor) -> Tensor:
    rows = torch.cat([torch.zeros(len(spans), 1, dtype=torch.long), spans], 1)
    static = network.embed_head.static(torch.tensor([tokens]))
    for end, word in words.ends(tokens):
        static[0, end] += words.table[word]
    return F.normalize(network.embed_head.with_static(residual, static, rows), dim=-1)


def _document(network: Student, words: _Words, tokenizer: BpeTokenizer) -> dict[str, Tensor]:
    ids = [tokenizer.encode(sentence) for sentence in sentences(DOCUMENT)]
    tokens = [token for sentence in ids for token in sentence]
    spans = torch.tensor(list(pairwise(accumulate(map(len, ids), initial=0))))
    residual, _ = _read(network, tokens)
    return {
        "doc_ids": torch.tensor(tokens),
        "doc_spans": spans,
        "stream": _vectors(network, words, residual, tokens, spans),
        "final_hidden_doc": residual[0],
    }


def _alone(network: Student, words: _Words, tokenizer: BpeTokenizer) -> dict[str, Tensor]:
    found, vectors = {}, []
    for row, text in enumerate(ALONE):
        ids = tokenizer.encode(" " + text)
        found[f"isolated_ids.{row}"] = torch.tensor(ids)
        vectors.append(_vectors(network, words, _read(network, ids)[0], ids, torch.tensor([[0, len(ids)]]))[0])
    return found | {"isolated": torch.stack(vectors)}


def _prompt(network: Student, tokenizer: BpeTokenizer) -> dict[str, Tensor]:
    ids = tokenizer.encode(PROMPT)
    residual, state = _read(network, ids)
    parts = [torch.stack([layer[part][0] for layer in state]) for part in range(3)]
    return {
        "prompt_ids": torch.tensor(ids),
        "prompt_logits": network.logits(residual)[0],
        "state_att_prev_after_prompt": parts[0],
        "state_wkv_after_prompt": parts[1],
        "state_ffn_prev_after_prompt": parts[2],
    }
