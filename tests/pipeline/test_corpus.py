"""Files from the test suites of others, and any folder given to the sweep: read, or refused with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from tests.bench import corpus_sweep
from tests.bench.corpus_sweep import sweep

CORPUS = Path(__file__).parents[1] / "corpus"
REFUSED: Mapping[str, str] = {
    "handbuilt-t02-02-005-page-tree-no-kids.pdf": "parse_error",
    "handbuilt-t02-03-010-page-object-missing-contents.pdf": "no_text_layer",
    "poi-clusterfuzz-testcase-minimized-poixwpffuzzer-6442791109263360.docx": "parse_error",
    "qpdf-bad1.pdf": "parse_error",
    "qpdf-bad14.pdf": "no_text_layer",
    "qpdf-issue-101.pdf": "parse_error",
    "qpdf-issue-141a.pdf": "parse_error",
    "qpdf-object-types-os.pdf": "no_text_layer",
}


def test_every_file_of_the_corpus_ends_as_it_must(tmp_path: Path) -> None:
    found = sweep(CORPUS, tmp_path)

    assert (found.bugs, found.refused) == (0, REFUSED)
    assert found.ends.total() == len(list(CORPUS.iterdir()))


def test_a_sentence_that_is_not_what_stands_at_its_span_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One sentence. Another one.", "utf-8")
    with mock.patch.object(corpus_sweep.Segmenter, "_pass_over", lambda segmenter, text: None):
        found = sweep(tmp_path, tmp_path / "texts")

    assert found.bugs == 1


def test_whatever_else_is_raised_is_a_bug(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One sentence.", "utf-8")
    with mock.patch.object(corpus_sweep, "open_document", side_effect=AssertionError("no")):
        assert sweep(tmp_path, tmp_path / "texts").bugs == 1
