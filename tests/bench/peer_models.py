"""Random weights in the shape of RWKV-7 0.1B, in every file that the peers read; written once into a folder.

Also the arithmetic that the comparisons share: turns, medians, and the facts that a line of results begins with.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import torch

from jobs.bench import processor
from rwkv_runtime.synthetic import Shape, tensors
from tests.rwkv_runtime.checkpoints import write_gguf

SIZE = "0.1B"
KINDS = ("F32", "BF16", "Q8_0", "Q4_0")

Turns = Callable[[Mapping[str, Callable[[], object]]], dict[str, float]]
"""What times several contestants in turns: their work by name, and the seconds that it takes."""


def made(folder: Path) -> tuple[Path, list[Path]]:
    """The .pth and the GGUF files in a folder, written if they are not there (about 1.4 GB in all)."""
    folder.mkdir(parents=True, exist_ok=True)
    pth, ggufs = folder / f"rwkv7-{SIZE}.pth", [folder / f"rwkv7-{SIZE}-{kind}.gguf" for kind in KINDS]
    if all(path.exists() for path in (pth, *ggufs)):
        return pth, ggufs
    shape = Shape.named(SIZE)
    weights = tensors(shape)
    torch.save(weights, pth)
    floats = {name: tensor.float() for name, tensor in weights.items()}
    tokens = ["<s>", *(f"t{number}" for number in range(1, shape.vocabulary))]

    def described(writer: gguf.GGUFWriter) -> None:
        writer.add_context_length(1 << 20)
        writer.add_decay_lora_rank(shape.rank("w"))
        writer.add_iclr_lora_rank(shape.rank("a"))
        writer.add_value_residual_mix_lora_rank(shape.rank("v"))
        writer.add_gate_lora_rank(shape.rank("g"))

    for path, kind in zip(ggufs, KINDS, strict=True):
        write_gguf(path, floats, "7", kind, tokens=tokens, change=described)
    return pth, ggufs


def seconds_in_turns(work: Mapping[str, Callable[[], object]], rounds: int, threads: int = 1) -> dict[str, float]:
    """The median of what each one takes, in seconds, after one round to warm up.

    One thread is measured in processor time, in which other processes on the machine hardly count; several by the
    clock on the wall, on a machine that does nothing else: threads that wait for each other use processor time too.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, one in work.items():
            started = clock()
            one()
            if number:
                taken[name].append(clock() - started)
    return {name: statistics.median(found) for name, found in taken.items()}


def facts(bench: str, rounds: int, threads: int = 1) -> dict[str, Any]:
    """What a line of results begins with."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    machine = f"{processor()}, {threads} thread{'s' * (threads > 1)}, load {os.getloadavg()[0]:.0f}"
    begun = {"bench": bench, "commit": head.stdout.strip() or "unknown", "machine": machine}
    return {**begun, "torch": torch.__version__, "rounds": rounds}
