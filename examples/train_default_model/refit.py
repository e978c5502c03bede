"""`python -m examples.train_default_model.refit --start MODEL --data DIR --out RUN`: a better head on the same network.

The vector head of a model (static table, maps, perceptron) is fitted anew to the teacher's vectors; the network
and its tokenizer stay as they are, so an hour on one core is enough. Every step writes files in OUT and is skipped
where they stand: the same command again goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from examples.train_default_model.__main__ import log_line, stop_request
from examples.train_default_model.export import CONFIG, REFERENCE, ROTATION_NAME, WEIGHTS, as_loaded, sha256_of
from examples.train_default_model.head_fit import CHECKPOINT, HeadFit
from examples.train_default_model.heads import SentenceHead
from examples.train_default_model.hidden import frozen_network, model_profile, read_parts, write_parts
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
from examples.train_default_model.reference import reference_values
from examples.train_default_model.session import STATIC_TABLE
from examples.train_default_model.shards import Floats
from examples.train_default_model.static_table import VECTOR_LENGTH, bag, train_table
from examples.train_default_model.teacher import MiniLM
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.identity import find
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.weights.row_scaled import SUFFIX, split

HEAD_PREFIX = "embed_head."
GATE = ("gate.weight", "gate.bias")
OF_THE_NETWORK = ("w_mean.weight", "w_last.weight", "mlp.down.weight")
SCALED = ("static.weight", *OF_THE_NETWORK)
SCALE_SAMPLE = 1024


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
    head = with_perceptron(network.embed_head, profile.mlp)
    begun = with_whole_gate(evened_start(head, pool), gate_share(weights))
    head.load_state_dict(begun | {"static.weight": table_fitted_alone(begun, out / STATIC_TABLE, pool, profile)})
    fit = HeadFit(head.requires_grad_(), read_parts(out / "hidden"), pool.targets, profile)
    if (out / CHECKPOINT).exists():
        fit.restore(out / CHECKPOINT)
        log_line(f"going on from step {fit.step}")
    fit.run(out, until)
    if fit.step == profile.steps:
        export(weights, shrunk(fit.head.state_dict(), profile), out / "model", fit.step, profile.gate_share)


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


def evened_start(head: SentenceHead, pool: Pool) -> dict[str, Tensor]:
    """The head's parameters, table and maps scaled so that vectors from the table have a mean length of 8.

    The vectors' directions stay as they are; a step of the optimiser is as large for every model.
    """
    sample = [tokens for tokens, _ in pool.alone[:SCALE_SAMPLE]]
    factor = VECTOR_LENGTH / bag(head.static.weight, sample).norm(dim=-1).mean()
    return {name: one * factor if name in SCALED else one.clone() for name, one in head.state_dict().items()}


def table_fitted_alone(begun: Mapping[str, Tensor], path: Path, pool: Pool, profile: HeadProfile) -> Tensor:
    """A static table fitted without the network, from the one that there is; kept in a file."""
    if not path.exists():
        table = begun["static.weight"].numpy()
        rate = profile.first_table_rate
        np.save(path, train_table(table, pool, profile.table_steps, profile.batch, learning_rate=rate))
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


def export(weights: Path, head: Mapping[str, Tensor], folder: Path, steps: int, kept_of_gate: float) -> None:
    """Write the model with another head: weights in the types that they had, tokenizer, values to test against."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = load_file(weights)
    for name, tensor in ((HEAD_PREFIX + name, tensor) for name, tensor in head.items()):
        if name + SUFFIX in tensors:
            tensors[name], tensors[name + SUFFIX] = split(tensor)
        else:
            kept = tensors[name].dtype if name in tensors else torch.bfloat16
            tensors[name] = tensor.to(kept).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(weights.with_name(TOKENIZER), folder / TOKENIZER)
    tokenizer = BpeTokenizer.from_file(folder / TOKENIZER)
    loaded = as_loaded(tensors)
    save_file(reference_values(loaded, model_profile(loaded), tokenizer), folder / REFERENCE)
    described = json.loads(weights.with_name(CONFIG).read_text("utf-8"))
    described["head"] = {
        "fitted on the network of": sha256_of(weights),
        "steps": steps,
        "gate_share": kept_of_gate,
    }
    described["sha256"] = {name: sha256_of(folder / name) for name in (WEIGHTS, TOKENIZER, REFERENCE)}
    (folder / CONFIG).write_text(json.dumps(described, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
