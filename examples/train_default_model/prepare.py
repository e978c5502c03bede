"""From a data folder to what training reads: a tokenizer, token shards with targets, vectors of the tokens, a manifest.

Every step writes a file and is skipped where the file stands, so a stopped preparation goes on. Knows nothing of the
student.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.train_default_model.alone_shards import (
    ALONE_TEXTS,
    AloneSources,
    alone_shard_paths,
    write_alone_shards,
    write_alone_texts,
)
from examples.train_default_model.corpus import Excerpt, excerpts, read_excerpts, write_excerpts
from examples.train_default_model.documents import read_documents
from examples.train_default_model.evaluation_text import evaluation_files, evaluation_texts
from examples.train_default_model.overlap import EvaluationText, NearDuplicates, WordHasher
from examples.train_default_model.pool import Pool, joined_pools, read_pool
from examples.train_default_model.profiles import DataProfile
from examples.train_default_model.shards import read_shard, write_shard
from examples.train_default_model.targets import Taught, documents_with_targets
from examples.train_default_model.vocabulary import train_tokenizer
from examples.train_default_model.wordnet import require_wordnet
from rwkv_runtime.tokenizers.bpe import BpeTokenizer

Floats = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Floats]

EXCERPTS = "excerpts.jsonl.zst"
TOKENIZER = "tokenizer.json"
PIECES = "pieces.npy"
ROTATION = "rotation.npy"
HELD_OUT = "held-out.parquet"
MANIFEST = "manifest.json"
ROTATION_SAMPLE = 60_000
_NOTHING = Taught(longest_words=0, group_every=0)


def prepare_text(
    data: Path, folder: Path, profile: DataProfile, log: Callable[[str], None], wordnet: Path | None = None
) -> None:
    """Make what needs no teacher: the text that may be trained on, its manifest, and the tokenizer.

    With the folder of WordNet's files, everyday statements are among the texts that stand alone.
    """
    if wordnet is not None:
        require_wordnet(wordnet)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / EXCERPTS).exists():
        _write_corpus(data, folder, profile)
        log(f"{EXCERPTS}: {(folder / EXCERPTS).stat().st_size / 1e6:.2f} MB")
    if not (folder / TOKENIZER).exists():
        texts = ("".join(excerpt.passages[::2]) for excerpt in _training(folder))
        train_tokenizer(texts, profile.vocabulary, folder / TOKENIZER)
        log(f"{TOKENIZER}: {(folder / TOKENIZER).stat().st_size / 1e6:.2f} MB")
    if not (folder / ALONE_TEXTS).exists():
        count = _write_alone_texts(data, folder, profile, wordnet)
        log(f"{ALONE_TEXTS}: {count:,} texts")


def prepare_targets(folder: Path, profile: DataProfile, embed: Embed, log: Callable[[str], None]) -> None:
    """Make what the teacher is asked for: vectors of the tokens, token shards with targets, the rotation."""
    tokenizer = BpeTokenizer.from_file(folder / TOKENIZER)
    if not (folder / PIECES).exists():
        ids = range(tokenizer.vocab_size)
        pieces = [tokenizer.token_bytes(token).decode("utf-8", "replace").strip() or "." for token in ids]
        np.save(folder / PIECES, embed(pieces).astype(np.float16))
        log(f"{PIECES}: {len(pieces)} vectors")
    write_alone_shards(folder, tokenizer, embed, log)
    _write_shards(folder, profile, tokenizer, embed, log)
    if not (folder / ROTATION).exists():
        np.save(folder / ROTATION, rotation(shard_paths(folder)))


def has_text(folder: Path) -> bool:
    """Whether what needs no teacher is there: the texts that stand alone are written last."""
    return (folder / ALONE_TEXTS).exists()


def is_prepared(folder: Path) -> bool:
    """Whether nothing is missing: the rotation is written last."""
    return (folder / ROTATION).exists()


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard stands."""
    return folder / f"shard-{number:03d}.parquet"


def text_path(folder: Path, number: int) -> Path:
    """Where a shard without targets stands: text whose next tokens are learned, which costs no teacher."""
    return folder / f"text-{number:03d}.parquet"


def shard_paths(folder: Path) -> list[Path]:
    """The shards that are there, in order."""
    return sorted(folder.glob("shard-*.parquet"))


def prepared_pool(folder: Path, tokenizer: BpeTokenizer, axes: Floats, shards: int | None = None) -> Pool:
    """What is learned from: texts that stand alone, then the first so many shards, or all, then text without targets.

    In this order, so that a run that goes on with more shards finds every target where it was.
    """
    alone = replace(read_pool(alone_shard_paths(folder), tokenizer, axes), documents=())
    paths = shard_paths(folder)[:shards] + sorted(folder.glob("text-*.parquet"))
    return joined_pools(alone, read_pool(paths, tokenizer, axes))


def rotation(shards: Sequence[Path]) -> Floats:
    """The teacher's principal axes, [384, 384]: v @ rotation has its energy in front, and keeps every cosine."""
    targets = (
        sentence.target
        for path in shards
        for document in read_shard(path)
        for sentence in document
        if sentence.target is not None
    )
    vectors = np.stack(list(islice(targets, ROTATION_SAMPLE)))
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    return np.ascontiguousarray(axes[:, ::-1]).astype(np.float32)


def _write_corpus(data: Path, folder: Path, profile: DataProfile) -> None:
    hasher = WordHasher()
    evaluation = EvaluationText(hasher, evaluation_texts(data))
    found = excerpts(read_documents(data), NearDuplicates(hasher), evaluation, profile.limits)
    temporary = folder / f"{EXCERPTS}.tmp"
    write_excerpts(temporary, found)
    manifest = {
        "evaluation_files": [path.relative_to(data).as_posix() for path in evaluation_files(data)],
        "evaluation_13_grams": len(evaluation),
        "documents": [
            {"id": one.id, "source": one.source, "licence": one.licence, "held_out": one.held_out}
            for one in read_excerpts(temporary)
        ],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=0), "utf-8")
    temporary.replace(folder / EXCERPTS)


def _write_alone_texts(data: Path, folder: Path, profile: DataProfile, wordnet: Path | None) -> int:
    held_out = (passage for one in read_excerpts(folder / EXCERPTS) if one.held_out for passage in one.passages)
    sources = AloneSources(
        data=data,
        passages=[passage for excerpt in _training(folder) for passage in excerpt.passages],
        kept_apart=chain(evaluation_texts(data), held_out),
        words=profile.words,
        phrases=profile.phrases,
        clauses=profile.clauses,
        varied=profile.varied,
        wordnet=wordnet,
        everyday=profile.everyday,
    )
    return write_alone_texts(folder, BpeTokenizer.from_file(folder / TOKENIZER), sources)


def _write_shards(
    folder: Path, profile: DataProfile, tokenizer: BpeTokenizer, embed: Embed, log: Callable[[str], None]
) -> None:
    if not (folder / HELD_OUT).exists():
        apart = (excerpt for excerpt in read_excerpts(folder / EXCERPTS) if excerpt.held_out)
        texts = ["".join(excerpt.passages[: profile.passages_per_stretch]) for excerpt in apart]
        write_shard(folder / HELD_OUT, documents_with_targets(texts, tokenizer.encode, embed, Taught()))
        log(f"{HELD_OUT}: {len(texts)} documents")
    stretches = _stretches(folder, profile)
    begin = profile.shards * profile.shard_stretches
    parts = [(text_path, stretches[begin:], profile.text_shards, _NOTHING)]
    parts += [(shard_path, stretches[:begin], profile.shards, profile.taught)]
    for path_of, chosen, count, taught in parts:
        for number in range(count):
            texts = chosen[number * profile.shard_stretches :][: profile.shard_stretches]
            path = path_of(folder, number)
            if texts and not path.exists():
                write_shard(path, documents_with_targets(texts, tokenizer.encode, embed, taught))
                log(f"{path.name}: {len(texts)} stretches, {path.stat().st_size / 1e6:.2f} MB")


def _stretches(folder: Path, profile: DataProfile) -> list[str]:
    """The training text in stretches of so many passages, in an order in which any part is a sample of the whole.

    Taken document by document, long ones would hardly be met: the first shards would be without novels and meetings.
    """
    length = profile.passages_per_stretch
    found = [
        "".join(excerpt.passages[start : start + length])
        for excerpt in _training(folder)
        for start in range(0, len(excerpt.passages), length)
    ]
    random.Random(0).shuffle(found)
    return found


def _training(folder: Path) -> Iterator[Excerpt]:
    return (excerpt for excerpt in read_excerpts(folder / EXCERPTS) if not excerpt.held_out)
