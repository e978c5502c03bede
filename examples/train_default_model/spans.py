"""`python -m examples.train_default_model.spans --start MODEL --data DIR --out RUN`: a reader of spans for a model.

Fits a small head that says which sentence answers a question, whether any does, and which words of it are the answer;
the model stays as it is. DIR/train holds the texts that it is fitted to, DIR/labelled those that it is measured on,
beside what `ask` chooses by words. RUN/spans.safetensors, put beside the model's weights, is used by `ask`. Every step
writes files in RUN and is skipped where they stand: the same command again goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor

import rwkv_runtime
from examples.train_default_model.__main__ import log_line, stop_request
from examples.train_default_model.span_data import evaluation_items, read_cases, train_items, write_cases
from examples.train_default_model.span_fit import CHECKPOINT, SPAN_PROFILES, SpanFit, SpanProfile
from examples.train_default_model.span_reader import SpanReader, StaticVectors
from examples.train_default_model.span_report import (
    BOTH,
    FIGURES,
    WORDS,
    Floats,
    limits,
    report,
    seen,
    weights_of_both,
    with_both,
)
from rwkv_runtime.engine import Engine
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.pooling import EmbeddingHead
from rwkv_runtime.spans import FILE, FITTED_ON, MIXTURE, PREFIX, THRESHOLDS

REPORT = "report.json"
MODEL = "model.txt"
WINDOW = 512
MOST_DENIED = 0.05
FITTED, CHOSEN, EVALUATED = "fitted", "chosen", "evaluated"
"""Folders of what was read: for the fit, to choose thresholds and weights by, and to measure on."""


def main(arguments: list[str] | None = None) -> int:
    """Run the steps whose files are missing; returns the exit code."""
    parser = argparse.ArgumentParser(prog="spans", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--start", default="default", help="the model that reads: a folder, or default")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/labelled, train/pairs, labelled")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was read, checkpoint, log, weights")
    parser.add_argument("--profile", choices=sorted(SPAN_PROFILES), default="spans")
    parser.add_argument("--dtype", default="bf16", help="the precision that the model reads in")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        profile, until = SPAN_PROFILES[options.profile], stop_request()
        engine = Engine(rwkv_runtime.load(options.start, dtype=options.dtype), window=WINDOW, lanes=1)
        static = static_vectors(engine)
        claim(options.out, engine.model.fingerprint)
        read_texts(options.data, options.out, profile, engine, until)
        reader = None if until() else fitted(options.out, profile, static, engine, until)
        if reader is not None:
            as_kept = in_bfloat16(reader)
            save(as_kept, chosen_with(as_kept, options.out, static), engine.model.fingerprint, options.out / FILE)
            if not (options.out / REPORT).exists():
                measure(load(options.out / FILE), options.out, static)
            tell(options.out / REPORT)
    except (FileNotFoundError, RuntimeError, RwkvError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def static_vectors(engine: Engine) -> StaticVectors:
    """Gives the static vectors of tokens, with those of their words. Raises RuntimeError without a trained head."""
    head = engine.pooler
    if not isinstance(head, EmbeddingHead):
        raise RuntimeError("the model has no embed_head; start from one that has")

    def vectors(tokens: Tensor) -> Tensor:
        return F.normalize(head.static_vectors(tokens.tolist()), dim=1)

    return vectors


def claim(out: Path, fingerprint: str) -> None:
    """Keep in a folder which model its files are of. Raises RuntimeError if they are another's."""
    out.mkdir(parents=True, exist_ok=True)
    held = out / MODEL
    if held.exists() and held.read_text("utf-8") != fingerprint:
        raise RuntimeError(f"{out} holds what another model said; choose another --out, or remove it")
    held.write_text(fingerprint, "utf-8")


def read_texts(data: Path, out: Path, profile: SpanProfile, engine: Engine, until: Callable[[], bool]) -> None:
    """Let the model read what is missing of all texts, or up to where `until` says so."""
    chosen, fitted_texts = profile.chosen_texts, profile.fitted_texts
    for folder, items, texts, max_chars in (
        (CHOSEN, train_items, slice(0, chosen), profile.max_chars),
        (FITTED, train_items, slice(chosen, chosen + fitted_texts), profile.max_chars),
        (EVALUATED, evaluation_items, slice(0, profile.evaluated_texts), profile.evaluated_chars),
    ):
        found = items(data / "train" if items is train_items else data, random.Random(1))
        write_cases(out / folder, found, texts, engine, log_line, max_chars, until)


def fitted(
    out: Path, profile: SpanProfile, static: StaticVectors, engine: Engine, until: Callable[[], bool]
) -> SpanReader | None:
    """The reader at the end of its fit; None if `until` ends that early."""
    torch.manual_seed(0)
    reader = SpanReader(engine.model.config.n_embd, engine.pooler.dimensions)
    fit = SpanFit(reader, read_cases(out / FITTED), static, profile)
    if (out / CHECKPOINT).exists():
        fit.restore(out / CHECKPOINT)
        log_line(f"going on from step {fit.step}")
    fit.run(out, until)
    return reader if fit.step == profile.steps else None


@dataclass(frozen=True)
class Chosen:
    """What was chosen with a reader: the weights [5] of its scores beside those of words, and the log-odds from which
    each way to choose answers a question; `unsure` is that from which both together do not call it absent."""

    mixture: Floats
    answered: Mapping[str, float]
    unsure: float


def chosen_with(reader: SpanReader, out: Path, static: StaticVectors) -> Chosen:
    """Choose by questions that the reader was not fitted to."""
    known = seen(read_cases(out / CHOSEN), reader, static)
    mixture = weights_of_both(known)
    known = with_both(known, mixture)
    there = [one.sure(BOTH) for one in known if len(one.case.spans)]
    return Chosen(mixture, limits(known), float(np.quantile(there, MOST_DENIED)))


def in_bfloat16(reader: SpanReader) -> SpanReader:
    """The reader as its file has it."""
    for one in reader.parameters():
        one.data = one.data.bfloat16().float()
    return reader


def save(reader: SpanReader, chosen: Chosen, fingerprint: str, path: Path) -> None:
    """Write a reader for the model of a fingerprint, as `rwkv_runtime.spans` reads it."""
    tensors = {PREFIX + name: one.bfloat16().contiguous() for name, one in reader.state_dict().items()}
    tensors[PREFIX + MIXTURE] = torch.from_numpy(chosen.mixture)
    tensors[PREFIX + THRESHOLDS] = torch.tensor([chosen.answered[BOTH], chosen.unsure])
    save_file(tensors, path, metadata={FITTED_ON: fingerprint})


def load(path: Path) -> SpanReader:
    """The reader of a file that `save` wrote."""
    held = {name.removeprefix(PREFIX): one.float() for name, one in load_file(path).items()}
    rank, inputs = held["said.weight"].shape
    size = held["of_sentence.weight"].shape[1]
    reader = SpanReader(inputs - size, size, rank)
    reader.load_state_dict({name: held[name] for name in reader.state_dict()})
    return reader


def measure(reader: SpanReader, out: Path, static: StaticVectors) -> None:
    """Write what the reader is worth, on all sets together and on each."""
    chosen = chosen_with(reader, out, static)
    wanted = with_both(seen(read_cases(out / EVALUATED), reader, static), chosen.mixture)
    names = sorted({one.case.name for one in wanted})
    found = {"all": report(wanted, chosen.answered)} | {
        name: report([one for one in wanted if one.case.name == name], chosen.answered) for name in names
    }
    (out / REPORT).write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def tell(path: Path) -> None:
    """Print a report, a line for each way to choose on each set."""
    for name, systems in json.loads(path.read_text("utf-8")).items():
        for system, figures in systems.items():
            log_line(f"{name:13} {system:17} " + "  ".join(_told(figure, figures) for figure in FIGURES))


def _told(name: str, figures: dict[str, dict[str, float] | None]) -> str:
    found, more = figures[name], figures.get(f"{name}, over {WORDS}")
    if found is None:
        return f"{name} –"
    change = f" ({more['value']:+.1f}: {more['low']:+.1f} to {more['high']:+.1f})" if more else ""
    return f"{name} {found['value']:.1f}{change}"


if __name__ == "__main__":
    raise SystemExit(main())
