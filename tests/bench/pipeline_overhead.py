"""What the pipeline costs beside the model: tokens a second of `unspool run` against bare `forward` on the same text.

    python -m tests.bench.pipeline_overhead [--model SOURCE] [--dtype fp32 bf16] [--characters 400000] [--rounds 3]

The beginning of an example document is read by `forward`, window after window, and by the job of the quickstart
(sentence vectors, summaries, kept states) in this process; the two take turns. A run is timed over a text and over a
fifth of it, so that what every run costs once (loading, probing, writing `output/`) can be told from what a token
costs. Times are of the processor, on one thread, numpy's too: the bench starts itself again where it may use more. A
run must have read every token. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import rwkv_runtime
from jobs import run_job
from rwkv_runtime.model import Model
from tests.bench.peer_models import facts

TEXT = Path(__file__).parents[2] / "examples" / "documents" / "moby-dick.txt"
PARTS = 5
THREADS = "OMP_NUM_THREADS"
JOB = """version: 1
name: overhead
model: {{source: {model}, dtype: {dtype}}}
inputs:
  - {{path: text.txt}}
tasks:
  - {{name: vectors, type: embed}}
  - {{name: gist, type: summarize, mode: extractive, every: section, at_end: true, max_sentences: 5}}
  - {{name: keep, type: state, at: [end], boundary: true}}
output: {{path: out}}
run: {{workers: 0}}
ray: {{cpus: 1}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Tokens a second of a whole run against the model alone.")
    parser.add_argument("--model", default="default")
    parser.add_argument("--dtype", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--characters", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if os.environ.get(THREADS) != "1":  # read when numpy was loaded
        again = [sys.executable, "-m", "tests.bench.pipeline_overhead", *sys.argv[1:]]
        return subprocess.run(again, env=os.environ | {THREADS: "1"}).returncode
    torch.set_num_threads(1)
    text = TEXT.read_text("utf-8")[: arguments.characters]
    source = arguments.model
    found = {dtype: compared(text, source, dtype, arguments.rounds) for dtype in arguments.dtype}
    told = {"model": Path(source).name, "characters": len(text)}
    print(json.dumps({**facts("pipeline_overhead", arguments.rounds), **told, **found}))
    return 0


def compared(text: str, source: str, dtype: str, rounds: int) -> dict[str, Any]:
    """Tokens a second of `forward`, of what a run adds for more text, and of the whole run."""
    model = rwkv_runtime.load(source, dtype=dtype)
    short = text[: len(text) // PARTS]
    tokens = [model.tokenizer.encode(one) for one in (text, short)]
    taken: dict[str, list[float]] = {"forward": [], "more text": [], "whole run": []}
    for number in range(rounds + 1):
        alone = seconds_alone(model, tokens[0])
        whole, part = (
            seconds_of_a_run(one, source, dtype, len(ids)) for one, ids in zip((text, short), tokens, strict=True)
        )
        if number:  # the round before the first warms up
            more = (whole - part) / (len(tokens[0]) - len(tokens[1])) * len(tokens[0])
            for name, seconds in zip(taken, (alone, more, whole), strict=True):
                taken[name].append(seconds)
    shares = [bare / run for bare, run in zip(taken["forward"], taken["more text"], strict=True)]
    speeds = {name: round(len(tokens[0]) / statistics.median(times)) for name, times in taken.items()}
    return {
        "tokens": len(tokens[0]),
        "tokens_per_processor_second": speeds,
        "share_of_forward": round(statistics.median(shares), 3),
    }


def seconds_alone(model: Model, tokens: list[int]) -> float:
    """Processor time of reading the tokens with nothing around the model."""
    started = time.process_time()
    model.forward(tokens, model.initial_state(), "none")
    return time.process_time() - started


def seconds_of_a_run(text: str, source: str, dtype: str, tokens: int) -> float:
    """Processor time of a job over the text, in this process. Raises RuntimeError if it has not read every token."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text.txt").write_text(text, "utf-8")
        job = Path(folder) / "job.yaml"
        job.write_text(JOB.format(model=source, dtype=dtype), "utf-8")
        started = time.process_time()
        result = run_job(job)
        seconds = time.process_time() - started
        read = sum(result.table("documents").to_table(columns=["tokens_read"])["tokens_read"].to_pylist())
        if read != tokens:
            raise RuntimeError(f"the run has read {read} tokens, not {tokens}; no speed is worth measuring")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
