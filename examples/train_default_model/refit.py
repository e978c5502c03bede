"""`python -m examples.train_default_model.refit --start MODEL --data DIR --out RUN`: a better head on the same network.

The vector head of a model (static table of tokens and of words, maps, perceptron) is fitted anew to the teacher's
vectors; the network and its tokenizer stay as they are, so an hour on one core is enough. Every step writes files in
OUT and is skipped where they stand: the same command again goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from examples.train_default_model.__main__ import log_line, stop_request
from examples.train_default_model.export import CONFIG, ROTATION_NAME, as_loaded, sha256_of, write_model
from examples.train_default_model.head_fit import CHECKPOINT, HeadFit
from examples.train_default_model.heads import SentenceHead
from examples.train_default_model.hidden import Readings, frozen_network, read_parts, write_parts
from examples.train_default_model.pool import Pool, joined_pools, read_pool
from examples.train_default_model.prepare import (
    ROTATION,
    TOKENIZER,
    Embed,
    prepare_targets,
    prepare_text,
    prepared_pool,
    shard_paths,
)
from examples.train_default_model.profiles import HEAD_PROFILES, HeadProfile
from examples.train_default_model.session import STATIC_TABLE
from examples.train_default_model.shards import Floats
from examples.train_default_model.static_table import VECTOR_LENGTH, Bags, bag, bags_of, train_table
from examples.train_default_model.teacher import MiniLM
from examples.train_default_model.words import WORD_TOKENS, WORD_VECTORS, frequent_words, with_words
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.identity import find
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.weights.row_scaled import SUFFIX, split
from rwkv_runtime.words import NONE, Words

HEAD_PREFIX = "embed_head."
STATIC_VECTORS = "embed_head.static.weight"
GATE = ("gate.weight", "gate.bias")
OF_THE_NETWORK = ("w_mean.weight", "w_last.weight", "mlp.down.weight")
SCALED = ("static.weight", *OF_THE_NETWORK)
SCALE_SAMPLE = 1024
WORDS = "words.npy"


def main(arguments: list[str] | None = None) -> int:
    """Run the steps whose files are missing; returns the exit code."""
    parser = argparse.ArgumentParser(prog="refit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--start", default="default", help="the model whose network stays: a folder, or default")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/text and train/pairs")
    parser.add_argument("--wordnet", type=Path, help="folder with data.noun and so on: adds everyday statements")
    parser.add_argument("--out", type=Path, required=True, help="folder for prepared data, checkpoints, log, weights")
    parser.add_argument(
        "--prepared",
        type=Path,
        nargs="*",
        default=[],
        help="OUT/data of earlier trainings, whose shards to use as well",
    )
    parser.add_argument("--profile", choices=sorted(HEAD_PROFILES), default="head")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        profile = HEAD_PROFILES[options.profile]
        folders = Folders(options.data, options.out, tuple(options.prepared), options.wordnet)
        refit(options.start, folders, profile, teacher(), stop_request())
    except (FileNotFoundError, ImportError, RuntimeError, RwkvError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


@dataclass(frozen=True)
class Folders:
    """`data` is read, `out` written.

    `others` were prepared before, for other models; what the teacher said there is learned as well. `wordnet` holds the
    files of WordNet.
    """

    data: Path
    out: Path
    others: Sequence[Path] = ()
    wordnet: Path | None = None


def refit(
    start: str, folders: Folders, profile: HeadProfile, embed: Embed, until: Callable[[], bool] = lambda: False
) -> None:
    """All steps, from the data folder to OUT/model, which is not written if `until` ends the fit early.

    Raises RuntimeError if the model is no RWKV-7 with a head such as the shipped one's.
    """
    weights, out = find(start).weights_path, folders.out
    tensors = as_loaded(load_file(weights))
    network = frozen_network(tensors)
    prepare(weights, tensors, folders, profile, embed)
    pool = read_all(out / "data", folders.others)
    write_parts(out / "hidden", network, pool, profile, log_line)
    vocabulary = len(network.embed_head.static.weight)
    vectors, word_tokens = vectors_and_tokens_of_words(tensors, out, pool, profile.words)
    words = Words.of(vectors, word_tokens, vocabulary)
    bags = with_words(bags_of(pool), words, vocabulary)
    head = with_word_rows(with_perceptron(network.embed_head, profile.mlp), words.weight)
    begun = with_whole_gate(evened_start(head, bags), gate_share(weights))
    head.load_state_dict(begun | {"static.weight": table_fitted_alone(begun, out / STATIC_TABLE, bags, profile)})
    readings = with_ends_of_words(read_parts(out / "hidden"), words, vocabulary)
    fit = HeadFit(head.requires_grad_(), readings, pool.targets, profile)
    if (out / CHECKPOINT).exists():
        fit.restore(out / CHECKPOINT)
        log_line(f"going on from step {fit.step}")
    fit.run(out, until)
    if fit.step == profile.steps:
        fitted = stored_apart(shrunk(fit.head.state_dict(), profile), vocabulary)
        export(weights, fitted, word_tokens, out / "model", fit.step, profile.gate_share)


def prepare(weights: Path, tensors: Mapping[str, Tensor], folders: Folders, profile: HeadProfile, embed: Embed) -> None:
    """Text, the teacher's vectors of sentences, and those of texts that stand alone, with the model's own tokenizer.

    The vectors stay in the space of the model: its rotation is taken over.
    """
    folder = folders.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights.with_name(TOKENIZER), folder / TOKENIZER)
    np.save(folder / ROTATION, tensors[ROTATION_NAME].numpy())
    prepare_text(folders.data, folder, profile.data, log_line, folders.wordnet)
    prepare_targets(folder, profile.data, embed, log_line)


def teacher() -> Embed:
    """The installed teacher, loaded when it is first asked."""
    loaded: list[Embed] = []

    def embed(texts: Sequence[str]) -> Floats:
        if not loaded:
            loaded.append(MiniLM().vectors)
        return loaded[0](texts)

    return embed


def read_all(folder: Path, others: Sequence[Path] = ()) -> Pool:
    """Everything that the teacher was asked for, here and in other prepared folders, whatever their tokenizers."""
    tokenizer, rotation = BpeTokenizer.from_file(folder / TOKENIZER), np.load(folder / ROTATION)
    pool = prepared_pool(folder, tokenizer, rotation)
    for other in others:
        before = BpeTokenizer.from_file(other / TOKENIZER)
        pool = joined_pools(pool, read_pool(shard_paths(other), tokenizer, rotation, before))
    return pool


def with_perceptron(head: SentenceHead, hidden: int) -> SentenceHead:
    """The head, with a perceptron of so many hidden numbers that adds nothing yet, if it has none."""
    if head.mlp is not None:
        return head
    torch.manual_seed(0)
    vocabulary, size = head.static.weight.shape
    wider = SentenceHead(vocabulary, len(head.ln.weight), size, hidden)
    wider.load_state_dict(wider.state_dict() | head.state_dict())
    return wider.requires_grad_(requires_grad=False)


def vectors_and_tokens_of_words(
    tensors: Mapping[str, Tensor], out: Path, pool: Pool, count: int
) -> tuple[Tensor, Tensor]:
    """The words of a model, with the vectors that it has for them; else the most frequent ones, with vectors of zeros.

    Their tokens are kept in a file.
    """
    if WORD_TOKENS in tensors:
        return tensors[WORD_VECTORS].float(), tensors[WORD_TOKENS]
    if not (out / WORDS).exists():
        tokenizer = BpeTokenizer.from_file(out / "data" / TOKENIZER)
        np.save(out / WORDS, frequent_words((tokens for tokens, _ in pool.alone), tokenizer, count))
    tokens = torch.from_numpy(np.load(out / WORDS))
    return torch.zeros(len(tokens), pool.targets.shape[1]), tokens


def with_word_rows(head: SentenceHead, vectors: Tensor) -> SentenceHead:
    """The head with the vectors of words [n, E] behind those of the tokens, in one table."""
    known = head.state_dict()
    table = torch.cat([known["static.weight"], vectors])
    hidden = 0 if head.mlp is None else len(head.mlp.up.bias)
    wider = SentenceHead(len(table), len(head.ln.weight), table.shape[1], hidden)
    wider.load_state_dict(known | {"static.weight": table})
    return wider.requires_grad_(requires_grad=False)


def with_ends_of_words(readings: Readings, words: Words, vocabulary: int) -> Readings:
    """Readings that say which word ends at each token, as a row of the head's table."""
    ended = torch.from_numpy(words.rows((), readings.tokens.tolist()))
    return replace(readings, words=torch.where(ended == NONE, ended, ended + vocabulary))


def stored_apart(head: Mapping[str, Tensor], vocabulary: int) -> dict[str, Tensor]:
    """The head with the vectors of tokens and those of words in tensors of their own, as weights files have them."""
    table = head["static.weight"]
    return {**head, "static.weight": table[:vocabulary], "words.weight": table[vocabulary:]}


def evened_start(head: SentenceHead, bags: Bags) -> dict[str, Tensor]:
    """The head's parameters, table and maps scaled so that vectors from the table have a mean length of 8.

    The vectors' directions stay as they are; a step of the optimiser is as large for every model.
    """
    sample = range(min(SCALE_SAMPLE, len(bags.rows)))
    factor = VECTOR_LENGTH / bag(head.static.weight, bags, sample).norm(dim=-1).mean()
    return {name: one * factor if name in SCALED else one.clone() for name, one in head.state_dict().items()}


def table_fitted_alone(begun: Mapping[str, Tensor], path: Path, bags: Bags, profile: HeadProfile) -> Tensor:
    """A static table fitted without the network, from the one that there is; kept in a file."""
    if not path.exists():
        table = begun["static.weight"].numpy()
        rate = profile.first_table_rate
        np.save(path, train_table(table, bags, profile.table_steps, profile.batch, learning_rate=rate))
    return torch.from_numpy(np.load(path))


def gate_share(weights: Path) -> float:
    """What part of its gate a model has kept: that of a head that was fitted before, else all of it."""
    described = json.loads(weights.with_name(CONFIG).read_text("utf-8"))
    return float(described.get("head", {}).get("gate_share", 1.0))


def with_whole_gate(head: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The head with the gate of which it has kept a part."""
    return {name: one / share if name in GATE else one for name, one in head.items()}


def shrunk(head: Mapping[str, Tensor], profile: HeadProfile) -> dict[str, Tensor]:
    """The head with less weight on what the network says: of that, less holds for texts unlike those fitted on."""
    shares = dict.fromkeys(GATE, profile.gate_share) | dict.fromkeys(OF_THE_NETWORK, profile.network_share)
    return {name: shares.get(name, 1.0) * one for name, one in head.items()}


def export(
    weights: Path,
    head: Mapping[str, Tensor],
    word_tokens: Tensor,
    folder: Path,
    steps: int,
    kept_of_gate: float,
) -> None:
    """Write the model with another head: weights in the types that they had, tokenizer, values to test against.

    The vectors of words are stored as those of tokens are.
    """
    tensors = load_file(weights)
    scaled = {name for name in tensors if name + SUFFIX in tensors}
    if STATIC_VECTORS in scaled:
        scaled.add(WORD_VECTORS)
    for name, tensor in ((HEAD_PREFIX + name, tensor) for name, tensor in head.items()):
        if name in scaled:
            tensors[name], tensors[name + SUFFIX] = split(tensor)
        else:
            kept = tensors[name].dtype if name in tensors else torch.bfloat16
            tensors[name] = tensor.to(kept).contiguous()
    tensors[WORD_TOKENS] = word_tokens
    described = json.loads(weights.with_name(CONFIG).read_text("utf-8"))
    described["head"] = {
        "fitted on the network of": sha256_of(weights),
        "steps": steps,
        "gate_share": kept_of_gate,
    }
    write_model(folder, tensors, weights.with_name(TOKENIZER), described)


if __name__ == "__main__":
    raise SystemExit(main())
