"""How long sentence vectors take by `unspool run`, against all-MiniLM-L6-v2 in sentence-transformers.

    python -m tests.bench.embed_speed [--threads 2] [--rounds 3]

Both are whole processes over the same text, with what they need to start: the job reads the example documents, cuts
them into sentences and writes its tables, the peer encodes these very sentences in float32. Prints one JSON line;
`faster` is the peer's time over the job's, each round one after the other, the median of the rounds. Within a line they
can be compared, between machines they cannot. Needs the extra `peers`.
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

import pyarrow.parquet as pq

from rwkv_runtime import load

REPOSITORY = Path(__file__).parents[2]
JOB = """version: 1
name: speed
inputs: [{{path: "{documents}/*", exclude: ["README.md"]}}]
tasks: [{{name: vectors, type: embed}}]
output: {{path: "{out}"}}
"""
PEER = """import json, sys
from pipeline.metrics.minilm import vectors_of
print(len(vectors_of(json.load(open(sys.argv[1])))))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="embed_speed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    times: dict[str, list[float]] = {"job": [], "peer": []}
    with tempfile.TemporaryDirectory() as scratch:
        sentences = Path(scratch) / "sentences.json"
        for number in range(arguments.rounds):
            out = Path(scratch) / f"out-{number}"
            times["job"].append(_seconds(_job(Path(scratch), out), environment))
            texts = pq.read_table(out / "output" / "sentences", columns=["text"])["text"].to_pylist()
            sentences.write_text(json.dumps(texts), "utf-8")
            times["peer"].append(_seconds([sys.executable, "-c", PEER, str(sentences)], environment))
    tokenizer = load().tokenizer
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    ratios = [peer / job for job, peer in zip(times["job"], times["peer"], strict=True)]
    found = {
        "bench": "embed_speed",
        "threads": arguments.threads,
        "sentences": len(texts),
        "tokens": tokens,
        "tokens_per_s": {name: round(tokens / statistics.median(taken)) for name, taken in times.items()},
        "faster": round(statistics.median(ratios), 2),
        "rounds": [round(ratio, 2) for ratio in ratios],
    }
    print(json.dumps(found))
    return 0


def _job(scratch: Path, out: Path) -> list[str]:
    path = scratch / "job.yaml"
    path.write_text(JOB.format(documents=REPOSITORY / "examples" / "documents", out=out), "utf-8")
    return [sys.executable, "-m", "jobs.cli", "run", str(path)]


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    return time.monotonic() - began


if __name__ == "__main__":
    raise SystemExit(main())
