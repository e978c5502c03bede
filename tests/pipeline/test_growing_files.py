"""Files that grow: whatever was settled in the shorter file is what the longer one says; it is read on there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.documents import Document, DocumentRef
from pipeline.errors import DocumentError
from pipeline.folder import entries
from pipeline.formats import facts_of_growing, open_document
from pipeline.segments import Segment, Segmenter, SplitOptions
from pipeline.values import Value, from_json, to_json
from tests.pipeline.memory_document import StrideTokenizer

OPTIONS = SplitOptions(window=8, max_chars=60, language="en")
PIECES = st.sampled_from(
    [
        *["The cat sat. ", "Dr. Smith went! ", "naïve Straße ", "今天天气很好。", "🙂", "e\u0301", "\ufffd", "a" * 40],
        *["\n", "\n\n", "\r\n", "\r\n\r\n", " \n \n", "\n# One\n", "\n## Two\n", "\n##", "\n```\n", "\n~~~~ py\n", "#"],
    ]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=60).map("".join)
ENCODINGS = st.sampled_from(["utf-8", "utf-16", "utf-16-be", "gb18030"])
SUFFIXES = ["txt", "md"]


def written(folder: Path, suffix: str, data: bytes, encoding: str) -> Document:
    path = folder / f"d.{suffix}"
    path.write_bytes(data)
    status = path.stat()
    reader = {"txt": "text", "md": "markdown"}[suffix]
    options = {"encoding": encoding}
    ref = DocumentRef("d", path.name, str(path), status.st_size, status.st_mtime_ns, reader, options)
    no_store: Any = None
    return open_document(ref, no_store)


def until_the_boundary(document: Document) -> tuple[list[Segment], dict[str, Value] | None]:
    """The settled segments, and where the segmenter stood behind the last of them."""
    segmenter, settled, stood = Segmenter(document, StrideTokenizer(3), OPTIONS), [], None
    for segment in segmenter:
        if not segment.settled:
            break
        settled.append(segment)
        stood = from_json(to_json(segmenter.snapshot()))
    return settled, stood  # type: ignore[return-value]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None, max_examples=150)
@given(text=TEXTS, more=TEXTS, encoding=ENCODINGS, cut=st.floats(0, 1))
@example(text="a b. " * 30 + "\n\n##", more="Foo\n\nb c. " * 9, encoding="utf-8", cut=1.0)
@example(text="a b. " * 30 + "\n\n# Foo", more="bar\n\nb c. " * 9, encoding="utf-8", cut=1.0)
@example(text="a b. " * 30 + "\n\n``", more="`\n\n# No heading\n\n" * 9, encoding="utf-8", cut=1.0)
@example(text="a b. " * 30 + "\n\n" + "b" * 16383 + "今", more="b c. " * 9, encoding="utf-8", cut=1 - 1 / 16538)
@example(text="The cat sat. The cat sat. The cat sat. \n\n", more="\ufffd", encoding="utf-8", cut=1.0)
@example(text="\ufeff" + "a b. " * 30 + "\n\n🙂", more=" b c. " * 9, encoding="utf-8", cut=0.99)
def test_reading_on_behind_what_was_settled_is_reading_the_longer_file(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, text: str, more: str, encoding: str, cut: float
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = (text + more).encode(encoding)
    try:
        short = written(folder, suffix, data[: round(cut * len(text.encode(encoding)))], encoding)
        settled, stood = until_the_boundary(short)
        longer = written(folder, suffix, data, encoding)
    except DocumentError:
        assume(False)
    assume(short.facts.encoding == longer.facts.encoding)

    rest = list(Segmenter(longer, StrideTokenizer(3), OPTIONS, stood))

    found, expected = settled + rest, list(Segmenter(longer, StrideTokenizer(3), OPTIONS))
    if more.endswith("\ufffd"):  # of a file that may end in half a character, less counts as settled
        found, expected = ([replace(one, settled=True) for one in ones] for ones in (found, expected))
    assert found == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_but_the_last_passage_and_a_window_of_a_file_is_settled(tmp_path: Path, suffix: str) -> None:
    data = b"One thing is here. Another is there.\n\n" * 200
    settled, _ = until_the_boundary(written(tmp_path, suffix, data, "utf-8"))

    assert len(data) - settled[-1].byte_end <= 38 + 3 * (OPTIONS.window + 4)


def test_formats_that_grow_are_those_whose_file_is_the_text() -> None:
    growing = {name for name, module in entries("pipeline.formats").items() if getattr(module, "GROWS", False)}

    assert growing == {"text", "markdown"}
    assert facts_of_growing(DocumentRef("d", "d.pdf", "/nowhere.pdf", 1, 1, "pdf")) is None
