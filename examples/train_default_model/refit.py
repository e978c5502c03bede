"""`python -m examples.train_default_model.refit --start MODEL --data DIR --out RUN`: a better head on the same network.

The vector head of a model (static table, gate, maps) is fitted anew to the teacher's vectors; the network and its
tokenizer stay as they are, so an hour on one core is enough. Every step writes files in OUT and is skipped where they
stand: the same command again goes on after a stop.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from examples.train_default_model.__main__ import log_line, stop_request
from examples.train_default_model.alone import PAIR_SETS, pair_texts, phrases, split_words
from examples.train_default_model.corpus import read_excerpts
from examples.train_default_model.evaluation_text import evaluation_texts
from examples.train_default_model.export import CONFIG, REFERENCE, ROTATION_NAME, WEIGHTS
from examples.train_default_model.head_fit import CHECKPOINT, HeadFit
from examples.train_default_model.heads import SentenceHead
from examples.train_default_model.hidden import frozen_network, model_profile, read_parts, write_parts
from examples.train_default_model.overlap import EvaluationText, WordHasher
from examples.train_default_model.pool import Pool, read_pool, with_alone
from examples.train_default_model.prepare import (
    EXCERPTS,
    PIECES,
    ROTATION,
    TOKENIZER,
    Embed,
    prepare_targets,
    prepare_text,
    shard_paths,
)
from examples.train_default_model.profiles import HEAD_PROFILES, HeadProfile
from examples.train_default_model.reference import reference_values
from examples.train_default_model.shards import Floats, Sentence, write_shard
from examples.train_default_model.static_table import initial_table, token_frequencies, train_table
from examples.train_default_model.teacher import MiniLM
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.identity import find
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.weights.deferred import made
from rwkv_runtime.weights.row_scaled import joined

ALONE_TEXTS = "alone.json"
ALONE_PER_FILE = 10_000
STATIC_TABLE = "static.npy"
HEAD_PREFIX = "embed_head."


def main(arguments: list[str] | None = None) -> int:
    """Run the steps whose files are missing; returns the exit code."""
    parser = argparse.ArgumentParser(prog="refit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--start", default="default", help="the model whose network stays: a folder, or default")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/text and train/pairs")
    parser.add_argument("--out", type=Path, required=True, help="folder for prepared data, checkpoints, log, weights")
    parser.add_argument("--profile", choices=sorted(HEAD_PROFILES), default="head")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        profile = HEAD_PROFILES[options.profile]
        refit(options.start, options.data, options.out, profile, teacher(), stop_request())
    except (FileNotFoundError, ImportError, RuntimeError, RwkvError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def refit(
    start: str, data: Path, out: Path, profile: HeadProfile, embed: Embed, until: Callable[[], bool] = lambda: False
) -> None:
    """All steps, from the data folder to OUT/model, which is not written if `until` ends the fit early.

    Raises RuntimeError if the model is no RWKV-7 with a head such as the shipped one's.
    """
    weights = find(start).weights_path
    tensors = {name: made(tensor) for name, tensor in joined(load_file(weights)).items()}
    network = frozen_network(tensors)
    prepare(weights, tensors, data, out / "data", profile, embed)
    pool = read_all(out / "data")
    write_parts(out / "hidden", network, pool, profile, log_line)
    fit = HeadFit(network.embed_head, read_parts(out / "hidden"), pool.targets, profile)
    fit.head.requires_grad_()
    if (out / CHECKPOINT).exists():
        fit.restore(out / CHECKPOINT)
        log_line(f"going on from step {fit.step}")
    else:
        start_table(fit.head, out / "data", pool, profile)
    fit.run(out, until)
    if fit.step == profile.steps:
        export(weights, fit.head, out / "model", fit.step)


def prepare(
    weights: Path, tensors: Mapping[str, Tensor], data: Path, folder: Path, profile: HeadProfile, embed: Embed
) -> None:
    """Text, the teacher's vectors of sentences, and those of texts that stand alone, with the model's own tokenizer.

    The vectors stay in the space of the model: its rotation is taken over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights.with_name(TOKENIZER), folder / TOKENIZER)
    np.save(folder / ROTATION, tensors[ROTATION_NAME].numpy())
    prepare_text(data, folder, profile.data, log_line)
    prepare_targets(folder, profile.data, embed, log_line)
    if not (folder / ALONE_TEXTS).exists():
        _write_alone_texts(data, folder, profile)
    _write_alone_shards(folder, embed)


def teacher() -> Embed:
    """The installed teacher, loaded when it is first asked."""
    loaded: list[Embed] = []

    def embed(texts: Sequence[str]) -> Floats:
        if not loaded:
            loaded.append(MiniLM().vectors)
        return loaded[0](texts)

    return embed


def read_all(folder: Path) -> Pool:
    """Everything that the teacher was asked for."""
    tokenizer, rotation = BpeTokenizer.from_file(folder / TOKENIZER), np.load(folder / ROTATION)
    sentences = read_pool(shard_paths(folder), tokenizer, rotation)
    return with_alone(sentences, read_pool(sorted(folder.glob("alone-*.parquet")), tokenizer, rotation))


def start_table(head: SentenceHead, folder: Path, pool: Pool, profile: HeadProfile) -> None:
    """Give the head a static table that was fitted alone, from the teacher's own vectors of the tokens."""
    path = folder / STATIC_TABLE
    if not path.exists():
        pieces = np.load(folder / PIECES).astype(np.float32) @ np.load(folder / ROTATION)
        start = initial_table(pieces, token_frequencies(pool, len(pieces)))
        np.save(path, train_table(start, pool, profile.table_steps, profile.batch))
    with torch.no_grad():
        head.static.weight.copy_(torch.from_numpy(np.load(path)))


def export(weights: Path, head: SentenceHead, folder: Path, steps: int) -> None:
    """Write the model with another head: weights in the types that they had, tokenizer, values to test against."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = load_file(weights)
    fitted = {HEAD_PREFIX + name: tensor for name, tensor in head.state_dict().items()}
    tensors = {name: fitted.get(name, tensor).to(tensor.dtype).contiguous() for name, tensor in stored.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(weights.with_name(TOKENIZER), folder / TOKENIZER)
    tokenizer = BpeTokenizer.from_file(folder / TOKENIZER)
    save_file(reference_values(tensors, model_profile(tensors), tokenizer), folder / REFERENCE)
    described = json.loads(weights.with_name(CONFIG).read_text("utf-8"))
    described["head"] = {"fitted on the network of": _sha256(weights), "steps": steps}
    described["sha256"] = {name: _sha256(folder / name) for name in (WEIGHTS, TOKENIZER, REFERENCE)}
    (folder / CONFIG).write_text(json.dumps(described, indent=1) + "\n", "utf-8")


def _write_alone_texts(data: Path, folder: Path, profile: HeadProfile) -> None:
    tokenizer = BpeTokenizer.from_file(folder / TOKENIZER)
    evaluation = EvaluationText(WordHasher(), evaluation_texts(data))
    passages = [part for one in read_excerpts(folder / EXCERPTS) if not one.held_out for part in one.passages]
    found: dict[str, Any] = {
        "sets": [{"file": one.file, "licence": one.licence} for one in PAIR_SETS],
        "texts": list(
            chain(
                pair_texts(data, evaluation),
                split_words(passages, tokenizer.encode, profile.words),
                phrases(passages, profile.phrases),
            )
        ),
    }
    temporary = folder / f"{ALONE_TEXTS}.tmp"
    temporary.write_text(json.dumps(found, ensure_ascii=False, indent=0), "utf-8")
    temporary.replace(folder / ALONE_TEXTS)
    log_line(f"{ALONE_TEXTS}: {len(found['texts']):,} texts")


def _write_alone_shards(folder: Path, embed: Embed) -> None:
    tokenizer = BpeTokenizer.from_file(folder / TOKENIZER)
    texts: list[str] = json.loads((folder / ALONE_TEXTS).read_text("utf-8"))["texts"]
    for number, begin in enumerate(range(0, len(texts), ALONE_PER_FILE)):
        path = folder / f"alone-{number:03d}.parquet"
        if not path.exists():
            write_shard(path, _single_sentences(texts[begin : begin + ALONE_PER_FILE], tokenizer, embed))
            log_line(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def _single_sentences(texts: Sequence[str], tokenizer: BpeTokenizer, embed: Embed) -> Iterator[list[Sentence]]:
    for text, target in zip(texts, embed(texts), strict=True):
        yield [Sentence(np.array(tokenizer.encode(" " + text), np.uint16), target=target)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
