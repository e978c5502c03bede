"""Measures how much memory long inputs take until they are sentences: a PDF of many pages, a text of a gigabyte.

    python -m tests.bench.memory_of_inputs [--pages 200 5000] [--megabytes 8 1000]

Each is opened, parsed if it must be, and cut into sentences in a process of its own, with tokens that cost nothing
(what a model adds is measured by `memory_of_long_text`). Prints one JSON line: the peaks of the process and of its
parser, by size; ends with 1 if one grows by more than 64 MiB from the first size to the last.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ALLOWED_BYTES = 64 << 20
LINES_ON_A_PAGE = 40
REPOSITORY = Path(__file__).parents[2]


def write_pdf(path: Path, pages: int) -> None:
    from tests.pipeline.samples import pdf

    lines = [f"Line {line} says what the others say, and a little more." for line in range(LINES_ON_A_PAGE)]
    path.write_bytes(pdf([[f"Page {number}", *lines] for number in range(pages)]))


def write_text(path: Path, megabytes: int) -> None:
    sentences = "The naïve harbour keeps what the river brings. Nobody asked why! So it went on, year after year. "
    paragraph = (sentences * 9 + "\n\n") * 1124
    with path.open("w", encoding="utf-8") as file:
        for _ in range(megabytes):
            file.write(paragraph)


def measure(path: Path) -> dict[str, int | float]:
    """Read a file in a fresh process; what that process and its parser took."""
    command = [sys.executable, "-m", "tests.bench.memory_of_inputs", "--read", str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, int | float] = json.loads(done.stdout)
    return found


def read(path: Path) -> None:
    """Read a file in this process and say what it took, in one JSON line."""
    from pipeline.documents import DocumentRef
    from pipeline.durable import Disk
    from pipeline.formats import open_document, reader_for
    from pipeline.segments import Segmenter, SplitOptions
    from pipeline.text_store import TextStore
    from rwkv_runtime.memory import peak_memory_bytes
    from tests.pipeline.memory_document import StrideTokenizer

    started, status = time.monotonic(), path.stat()
    reader = reader_for(path.name) or ""
    ref = DocumentRef("d0", path.name, str(path), status.st_size, status.st_mtime_ns, reader)
    document = open_document(ref, TextStore(path.parent / "text", Disk(flush=lambda descriptor: None)))
    opened = time.monotonic() - started
    sentences = sum(len(one.sentences) for one in Segmenter(document, StrideTokenizer(64), SplitOptions(512, 2000)))
    found = {
        "sentences": sentences,
        "peak_bytes": peak_memory_bytes(),
        "parser_peak_bytes": _parser_peak(),
        "open_seconds": round(opened, 1),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(found))


def _parser_peak() -> int:
    """Of the processes that parsed, the largest."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def growth(found: list[dict[str, int | float]]) -> int:
    """From the first to the last, of the process or its parser, whichever grows more."""
    return int(max(found[-1][peak] - found[0][peak] for peak in ("peak_bytes", "parser_peak_bytes")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pages", type=int, nargs="+", default=[200, 5000], help="sizes of PDFs; the first is the base"
    )
    parser.add_argument("--megabytes", type=int, nargs="+", default=[8, 1000], help="sizes of texts")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        read(asked.read)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, dict[int, dict[str, int | float]]] = {"pdf": {}, "text": {}}
        for pages in asked.pages:
            write_pdf(Path(folder) / f"{pages}.pdf", pages)
            result["pdf"][pages] = measure(Path(folder) / f"{pages}.pdf")
        for megabytes in asked.megabytes:
            path = Path(folder) / f"{megabytes}.txt"
            write_text(path, megabytes)
            result["text"][megabytes] = measure(path)
            path.unlink()
    grown = {kind: growth(list(sizes.values())) for kind, sizes in result.items()}
    print(json.dumps({"bench": "memory_of_inputs", **result, "growth_bytes": grown, "allowed_bytes": ALLOWED_BYTES}))
    return 0 if max(grown.values()) <= ALLOWED_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
