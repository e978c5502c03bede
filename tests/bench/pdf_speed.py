"""Measures pages of PDF a second against plain pypdf and pypdfium2: the same files, the same processor, in turns.

    python -m tests.bench.pdf_speed [--corpus DIR] [--pages 100] [--rounds 3]

`plain pypdf` and `plain pypdfium2` take the text of every page and do nothing else, in this process. `unspool, …` are
the formats as documents are read, in a process of their own each file, with limits, cleaning, the stored text and its
frames; the start of that process counts. Without a corpus a PDF of so many pages is made; of a corpus, files that one
of the ways cannot read are left out. Prints one JSON line: pages a second of processor time, children included, and
how many times that of plain pypdf it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

from pipeline.documents import DocumentRef
from pipeline.durable import Disk
from pipeline.errors import DocumentError
from pipeline.formats import open_document
from pipeline.formats import pdf as pdf_format
from pipeline.text_store import TextStore
from tests.bench.memory_of_inputs import write_pdf
from tests.bench.prefill_speed import _commit, _processor

Way = Callable[[Path], int]
"""Reads a PDF; how many pages it had."""


def plain_pypdf(path: Path) -> int:
    import pypdf

    reader = pypdf.PdfReader(path)
    return sum(page.extract_text() is not None for page in reader.pages)


def plain_pypdfium2(path: Path) -> int:
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    return sum(document[number].get_textpage().get_text_range() is not None for number in range(len(document)))


def ours_in_a_sandbox(path: Path) -> int:
    """As a run reads it, with whatever engine is installed."""
    with tempfile.TemporaryDirectory() as folder:
        store = TextStore(Path(folder), Disk(flush=lambda descriptor: None))
        status = path.stat()
        ref = DocumentRef("d0", path.name, str(path), status.st_size, status.st_mtime_ns, "pdf")
        document = open_document(ref, store)
        list(document.blocks())
        return document.facts.pages or 0


def ours_with(engine: str) -> Way:
    """The format in this process, with one engine: what its cleaning and its checks cost."""

    def read(path: Path) -> int:
        with mock.patch.object(pdf_format, "_engine", lambda: engine), path.open("rb") as file:
            *_, about = pdf_format.extract(file, {})
        return getattr(about, "pages", 0) or 0

    return read


def ways() -> Mapping[str, Way]:
    return {
        "plain pypdf": plain_pypdf,
        "plain pypdfium2": plain_pypdfium2,
        "unspool, pypdf": ours_with("pypdf"),
        "unspool, pypdfium2": ours_with("pypdfium2"),
        f"unspool, {pdf_format._engine()}, in a sandbox": ours_in_a_sandbox,
    }


def seconds_of(way: Way, files: Sequence[Path]) -> float:
    """Processor time of this process and its children."""
    before = _used()
    for path in files:
        way(path)
    return _used() - before


def _used() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def readable(paths: Sequence[Path], known: Mapping[str, Way]) -> dict[Path, int]:
    """The pages of each file that every way reads."""
    found = {}
    for path in paths:
        try:
            found[path] = [way(path) for way in known.values()][-1]
        except DocumentError as error:
            print(f"{path.name} is left out: {error.message}", file=sys.stderr)
        except Exception as error:  # plain parsers raise whatever they like
            print(f"{path.name} is left out: {type(error).__name__}", file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a folder with PDF files")
    parser.add_argument("--pages", type=int, default=100, help="of the PDF that is made without a corpus")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    known = ways()
    with tempfile.TemporaryDirectory() as folder:
        if asked.corpus is None:
            write_pdf(Path(folder) / "made.pdf", asked.pages)
        found = readable(sorted((asked.corpus or Path(folder)).rglob("*.pdf")), known)
        files, pages = list(found), sum(found.values())
        if not pages:
            print("no PDF that every way can read", file=sys.stderr)
            return 2
        seconds: dict[str, float] = dict.fromkeys(known, float("inf"))
        for _ in range(asked.rounds):
            for name, way in known.items():
                seconds[name] = min(seconds[name], seconds_of(way, files))
    speeds = {name: pages / took for name, took in seconds.items()}
    result = {
        "bench": "pdf_speed",
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} processors",
        "files": len(files),
        "pages": pages,
        "pages_per_second": {name: round(speed, 1) for name, speed in speeds.items()},
        "over_plain_pypdf": {name: round(speed / speeds["plain pypdf"], 2) for name, speed in speeds.items()},
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
