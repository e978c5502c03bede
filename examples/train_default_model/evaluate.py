"""How good an exported model is, read as users read it: through `rwkv_runtime`.

`python -m examples.train_default_model.evaluate MODEL --data DIR --prepared OUT/data` prints one JSON line: Spearman
correlation on STS-B dev, mean cosine to the teacher and bits per byte on documents that were held out. Training code
imports nothing of this file.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

import rwkv_runtime
from examples.train_default_model.prepare import HELD_OUT, TOKENIZER
from examples.train_default_model.shards import Sentence, read_shard
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from rwkv_runtime.tokenizers.bpe import BpeTokenizer

Floats = NDArray[np.float32]

SIMILARITY_DEV = "labelled/stsb-en.jsonl"
CONTEXT_TOKENS = 512


def isolated(model: Model, texts: Sequence[str]) -> Floats:
    """Vectors of texts that are each read alone, on one line with a blank in front: [n, E]."""
    return after(model, texts, model.initial_state())


def after(model: Model, texts: Sequence[str], state: State) -> Floats:
    """Vectors of texts that are each read from a state on: [n, E]."""
    found = []
    for text in texts:
        ids = model.tokenizer.encode(_line(text))
        found.append(_spans(model, ids, [(0, len(ids))], state))
    return np.concatenate(found)


def unrelated_states(model: Model, prepared: Path, tokens: int) -> tuple[State, State]:
    """The states after so many tokens of two held-out texts."""
    states = []
    for document in held_out_documents(prepared):
        read = model.tokenizer.encode("".join(text for text, _ in document))[:tokens]
        if len(read) == tokens:
            states.append(model.forward(read, model.initial_state(), logits="none").state)
        if len(states) == 2:
            return states[0], states[1]
    raise ValueError(f"fewer than two held-out documents of {prepared} have {tokens} tokens")


def static_only(model: Model, texts: Sequence[str]) -> Floats:
    """Vectors of texts from the static table alone: no recurrence, no gate."""
    head = model.embedding_head
    if head is None:
        raise ValueError("the model has no embedding head")
    rows = [head.static_vectors(model.tokenizer.encode(_line(text))).mean(0).numpy() for text in texts]
    return _unit(np.stack(rows))


def similarity_spearman(first: Floats, second: Floats, scores: Sequence[float]) -> float:
    """100 times the rank correlation of cosines with scores."""
    return 100 * float(spearmanr((first * second).sum(1), scores).statistic)


def held_out_documents(prepared: Path) -> Iterator[list[tuple[str, Sentence]]]:
    """The documents that were kept apart, each sentence with its text."""
    tokenizer = BpeTokenizer.from_file(prepared / TOKENIZER)
    for document in read_shard(prepared / HELD_OUT):
        yield [(tokenizer.decode(sentence.tokens.tolist()), sentence) for sentence in document]


def stream_measures(model: Model, document: Sequence[tuple[str, Sentence]], to_teacher: Floats) -> dict[str, float]:
    """Reads one document as a stream. Returns sums: cosines to the teacher and their number, bits and bytes."""
    ids = [model.tokenizer.encode(text) for text, _ in document]
    flat = [token for sentence in ids for token in sentence]
    ends = np.cumsum([len(sentence) for sentence in ids])
    wanted = [place for place, (_, sentence) in enumerate(document) if sentence.target is not None and ids[place]]
    spans = [(int(ends[place]) - len(ids[place]), int(ends[place])) for place in wanted]
    targets = [sentence.target for _, sentence in document if sentence.target is not None]
    output = model.forward(flat, model.initial_state(), logits="all")
    assert output.logits is not None
    nats = torch.nn.functional.cross_entropy(output.logits[:-1], torch.tensor(flat[1:]), reduction="sum")
    start = model.initial_state()
    vectors = _spans(model, flat, spans, start) @ to_teacher.T if spans else np.empty((0, 0), np.float32)
    cosines = [float(vector @ target) for vector, target in zip(vectors, targets, strict=False) if target is not None]
    text = "".join(text for text, _ in document)
    return {
        "cosine": sum(cosines),
        "sentences": len(cosines),
        "bits": float(nats) / math.log(2),
        "bytes": len(text.encode()),
    }


def evaluate(model: Model, data: Path | None, prepared: Path | None, documents: int) -> dict[str, float]:
    """All measures for which there is data."""
    found: dict[str, float] = {}
    if data is not None:
        rows = [json.loads(line) for line in (data / SIMILARITY_DEV).read_text("utf-8").splitlines()]
        scores = [row["score"] for row in rows]
        sides = [[row[side] for row in rows] for side in "ab"]
        for name, embed in (("stsb_dev", isolated), ("stsb_dev_static_only", static_only)):
            found[name] = similarity_spearman(embed(model, sides[0]), embed(model, sides[1]), scores)
        if prepared is not None:
            states = unrelated_states(model, prepared, CONTEXT_TOKENS)
            first, second = (after(model, texts, state) for texts, state in zip(sides, states, strict=True))
            found["stsb_dev_after_512"] = similarity_spearman(first, second, scores)
    if prepared is not None:
        head = model.embedding_head
        rotation = np.eye(384, dtype=np.float32) if head is None or head.rotation is None else head.rotation.numpy()
        sums = [
            stream_measures(model, document, rotation)
            for document in islice(held_out_documents(prepared), documents)
            if len(document) > 1
        ]
        total = {name: sum(one[name] for one in sums) for name in sums[0]}
        found["held_out_cosine"] = total["cosine"] / total["sentences"]
        found["bits_per_byte"] = total["bits"] / total["bytes"]
    return {name: round(value, 4) for name, value in found.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print the measures of a model folder."""
    parser = argparse.ArgumentParser(prog="evaluate")
    parser.add_argument("model", help="a folder with model.safetensors, or default")
    parser.add_argument("--data", type=Path, help="folder with labelled/stsb-en.jsonl")
    parser.add_argument("--prepared", type=Path, help="folder with the held-out documents and their tokenizer")
    parser.add_argument("--documents", type=int, default=1000, help="at most so many held-out documents")
    options = parser.parse_args(arguments)
    found = evaluate(rwkv_runtime.load(options.model), options.data, options.prepared, options.documents)
    print(json.dumps({"model": options.model} | found))
    return 0


def _line(text: str) -> str:
    return " " + " ".join(text.split())


def _spans(model: Model, tokens: list[int], spans: Sequence[tuple[int, int]], state: State) -> Floats:
    """Vectors of spans of what is read from a state on: [n, E]."""
    head = model.embedding_head
    if head is None:
        raise ValueError("the model has no embedding head")
    features = head.features(model.forward(tokens, state, logits="none"), tokens)
    sums = np.stack([features[begin:end].sum(0) for begin, end in spans])
    last = np.stack([features[end - 1] for _, end in spans])
    return head.finish(sums, last, np.array([end - begin for begin, end in spans], np.int64))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


if __name__ == "__main__":
    raise SystemExit(main())
