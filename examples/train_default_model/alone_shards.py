"""Texts that stand alone in the prepared folder: chosen once, then shards of what the teacher says of them.

Knows nothing of the student.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from examples.train_default_model.alone import PAIR_SETS, clauses, pair_texts, phrases, split_words
from examples.train_default_model.overlap import EvaluationText, WordHasher
from examples.train_default_model.profiles import Everyday
from examples.train_default_model.scenes import Scenes
from examples.train_default_model.shards import Floats, Sentence, write_shard
from examples.train_default_model.variants import replacements, variants
from examples.train_default_model.wordnet import LICENCE, definitions, examples, read_wordnet
from rwkv_runtime.tokenizers.bpe import BpeTokenizer

ALONE_TEXTS = "alone.json"
TEXTS_PER_SHARD = 10_000


@dataclass(frozen=True)
class AloneSources:
    """Where texts that stand alone come from: pair sets of `data`, words, phrases and clauses of training passages.

    Of `varied` of the clauses, two more are made each, with a word or two replaced. Of WordNet, if the folder
    with its files is given, as many definitions, examples and scenes as `everyday` says.
    Texts that share 13 words with one of `kept_apart` are left out, of pair sets and of WordNet.
    """

    data: Path
    passages: Sequence[str]
    kept_apart: Iterable[str]
    words: int
    phrases: int
    clauses: int = 0
    varied: int = 0
    wordnet: Path | None = None
    everyday: Everyday = field(default_factory=Everyday)


def write_alone_texts(folder: Path, tokenizer: BpeTokenizer, sources: AloneSources) -> int:
    """Choose the texts. Returns how many there are."""
    apart = EvaluationText(WordHasher(), sources.kept_apart)
    stated = clauses(sources.passages, sources.clauses) if sources.clauses else []
    found: dict[str, Any] = {
        "sets": [
            *({"file": one.file, "licence": one.licence} for one in PAIR_SETS),
            *([{"file": "wordnet", "licence": LICENCE}] if sources.wordnet else []),
        ],
        "texts": list(
            chain(
                pair_texts(sources.data, apart),
                split_words(sources.passages, tokenizer.encode, sources.words),
                phrases(sources.passages, sources.phrases),
                stated,
                variants(stated[: sources.varied], replacements(sources.passages[::3])) if sources.varied else (),
                (text for text in _everyday(sources) if not apart.touches(text)),
            )
        ),
    }
    temporary = folder / f"{ALONE_TEXTS}.tmp"
    temporary.write_text(json.dumps(found, ensure_ascii=False, indent=0), "utf-8")
    temporary.replace(folder / ALONE_TEXTS)
    return len(found["texts"])


def _everyday(sources: AloneSources) -> Iterator[str]:
    """What WordNet gives, if its files are there."""
    if sources.wordnet is None:
        return
    wordnet, wanted = read_wordnet(sources.wordnet), sources.everyday
    yield from definitions(wordnet, wanted.definitions)
    yield from examples(wordnet, wanted.examples)
    yield from Scenes(wordnet, sources.passages).some(wanted.scenes)


def write_alone_shards(
    folder: Path, tokenizer: BpeTokenizer, embed: Callable[[Sequence[str]], Floats], log: Callable[[str], None]
) -> None:
    """Ask the teacher for the chosen texts; shards that stand are left as they are."""
    texts: list[str] = json.loads((folder / ALONE_TEXTS).read_text("utf-8"))["texts"]
    for number, begin in enumerate(range(0, len(texts), TEXTS_PER_SHARD)):
        path = folder / f"alone-{number:03d}.parquet"
        if not path.exists():
            part = texts[begin : begin + TEXTS_PER_SHARD]
            write_shard(path, _single_sentences(part, embed(part), tokenizer))
            log(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def alone_shard_paths(folder: Path) -> list[Path]:
    """The shards that are there, in order."""
    return sorted(folder.glob("alone-*.parquet"))


def _single_sentences(texts: Sequence[str], targets: Floats, tokenizer: BpeTokenizer) -> Iterator[list[Sentence]]:
    for text, target in zip(texts, targets, strict=True):
        yield [Sentence(np.array(tokenizer.encode(" " + text), np.uint16), target=target)]
