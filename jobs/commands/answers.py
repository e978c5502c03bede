"""Commands that answer at once: `unspool search`, `ask`, and `summarize`, `extract` and `embed` for one document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import AsJson, Model, NoProgress, Quiet, RunPath, data, say
from jobs.errors import safe
from jobs.terminal import json_text

Document = Annotated[str, typer.Argument(help="A document, or - for what is on stdin.", metavar="FILE|-")]
Rows = Annotated[Path | None, typer.Option("--output", "-o", help="Write the rows to this .parquet or .jsonl file.")]
_SCHEMAS = "A file of the fields wanted, or one in the box: `clauses`, `contract` or `invoice`."
Language = Annotated[
    str,
    typer.Option("--language", help="Of the text, such as en; else its first 20,000 characters tell.", metavar="CODE"),
]
_TEXT_WIDTH = 300
_OPTIONS = {
    "tasks[0].schema.": "",
    "tasks[0].max_sentences": "--sentences",
    "tasks[0].": "--",
    "split.language": "--language",
    "model.source": "--model",
}
"""What commands call the options of a job file, the longer names first."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (search, ask, summarize, extract, embed):
        app.command()(command)


def search(
    run: RunPath,
    text: Annotated[str, typer.Argument(help="What to look for.", metavar="TEXT")],
    top: Annotated[int, typer.Option("--top", min=1, max=10_000, help="How many sentences to show.")] = 10,
    task: Annotated[
        str | None,
        typer.Option("--task", help="Search the sections, windows or documents of this task.", metavar="NAME"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the sentences of a finished run nearest to a text, by words and by vectors together."""
    from jobs.answers import search_run

    found = search_run(run, text, top, task)
    if as_json:
        data(found)
        return
    for hit in found:
        typer.echo(safe(f"{hit['score']:6.2f}  {_place(hit)}"))
        typer.echo(f"        {_shown(hit['text'])}")


def ask(
    target: Annotated[Path, typer.Argument(help="A document (- for stdin), a run directory or a state it has kept.")],
    question: Annotated[str, typer.Argument(help="The question.", metavar="QUESTION")],
    model: Model = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Read a document's passages again behind this state.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Let a model that can write choose the words of the quote that answer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question with quotes: the passages that suit it best, read again on a fork of the state."""
    from jobs.answers import ask_target

    found = ask_target(target, question, model, state, copy)
    if as_json:
        data(found)
        return
    for line in _answer_lines(found):
        typer.echo(line)


def _answer_lines(found: dict[str, Any]) -> Iterator[str]:
    """An answer for people: what is said, how sure that is, and the passages behind it."""
    if found["method"] == "summary" and found["passages"]:
        yield "In sentences of its own:"
    elif found["outcome"] == "answered":
        yield _shown(found["answer"], None)
        asked = [f"What was asked for: {_shown(found['value']['text'])}"] if found["value"] else []
        yield from ("", *asked)
        yield f"A quote from [1]; confidence {found['confidence']:.0%}. The passages that suit the question best:"
    elif found["outcome"] == "unsure":
        yield f"Not sure (confidence {found['confidence']:.0%}). What comes nearest, the likeliest sentence first:"
        yield f"    {_shown(found['passages'][0]['quote'], None)}\n"
    else:
        yield "Not in this text, as far as its words tell. The nearest passages:"
    for number, passage in enumerate(found["passages"], start=1):
        yield safe(f"[{number}] {_place(passage)}")
        yield f"    {_shown(passage['text'], 2 * _TEXT_WIDTH)}"


def summarize(
    document: Document,
    sentences: Annotated[int, typer.Option("--sentences", min=1, max=100, help="The longest summary.")] = 5,
    sections: Annotated[bool, typer.Option("--sections", help="Also summarise each section.")] = False,
    model: Model = None,
    language: Language = "auto",
    output: Rows = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Summarise one document with sentences of its own."""
    task = {"type": "summarize", "max_sentences": sentences, "every": "section" if sections else None}
    _once(document, task, model, language, output, as_json, quiet, no_progress)


def extract(
    document: Document,
    schema: Annotated[str | None, typer.Option("--schema", help=_SCHEMAS)] = None,
    model: Model = None,
    language: Language = "auto",
    output: Rows = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Find values in one document: the fields of a schema, or dates, sums, addresses and the like."""
    task: dict[str, Any] = {"type": "extract"}
    if schema is not None:
        from pipeline.fields import shipped

        task["schema"] = schema if schema in shipped.names() else str(Path(schema).absolute())
    _once(document, task, model, language, output, as_json, quiet, no_progress)


def embed(
    document: Document,
    unit: Annotated[str, typer.Option("--unit", help="sentence, section, window or document.")] = "sentence",
    pooling: Annotated[str, typer.Option("--pooling", help="How a vector is read; see `unspool schema`.")] = "auto",
    dims: Annotated[int | None, typer.Option("--dims", min=1, help="Keep only the first numbers.")] = None,
    model: Model = None,
    language: Language = "auto",
    output: Rows = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Make a vector of each sentence (or section, window) of one document; JSON lines on stdout."""
    task = {"type": "embed", "dims": dims, "unit": unit, "pooling": pooling}
    _once(document, task, model, language, output, as_json, quiet, no_progress)


def _once(
    document: str,
    task: dict[str, Any],
    model: str | None,
    language: str,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    no_progress: bool,
) -> None:
    from jobs.oneshot import OneShot, check_target, rows_of, rows_of_stdin, run_once, write
    from jobs.run import RunOptions
    from jobs.standard_input import STDIN, beginning, suffix_of

    if output is not None:
        check_target(output)
    progress = "none" if quiet else "silent" if no_progress else "auto"
    is_read_along = document == STDIN and output is None
    begun = beginning() if is_read_along else b""
    shot = OneShot(document, task, model or "default", language, begun, _OPTIONS)
    if is_read_along and suffix_of(shot.begun) == ".txt":
        _show_rows(rows_of_stdin(shot), task["type"], as_json)
        return
    with run_once(shot, RunOptions(progress=progress, handle_signals=True)) as result:
        if output is not None:
            count = write(result, shot.table, output)
            if not quiet:
                say(safe(f"{output}: {count:,} rows"))
            return
        _show_rows(rows_of(result, shot.table), task["type"], as_json)


def _show_rows(rows: Iterable[dict[str, Any]], kind: str, as_json: bool) -> None:
    """Print rows as they come, for people or as one JSON value; who reads along need not wait for the last."""
    begun = False
    for row in rows:
        between = (",\n" if begun else "[\n") if as_json else ""
        typer.echo(between + (json.dumps(row, ensure_ascii=False) if as_json else _text(kind, row)), nl=not as_json)
        sys.stdout.flush()
        begun = True
    if as_json:
        typer.echo("\n]" if begun else "[]")


def _text(kind: str, row: dict[str, Any]) -> str:
    """A row for people who read along; of vectors, for programs."""
    if kind == "embed":
        return json_text(row)
    if kind == "extract":
        span = f"[{row['char_start']}, {row['char_end']})"
        return f"{row['field']}\t{row['normalized']}\t{span}\t{row['confidence']:.2f}\t{_shown(row['quote'], 120)}"
    heading = "" if row["level"] == "document" else f"[{row['char_start']}, {row['char_end']})\n"
    return heading + "\n".join(_shown(line, None) for line in row["text"].split("\n")) + "\n"


def _place(hit: dict[str, Any]) -> str:
    """Document, page, section and span, as far as they are known."""
    page = f", page {hit['page']}" if hit["page"] is not None else ""
    section = f", {hit['section']}" if hit["section"] else ""
    return f"{hit['document']}{page}{section} [{hit['char_start']}, {hit['char_end']})"


def _shown(text: str, width: int | None = _TEXT_WIDTH) -> str:
    line = safe(" ".join(text.split()))
    return line if width is None or len(line) <= width else line[: width - 1] + "…"
