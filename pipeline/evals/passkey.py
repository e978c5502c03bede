"""Finding one sentence in texts of a thousand to a million tokens: is the key in the answer that was read again.

Keys and places are drawn anew for each length; the text around them is the same. The peer is BM25 over sentences.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.answers.ask import Reading, ask
from pipeline.answers.lines import lines_of_document
from pipeline.answers.search import search
from pipeline.evals import Estimate, Row, Table, read_text
from pipeline.in_memory import TextDocument
from pipeline.metrics.bootstrap import estimate
from rwkv_runtime.engine import Engine

if TYPE_CHECKING:
    from rwkv_runtime.model import Model

NAME: Final = "passkey"
NEEDS: Final = ("labelled/wikitext2-valid.txt",)

_TOKENS: Final = (1_000, 10_000, 100_000, 1_000_000)
_CHARS_PER_TOKEN: Final = 4.3
_TRIES: Final = 10
_QUESTION: Final = "What is the pass key?"


def run(folder: Path, model: Model, limit: int | None) -> Table:
    """Share of keys found at each length. With a limit: two tries, at the shortest length alone."""
    text = read_text(folder / NEEDS[0])
    tries, lengths = (_TRIES, _TOKENS) if limit is None else (2, _TOKENS[:1])
    engine = Engine(model, window=512, lanes=1)
    found: dict[str, dict[str, Estimate]] = {"BM25": {}, "read again": {}}
    for tokens in lengths:
        kept: dict[str, list[float]] = {system: [] for system in found}
        for attempt in range(tries):
            for system, right in _try(text, tokens, attempt, engine).items():
                kept[system].append(100.0 * right)
        for system, values in kept.items():
            found[system][f"{tokens:,} tokens"] = estimate(values)
    rows = tuple(Row(system, figures) for system, figures in found.items())
    return Table(NAME, f"WikiText-2 with a key in it, {tries} keys a length", rows, (_NOTE,))


_NOTE: Final = "the key is one sentence among as much text; longer texts repeat the shorter"


def _try(text: str, tokens: int, attempt: int, engine: Engine) -> dict[str, bool]:
    draw = random.Random(tokens + attempt)
    size = int(tokens * _CHARS_PER_TOKEN)
    hay = (text * (size // len(text) + 1))[:size]
    key = str(draw.randint(10_000, 99_999))
    at = hay.rfind("\n", 0, draw.randrange(size)) + 1
    document = TextDocument(f"{hay[:at]}\nThe pass key is {key}. Remember it: {key} is the pass key.\n\n{hay[at:]}")
    lines = list(lines_of_document(document, engine.model.tokenizer))
    languages = {document.ref.doc_id: "en"}
    hits = search(lines, _QUESTION, None, 1, languages)
    answer = ask(lines, _QUESTION, Reading(engine, {}), languages)
    return {
        "BM25": bool(hits) and key in hits[0].line.text,
        "read again": answer.quote is not None and key in answer.quote.text,
    }
