"""Whatever a task or an answer says of a document stands there: on every example document, for every task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import rwkv_runtime
from jobs.extract_schema import default_schema
from pipeline import tasks
from pipeline.answers.ask import Reading, ask
from pipeline.answers.lines import lines_of_document
from pipeline.answers.search import search
from pipeline.documents import DocumentRef
from pipeline.durable import Disk
from pipeline.fields import shipped
from pipeline.folder import entries
from pipeline.formats import open_document, reader_for
from pipeline.tasks import Emit, make_tasks
from pipeline.text_store import TextStore
from rwkv_runtime.engine import Engine
from tests.jobs.project import REPOSITORY
from tests.pipeline.memory_document import MemoryDocument
from tests.pipeline.moments import Rehearsal

DOCUMENTS = sorted(path for path in (REPOSITORY / "examples" / "documents").iterdir() if path.name != "README.md")
MOST_CHARS = 60_000
SCHEMAS: Mapping[str, Any] = {
    "default": default_schema().model_dump(mode="json"),
    **{name: {"fields": shipped.options_of(name)} for name in shipped.names()},
    "described": {"fields": [{"name": "fate", "type": "clause", "description": "who has to do what, and when"}]},
}
OPTIONS: tuple[Mapping[str, Any], ...] = (
    {"type": "embed", "name": "vectors"},
    {"type": "summarize", "name": "gist", "seed": 0, "max_sentences": 5, "every": "section", "at_end": True},
    {
        "type": "summarize",
        "name": "asked",
        "seed": 0,
        "max_sentences": 5,
        "every": None,
        "at_end": True,
        "query": "keys, rights, the sea",
    },
    *({"type": "extract", "name": name, "schema": schema} for name, schema in SCHEMAS.items()),
)


@cache
def whole(path: Path) -> MemoryDocument:
    """A document as its format reads it, its first part if it is very long."""
    facts = path.stat()
    ref = DocumentRef("d", path.name, str(path), facts.st_size, facts.st_mtime_ns, reader_for(path.name) or "")
    document = open_document(ref, TextStore(path.parent / "unused", Disk()))
    texts, sections, size = [], [], 0
    for block in document.blocks():
        if size < MOST_CHARS:
            texts.append(block.text)
            sections.append(block.section)
            size += len(block.text)
    return MemoryDocument(tuple(texts), tuple(sections), document.facts.language or "en")


def stretches(emitted: Emit) -> Iterator[tuple[str, list[tuple[int, int]], str]]:
    """What each row says stands where: the unit of its spans, those, and the words, spans joined by line ends."""
    for row in emitted.rows.to_pylist():
        if emitted.table == "summaries":
            yield "char", [(place["char_start"], place["char_end"]) for place in row["citations"]], row["text"]
            continue
        words = row["quote"] if emitted.table == "extractions" else row["text"]
        yield "char", [(row["char_start"], row["char_end"])], words
        if "byte_start" in row:
            yield "byte", [(row["byte_start"], row["byte_end"])], words


def test_every_kind_of_task_is_looked_at() -> None:
    kinds = {module.TYPE for module in entries(tasks.__name__).values()}

    assert kinds == {options["type"] for options in OPTIONS} | {"state"}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["name"])
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_span_of_every_task_holds_the_words_that_are_said_to_stand_there(
    path: Path, options: Mapping[str, Any]
) -> None:
    document = whole(path)
    [task] = make_tasks([options])
    data = document.text.encode("utf-8")
    for emitted in Rehearsal(document, window=256, stride=5).play(task):
        assert isinstance(emitted, Emit)
        for unit, spans, words in stretches(emitted):
            there = [document.text[a:b] if unit == "char" else data[a:b].decode("utf-8") for a, b in spans]
            assert all(there) and "\n".join(there) == words != ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_answer_and_every_hit_stands_in_the_text(path: Path) -> None:
    document = whole(path)
    model = rwkv_runtime.load("default")
    lines = list(lines_of_document(document, model.tokenizer))
    languages = {document.ref.doc_id: document.language}
    answer = ask(
        lines,
        "When does the right to use the old keys end?",
        Reading(Engine(model, window=512, lanes=1), {}),
        languages,
    )
    hits = search(lines, "the right to use the sea", None, 20, languages)

    shown = [line for passage in answer.passages for line in (*passage.lines, passage.quote)]
    for line in (*shown, *(hit.line for hit in hits)):
        assert document.text[line.char_start : line.char_end] == line.text != ""
