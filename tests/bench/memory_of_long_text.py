"""Measures how much more memory a long text takes than a short one.

    python -m tests.bench.memory_of_long_text [--megabytes 1 100] [--what worker|job]

Each text is read in a process of its own, with a model so small that reading is cheap, all tasks and the usual
checkpoints: by a worker, or as a whole job, with its tables, its verification and its report. Prints one JSON line;
exits with 1 if the peaks differ by more than 64 MiB.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ALLOWED_BYTES = 64 << 20
PARAGRAPHS_IN_A_SECTION = 60
REPOSITORY = Path(__file__).parents[2]
SOURCES = REPOSITORY / "examples" / "documents"


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        peaks = {size: _peak_of(folder, size, arguments.what) for size in arguments.megabytes}
    growth = max(peaks.values()) - peaks[arguments.megabytes[0]]
    result = {
        "bench": "memory_of_long_text",
        "what": arguments.what,
        "peak_bytes": {f"{size} MB": peak for size, peak in peaks.items()},
        "growth_bytes": growth,
        "allowed_bytes": ALLOWED_BYTES,
    }
    print(json.dumps(result))
    return 0 if growth <= ALLOWED_BYTES else 1


def write_model(folder: Path) -> None:
    """A random RWKV-7 of one layer with the shipped tokenizer."""
    from tests.pipeline.readings import BPE_VOCABULARY, save_model
    from tests.rwkv_runtime.tiny import tiny_tensors

    save_model(folder, tiny_tensors(vocabulary=BPE_VOCABULARY, layers=1))


def write_text(path: Path, size: int) -> None:
    """Markdown of about so many bytes that reads like text: real paragraphs in random order, each with a number."""
    draw = random.Random(size)
    texts = [source.read_text("utf-8") for source in sorted(SOURCES.iterdir()) if source.name != "README.md"]
    paragraphs = [part.strip() for text in texts for part in text.split("\n\n") if len(part) > 80]
    with path.open("w", encoding="utf-8") as file:
        for number, part in enumerate(_endlessly(paragraphs, draw)):
            if number % PARAGRAPHS_IN_A_SECTION == 0:
                file.write(f"# Part {number // PARAGRAPHS_IN_A_SECTION}\n\n")
            file.write(f"{part} That was number {number}.\n\n")
            if file.tell() >= size:
                return


def _endlessly(paragraphs: list[str], draw: random.Random) -> Iterator[str]:
    while True:
        yield draw.choice(paragraphs)


def _peak_of(folder: Path, megabytes: int, what: str) -> int:
    """Read a text of that size in a fresh process; the largest size that process has had, in bytes."""
    text = folder / f"{megabytes}.md"
    write_text(text, megabytes * 1_000_000)
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.bench.memory_of_long_text", "--what", what]
    command += ["--read", str(text), str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    print(f"{megabytes} MB in {time.monotonic() - started:.0f} s: {found}", file=sys.stderr, flush=True)
    return int(found["peak_bytes"])


def read(text: Path, folder: Path) -> None:
    """Read a text to its end in this process and say what it took, in one JSON line."""
    from pipeline.documents import DocumentRef
    from pipeline.work import Assignment
    from pipeline.worker import Worker, peak_memory_bytes
    from tests.pipeline.readings import worker_spec

    spec = worker_spec(
        folder / f"run-{text.stem}",
        str(folder / "model"),
        window=512,
        checkpoint_tokens=65_536,
        checkpoint_seconds=120.0,
    )
    worker = Worker(spec)
    loaded = peak_memory_bytes()
    status = text.stat()
    new = [Assignment(DocumentRef("d0", text.name, str(text), status.st_size, status.st_mtime_ns, "markdown"), 1, 1)]
    while not (progress := worker.advance(new, seconds=10.0)).outcomes:
        new = []
        lane = progress.lanes[0]
        print(f"  token {lane.tokens:,}: {progress.peak_memory_bytes >> 20} MiB", file=sys.stderr, flush=True)
    outcome = progress.outcomes[0]
    if outcome.status != "ok":
        raise SystemExit(f"{text} could not be read: {outcome.message}")
    print(json.dumps({"tokens": outcome.tokens, "loaded_bytes": loaded, "peak_bytes": peak_memory_bytes()}))


def read_as_a_job(text: Path, folder: Path) -> None:
    """The same with a whole job, finished and verified."""
    from jobs import run_job
    from jobs.run_directory import RunDirectory
    from jobs.verify import verify
    from pipeline.durable import Disk
    from pipeline.worker import peak_memory_bytes

    job = {
        "version": 1,
        "name": "long",
        "model": {"source": str(folder / "model"), "dtype": "fp32"},
        "inputs": [{"path": str(text)}],
        "tasks": [
            {"name": "vectors", "type": "embed"},
            {"name": "gist", "type": "summarize"},
            {"name": "keep", "type": "state"},
        ],
        "output": {"path": str(folder / f"job-{text.stem}")},
        "on_error": {"doc_timeout": "1d"},
        "run": {"workers": 0},
    }
    path = folder / f"{text.stem}.yaml"
    path.write_text(json.dumps(job), "utf-8")
    result = run_job(path)
    differences = verify(RunDirectory.open(result.path, Disk()))
    if result.exit_code or differences:
        raise SystemExit(f"{text} ended with {result.exit_code}: {differences[:1]}")
    print(json.dumps({"tokens": result.tokens, "peak_bytes": peak_memory_bytes()}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How much memory a worker needs for a long text.")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 100], help="sizes; the first is the base")
    parser.add_argument("--what", choices=("worker", "job"), default="worker", help="what reads them")
    parser.add_argument("--read", type=Path, nargs=2, metavar=("TEXT", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    asked = _arguments()
    if asked.read:
        (read if asked.what == "worker" else read_as_a_job)(*asked.read)
    else:
        sys.exit(main())
