"""Every file of a folder is read as text, or refused with one line and a reason; nothing else may happen.

    python -m tests.bench.corpus_sweep --corpus DIR

Prints a line for each file that is refused or slow, then one JSON line: how many ended in which way, and what the
costliest parser took. Ends with 1 if a file did anything else, if the sentences of one are not what stands in its text
at their spans, on their page and in their section, or if a parser took more than its limits.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from pipeline.documents import Document, DocumentRef
from pipeline.durable import Disk
from pipeline.errors import DocumentError
from pipeline.formats import members, open_document, reader_for
from pipeline.sandbox import Limits
from pipeline.segments import Segmenter, Sentence, SplitOptions
from pipeline.text_store import TextStore
from rwkv_runtime.tokenizers.world import WorldTokenizer

SLOW_SECONDS = 5.0
WINDOW = 512
MAX_CHARS = 2000


@dataclass
class Sweep:
    """What came of the files so far. `bugs` counts what may not happen."""

    ends: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    bugs: int = 0
    slowest_seconds: float = 0.0
    slowest_parser_seconds: float = 0.0

    def note(self, name: str, end: str, seconds: float, parser_seconds: float) -> None:
        self.ends[end.split(":")[0]] += 1
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        self.slowest_parser_seconds = max(self.slowest_parser_seconds, parser_seconds)
        self.bugs += end.startswith("BUG")
        if end != "ok":
            self.refused[name] = end
        if end.startswith("BUG") or seconds > SLOW_SECONDS:
            print(f"{name}: {end} after {seconds:.1f} s")

    def summary(self) -> dict[str, object]:
        return {
            "documents": self.ends.total(),
            "bugs": self.bugs,
            "slowest_seconds": round(self.slowest_seconds, 1),
            "slowest_parser_cpu_seconds": round(self.slowest_parser_seconds, 1),
            "largest_parser_mib": _parsers().ru_maxrss * (1 if sys.platform == "darwin" else 1024) >> 20,
            **dict(self.ends.most_common()),
        }


def sweep(corpus: Path, texts: Path) -> Sweep:
    """Read all files of a folder; extracted texts go into another one."""
    tokenizer, result = WorldTokenizer.shipped(), Sweep()
    store = TextStore(texts, Disk(flush=lambda descriptor: None))
    for path in sorted(path for path in corpus.rglob("*") if path.is_file()):
        name = path.relative_to(corpus).as_posix()
        for ref in references(path):
            started, parsers = time.monotonic(), _cpu_seconds()
            end = end_of(ref, store, tokenizer)
            result.note(f"{name}{ref.uri[len(path.name) :]}", end, time.monotonic() - started, _cpu_seconds() - parsers)
    return result


def end_of(ref: DocumentRef, store: TextStore, tokenizer: WorldTokenizer) -> str:
    """`ok`, the reason for which a document was refused, or a bug."""
    try:
        wrong = sum(1 for _ in wrong_sentences(open_document(ref, store), tokenizer))
    except DocumentError as error:
        if "\n" in error.message:
            return f"BUG: a message of several lines: {error.message}"
        print(f"{ref.uri}: {error.stage} {error.error_type}: {error.message}")
        return error.error_type
    except Exception as error:
        return f"BUG: {type(error).__name__}: {error}"
    return f"BUG: {wrong} sentences are not what stands in the text" if wrong else "ok"


def references(path: Path) -> list[DocumentRef]:
    """The documents of a file; one that cannot be listed is one document."""
    status = path.stat()
    ref = DocumentRef("d0", path.name, str(path), status.st_size, status.st_mtime_ns, reader_for(path.name) or "")
    try:
        found = list(members(ref.reader, ref.path, {}) or ())
    except DocumentError:
        return [ref]
    return [
        DocumentRef(f"d{n}", f"{ref.uri}#{one.name}", ref.path, one.size, ref.mtime_ns, ref.reader, one.options)
        for n, one in enumerate(found)
    ] or [ref]


def wrong_sentences(document: Document, tokenizer: WorldTokenizer) -> Iterator[Sentence]:
    """Sentences that are not what stands at their spans, in characters and in bytes, or on another page."""
    blocks = list(document.blocks())
    starts = list(accumulate((len(block.text) for block in blocks), initial=0))
    text = "".join(block.text for block in blocks)
    data = text.encode("utf-8")
    for segment in Segmenter(document, tokenizer, SplitOptions(WINDOW, MAX_CHARS)):
        for sentence in segment.sentences:
            block = blocks[bisect_right(starts, sentence.char_start) - 1]
            if (
                text[sentence.char_start : sentence.char_end] != sentence.text
                or data[sentence.byte_start : sentence.byte_end] != sentence.text.encode("utf-8")
                or (sentence.page, sentence.section) != (block.page, block.section)
            ):
                yield sentence


def _parsers() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def _cpu_seconds() -> float:
    used = _parsers()
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    corpus: Path = parser.parse_args().corpus
    with tempfile.TemporaryDirectory() as folder:
        found = sweep(corpus, Path(folder))
    print(json.dumps({"bench": "corpus_sweep", **found.summary()}))
    within = _parsers().ru_maxrss * 1024 <= Limits().memory_bytes and found.slowest_parser_seconds <= Limits().seconds
    return 0 if found.bugs == 0 and within else 1


if __name__ == "__main__":
    sys.exit(main())
