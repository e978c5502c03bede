"""Every file of a folder is read as text, or refused with one line and a reason; nothing else may happen.

    python -m tests.bench.corpus_sweep --corpus DIR

Prints a line for each file that is refused or slow, then how many ended in which way. Ends with 1 if a file did
anything else, or if the sentences of one are not what stands in its text at their spans.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pipeline.documents import Document, DocumentRef
from pipeline.durable import Disk
from pipeline.errors import DocumentError
from pipeline.formats import members, open_document, reader_for
from pipeline.segments import Segmenter, SplitOptions
from pipeline.text_store import TextStore
from rwkv_runtime.tokenizers.world import WorldTokenizer

SLOW_SECONDS = 5.0
WINDOW = 512


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


def wrong_spans(document: Document, tokenizer: WorldTokenizer) -> int:
    """Sentences that are not what stands at their spans, in characters and in bytes."""
    text = "".join(block.text for block in document.blocks())
    data, wrong = text.encode("utf-8"), 0
    for segment in Segmenter(document, tokenizer, SplitOptions(WINDOW, 2000)):
        for sentence in segment.sentences:
            as_bytes = sentence.text.encode("utf-8")
            wrong += text[sentence.char_start : sentence.char_end] != sentence.text
            wrong += data[sentence.byte_start : sentence.byte_end] != as_bytes
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    corpus: Path = parser.parse_args().corpus
    ends: Counter[str] = Counter()
    bugs, slowest = 0, 0.0
    tokenizer = WorldTokenizer.shipped()
    with tempfile.TemporaryDirectory() as folder:
        store = TextStore(Path(folder), Disk(flush=lambda descriptor: None))
        for path in sorted(path for path in corpus.rglob("*") if path.is_file()):
            for ref in references(path):
                started = time.monotonic()
                end = "ok"
                try:
                    wrong = wrong_spans(open_document(ref, store), tokenizer)
                    if wrong:
                        bugs, end = bugs + 1, f"BUG: {wrong} spans are wrong"
                except DocumentError as error:
                    end = error.error_type
                    print(f"{path.relative_to(corpus)}: {error.stage} {end}: {error.message}")
                except Exception as error:
                    bugs, end = bugs + 1, f"BUG: {type(error).__name__}: {error}"
                seconds = time.monotonic() - started
                slowest = max(slowest, seconds)
                if end.startswith("BUG") or seconds > SLOW_SECONDS:
                    print(f"{path.relative_to(corpus)}: {end} after {seconds:.1f} s")
                ends[end.split(":")[0]] += 1
    print({"documents": sum(ends.values()), "slowest_seconds": round(slowest, 1), **dict(ends.most_common())})
    return 1 if bugs else 0


if __name__ == "__main__":
    sys.exit(main())
