"""One document of a finished run, in the order of its text: summaries, extractions and failures, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.errors import safe
from jobs.manifest import called, read_manifests
from jobs.report.help import help_for
from jobs.rows import rows_of
from jobs.run_directory import RunDirectory
from pipeline.durable import Disk


@dataclass(frozen=True)
class DocumentView:
    """A document's row of `documents`, and what the other tables have of it."""

    document: Mapping[str, Any]
    summaries: Sequence[Mapping[str, Any]]
    extractions: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def view_of(path: Path, document: str) -> DocumentView:
    """Look a document up by any of its names. Raises JobError: exit 6 (no finished run), 2 (no such document)."""
    import pyarrow.dataset as ds

    run = RunDirectory.open(path, Disk())
    if not (run.output / "documents").is_dir():
        raise run.not_finished()
    doc_id = called(read_manifests(run.manifests()), document).doc_id
    mine = ds.field("doc_id") == doc_id
    found = rows_of(run, "documents", mine)
    if not found:
        raise run.not_finished()
    return DocumentView(
        document={**found[0], "metadata": dict(found[0]["metadata"] or ())},
        summaries=rows_of(run, "summaries", mine),
        extractions=rows_of(run, "extractions", mine),
        failures=rows_of(run, "failures", mine),
    )


def lines_of(view: DocumentView, width: int) -> Iterator[str]:
    """The view as lines of at most `width` columns."""
    row = view.document
    yield safe(f"{row['title'] or row['source_uri']}")
    facts = [
        row["source_uri"],
        row["status"],
        f"{row['tokens_read'] or 0:,} tokens",
        f"coverage {row['coverage'] or 0:.4f}",
    ]
    yield safe("  " + " · ".join(facts))
    for failure in view.failures:
        what_helps = help_for(failure["error_type"], row["source_uri"]).words
        yield from _passage(f"failed ({failure['error_type']})", f"{failure['message'] or ''}\n{what_helps}.", width)
    items = [(row["char_start"], f"{row['task']}, {row['level']}", row["text"]) for row in view.summaries]
    items += [(row["char_start"], f"{row['task']}.{row['field']}", row["quote"]) for row in view.extractions]
    for start, what, text in sorted(items, key=lambda item: item[0]):
        yield from _passage(f"{what} at {start:,}", text or "", width)


def _passage(label: str, text: str, width: int) -> Iterator[str]:
    yield ""
    yield safe(f"[{label}]")
    for paragraph in text.splitlines():
        yield from (safe(line) for line in textwrap.wrap(" ".join(paragraph.split()), max(width - 2, 20)))
