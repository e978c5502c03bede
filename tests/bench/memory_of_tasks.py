"""Measures what every task remembers of a long text, and what a process takes that runs all of them at once.

    python -m tests.bench.memory_of_tasks [--tokens 10000 1000000]

A text of each length is read in a process of its own, with a model so small that reading is cheap. What a task
remembers is what a checkpoint holds of it, looked at every 64 windows. Prints one JSON line and adds it to
tests/bench/results.jsonl; exits with 1 if a task remembers more than 512 KiB of any text, or if the process takes
64 MiB more for the longest text than for the first. Summaries fill up to their bounds, so they take more of a long text
than of one that is shorter than these.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.bench.memory_of_long_text import ALLOWED_BYTES, REPOSITORY, write_model, write_text

TASKS: Final[dict[str, dict[str, Any]]] = {
    "sentences": {"type": "embed", "surprise": True, "pooling": "contextual+isolated"},
    "sections": {"type": "embed", "unit": "section", "pooling": "isolated"},
    "windows": {"type": "embed", "unit": "window", "tokens": 256, "pooling": "echo"},
    "document": {"type": "embed", "unit": "document", "pooling": "eol"},
    "summaries": {"type": "summarize", "max_sentences": 5, "every": {"tokens": 4096}, "at_end": True},
    "extractions": {"type": "extract"},
    "states": {"type": "state", "at": ["end"], "boundary": True},
}
WINDOW: Final = 512
_BYTES_PER_TOKEN: Final = 4
_MOST: Final = 512 << 10


def main(lengths: list[int]) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        found = [_measured(folder, tokens) for tokens in lengths]
    result = {"bench": "memory_of_tasks", "tokens": [one["tokens"] for one in found]}
    result |= {name: [one["bytes"][name] for one in found] for name in found[0]["bytes"]}
    result["peak_bytes"] = [one["peak_bytes"] for one in found]
    print(json.dumps(result))
    with (REPOSITORY / "tests" / "bench" / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    first, last = found[0], found[-1]
    large = [name for one in found for name, size in one["bytes"].items() if size > _MOST]
    return 1 if large or last["peak_bytes"] - first["peak_bytes"] > ALLOWED_BYTES else 0


def _measured(folder: Path, tokens: int) -> dict[str, Any]:
    text = folder / f"{tokens}.md"
    write_text(text, tokens * _BYTES_PER_TOKEN)
    command = [sys.executable, "-m", "tests.bench.memory_of_tasks", "--read", str(text), str(folder / "model")]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(found, file=sys.stderr, flush=True)
    return found


def read(text: Path, model_folder: Path) -> None:
    """Read a text to its end in this process and say what its tasks remembered at most."""
    from jobs.spec import load_resolved
    from pipeline import vectors
    from pipeline.documents import DocumentRef
    from pipeline.durable import Disk
    from pipeline.formats import open_document
    from pipeline.lane import memory_of
    from pipeline.reading import Reader, SavePoint
    from pipeline.segments import SplitOptions
    from pipeline.tasks import make_tasks, queries_of, wants_of
    from pipeline.text_store import TextStore
    from pipeline.units import SPAN
    from pipeline.values import to_json
    from pipeline.worker import peak_memory_bytes
    from rwkv_runtime import load
    from rwkv_runtime.engine import Engine, Feed

    engine = Engine(load(str(model_folder)), window=WINDOW, lanes=1)
    job = {"version": 1, "name": "all", "inputs": [{"path": "a"}], "output": {"path": "o"}}
    spec = load_resolved(job | {"tasks": [{"name": name, **task} for name, task in TASKS.items()]}, "bench")
    tasks = make_tasks([{**task.model_dump(mode="json"), "seed": 0} for task in spec.tasks])
    ways = sorted({"isolated", *(want.pooling for want in wants_of(tasks) if want.pooling != SPAN)})
    status = text.stat()
    ref = DocumentRef("d0", text.name, str(text), status.st_size, status.st_mtime_ns, "markdown")
    document = open_document(ref, TextStore(text.parent / "text", Disk()))
    asked = queries_of(tasks)
    queries = dict(zip(asked, vectors.isolated(engine, asked), strict=True))
    start, alone = engine.model.initial_state(), vectors.alone(engine, ways=ways)
    options = SplitOptions(WINDOW, 2000)
    reader = Reader(document, tasks, engine.model.tokenizer, engine.pooler, options, start, queries, alone, "auto")
    largest: dict[str, int] = {}
    steps, fed, number = reader.steps(), None, 0
    while True:
        try:
            step = steps.send(fed) if fed is not None else next(steps)
        except StopIteration:
            break
        fed = engine.feed([step])[0] if isinstance(step, Feed) else None
        if isinstance(step, SavePoint):
            number += 1
            if number % 64 == 0 or number == 16:
                held = memory_of(reader.standing())
                sizes = {name: len(to_json(value)) for name, value in held["tasks"].items()}  # type: ignore[union-attr]
                sizes["units being read"] = len(to_json(held.get("units")))
                largest = {name: max(size, largest.get(name, 0)) for name, size in sizes.items()}
    print(json.dumps({"tokens": reader.tokens, "bytes": largest, "peak_bytes": peak_memory_bytes()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What every task remembers of a long text.")
    parser.add_argument("--tokens", type=int, nargs="+", default=[10_000, 1_000_000], help="the first is the base")
    parser.add_argument("--read", type=Path, nargs=2, metavar=("TEXT", "MODEL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read(*given.read)
    else:
        sys.exit(main(given.tokens))
