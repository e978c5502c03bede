"""Files that are followed: however they grow and however often reading is stopped, what is read is the whole text."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pipeline.growing
from pipeline.documents import FOLLOW, GROWS, LANGUAGE, TO_ITS_END, DocumentRef
from pipeline.errors import DocumentError
from pipeline.files import SAMPLE_CHARS
from pipeline.formats.text import open_document
from pipeline.growing import GrowingText, Pipe
from pipeline.outcome import Outcome
from pipeline.segments import NothingYet, Segment, Segmenter
from pipeline.values import from_json, to_json
from pipeline.work import Assignment, Progress
from pipeline.worker import Worker
from tests.pipeline.memory_document import StrideTokenizer
from tests.pipeline.readings import assert_same_rows, bpe_tensors, prose, rows_of, save_model, worker_spec
from tests.pipeline.test_growing_files import ENCODINGS, OPTIONS, TEXTS


def refer(path: Path, **options: str) -> DocumentRef:
    return DocumentRef("d", path.name, str(path), 0, 0, "text", options)


def followed(path: Path, how: str = GROWS, **options: str) -> GrowingText:
    found = open_document(refer(path, **{FOLLOW: how, **options}))
    assert isinstance(found, GrowingText)
    return found


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def read_while_it_grows(path: Path, pieces: list[bytes], stops: list[bool], **options: str) -> list[Segment]:
    """All segments of a file that gets one piece after another; before each, reading may be stopped and taken up."""
    segments: list[Segment] = []
    segmenter = Segmenter(followed(path, **options), StrideTokenizer(3), OPTIONS)
    for piece, stop in zip(pieces, stops, strict=True):
        if stop:
            standing: Any = from_json(to_json(segmenter.snapshot()))
            segmenter = Segmenter(followed(path, **options), StrideTokenizer(3), OPTIONS, standing)
        append(path, piece)
        while not isinstance(found := segmenter.next_segment(), NothingYet):
            assert found is not None
            segments.append(found)
    standing = from_json(to_json(segmenter.snapshot()))
    return segments + list(Segmenter(followed(path, TO_ITS_END, **options), StrideTokenizer(3), OPTIONS, standing))


@settings(deadline=None, max_examples=200)
@given(text=TEXTS, encoding=ENCODINGS, cuts=st.lists(st.floats(0, 1), max_size=8), seed=st.integers(0, 99))
@example(text="a b. " * 9 + "今", encoding="utf-8", cuts=[0.98, 0.99], seed=1)
@example(text="\ufeffa b.\n\n" * 9, encoding="utf-8", cuts=[0.01, 0.02, 0.5], seed=2)
@example(text="\n" * 5 + "```\nThe cat sat. #" + "\n" * 14 + "The cat sat. \n\n", encoding="utf-8", cuts=[0.75], seed=0)
def test_any_way_to_grow_and_to_be_stopped_gives_the_segments_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str, cuts: list[float], seed: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data, path, draw = text.encode(encoding), folder / "growing.txt", random.Random(seed)
    places = sorted({0, len(data), *(round(cut * len(data)) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    options = {LANGUAGE: "en", "encoding": encoding}
    path.write_bytes(b"")
    (folder / "whole.txt").write_bytes(data)
    try:
        whole = open_document(refer(folder / "whole.txt", encoding=encoding))
    except DocumentError as refused:  # white space alone, which is known only at the end of what grows
        with pytest.raises(DocumentError, match=refused.message):
            read_while_it_grows(path, pieces, [False] * len(pieces), **options)
        return

    found = read_while_it_grows(path, pieces, [draw.random() < 0.4 for _ in pieces], **options)

    expected = list(Segmenter(whole, StrideTokenizer(3), OPTIONS))
    if text.endswith("\ufffd"):  # of a whole file that may end in half a character, less counts as settled
        found, expected = ([replace(one, settled=True) for one in ones] for ones in (found, expected))
    assert found == expected


def test_the_facts_of_what_has_grown_are_those_of_the_whole_file(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + ("Das ist ein Satz, und der ist gut. " * 900).encode() + b"\xff\xfe und das Ende \xc3"
    (tmp_path / "whole.txt").write_bytes(data)
    whole = open_document(refer(tmp_path / "whole.txt", encoding="utf-8"))
    path = tmp_path / "growing.txt"
    path.write_bytes(b"")
    document = followed(path)
    blocks = document.blocks()
    for start in range(0, len(data), 5000):
        append(path, data[start : start + 5000])
        while (block := next(blocks)).text:
            last = block
    rest = followed(path, TO_ITS_END)
    text = "".join(block.text for block in rest.blocks(last.after))

    assert text == "\ufffd"  # half a character, for which the rest could still have come
    assert {**vars(rest.facts), "text_id": ""} == {**vars(whole.facts), "text_id": ""}
    assert (whole.facts.language, whole.facts.decode_errors, whole.facts.encoding) == ("de", 3, "utf-8-sig")


def test_nothing_is_read_before_its_language_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"")
    blocks = followed(path).blocks()

    for size in (0, SAMPLE_CHARS // 2):
        append(path, b"a word " * (size // 7))
        assert next(blocks).text == ""
    append(path, b"a word " * SAMPLE_CHARS)

    assert next(blocks).text.startswith("a word a word")


def test_a_file_that_is_replaced_is_read_to_its_end_and_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.growing, "_QUIET_SECONDS", 0.0)
    path = tmp_path / "app.log"
    path.write_bytes(b"One line.\n")
    document = followed(path, **{LANGUAGE: "en"})
    blocks = document.blocks()
    assert next(blocks).text == "One line.\n"

    path.rename(tmp_path / "app.log.1")
    assert next(blocks).text == ""  # there is no other file yet: it may be on its way
    append(tmp_path / "app.log.1", b"The last line.\n")
    path.write_bytes(b"Of another file.\n")

    assert [block.text for block in blocks] == ["The last line.\n"]
    assert "rotated" in document.why_over
    assert document.facts.bytes == len(b"One line.\nThe last line.\n")


@pytest.mark.parametrize(("change", "said"), [("truncated", "cut short"), ("rewritten", "rewritten in place")])
def test_a_file_that_is_cut_short_or_rewritten_is_over(tmp_path: Path, change: str, said: str) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"One line and more of it.\n")
    document = followed(path, **{LANGUAGE: "en"})
    blocks = document.blocks()
    next(blocks)

    with path.open("r+b") as file:
        file.truncate(0)
        file.write(b"New.\n" if change == "truncated" else b"N" * 99)

    assert list(blocks) == []
    assert said in document.why_over


def test_a_file_rotated_while_nobody_looked_ends_as_what_was_read_of_it(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"One line.\n")
    first = next(followed(path, **{LANGUAGE: "en"}).blocks())
    path.unlink()
    path.write_bytes(b"Of another file, which is longer.\n")

    document = followed(path, **{LANGUAGE: "en"})

    assert list(document.blocks(first.after)) == []
    assert "no longer begins with what was read of it" in document.why_over
    assert (document.facts.bytes, document.facts.source_sha256) == (10, first.after["sha256"])


def test_a_file_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"One line.\n")
    first = next(followed(path, **{LANGUAGE: "en"}).blocks())
    path.rename(tmp_path / "aside")
    blocks = followed(path, **{LANGUAGE: "en"}).blocks(first.after)

    assert next(blocks).text == ""
    (tmp_path / "aside").rename(path)
    append(path, b"Another.\n")

    assert next(blocks).text == "Another.\n"


@pytest.mark.parametrize(
    ("data", "kind"), [(b"%PDF-1.7 ...", "unsupported_type"), (b"a\0" * 50, "binary_not_text")], ids=["PDF", "NUL"]
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(data)

    with pytest.raises(DocumentError) as refused:
        next(followed(path, **{LANGUAGE: "en"}).blocks())

    assert refused.value.error_type == kind


def test_a_pipe_is_over_when_its_writers_are_gone_or_when_it_is_stopped() -> None:
    stopped: list[bool] = []
    reading, writing = os.pipe()
    try:
        os.write(writing, "Die Straße".encode()[:-1] + b"\xc3")
        text = GrowingText(refer(Path("x"), **{LANGUAGE: "en"}), Pipe(reading, lambda: bool(stopped)))
        blocks = text.blocks()
        assert next(blocks).text == "Die Straß"
        assert next(blocks).text == ""
        stopped.append(True)
        assert [block.text for block in blocks] == ["\ufffd"]
    finally:
        os.close(writing)
        os.close(reading)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("models") / "tiny", bpe_tensors())


class Following:
    """A worker that follows one file, as a driver has it."""

    def __init__(self, run: Path, model: str, path: Path) -> None:
        self.run, self.path = run, path
        self.spec = worker_spec(run, model, language="en")
        self.epoch = 0

    def begin(self, how: str) -> Progress:
        self.worker = Worker(self.spec)
        self.epoch += 1
        ref = refer(self.path, **{FOLLOW: how, LANGUAGE: "en"})
        return self.worker.advance([Assignment(ref, self.epoch, 1)], 0.0)

    def to_its_end(self) -> Outcome:
        progress = self.begin(TO_ITS_END)
        while not progress.outcomes:
            assert not progress.warnings
            progress = self.worker.advance([], 0.0)
        (outcome,) = progress.outcomes
        return outcome


def test_rows_and_states_of_a_followed_file_are_those_of_the_whole_file(tmp_path: Path, model: str) -> None:
    data = prose(60).replace("#", "").encode()
    path = tmp_path / "log.txt"
    path.write_bytes(data)
    whole_run = Following(tmp_path / "whole", model, path)
    whole = whole_run.to_its_end()
    path.write_bytes(b"")
    run, seen = Following(tmp_path / "run", model, path), []
    run.begin(GROWS)
    for start in range(0, len(data), 700):
        append(path, data[start : start + 700])
        for _ in range(12):
            seen += run.worker.advance([], 0.0).grown
        if start % 2100 == 0:
            seen += run.worker.drain().grown
            seen += run.begin(GROWS).grown
    seen += run.worker.drain().grown
    outcome = run.to_its_end()

    assert_same_rows({"d": rows_of(run.run, outcome)}, {"d": rows_of(whole_run.run, whole)})
    assert len(seen) > 5  # rows came while it grew,
    for earlier, later in pairwise(seen):
        assert later.parts[: len(earlier.parts)] == earlier.parts  # each behind those before it
    parts = [part for part in outcome.parts if part.table == "sentences"]
    assert set(seen[-1].parts) <= set(outcome.parts) and len(parts) > 3
