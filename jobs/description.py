"""What the files of a run say of themselves: the tables' schemas with their metadata, and dataset.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.finalize import Description
from jobs.ledger import LedgerView
from jobs.prepare import Job, versions
from pipeline.language import SENTENCE_RULES

if TYPE_CHECKING:
    import pyarrow as pa


def schemas_of(job: Job, view: LedgerView) -> Mapping[str, pa.Schema]:
    """The tables of a run, with what their files say of themselves."""
    from pipeline import tables

    spec = job.spec
    facts = _worker_facts(view)
    embed = next((task for task in spec.tasks if task.type == "embed"), None)
    dimensions = (embed.dims if embed else None) or int(facts.get("dimensions", 0))
    dtype = embed.dtype if embed else "float32"
    known = {
        "documents": tables.DOCUMENTS,
        "sentences": tables.sentences(dimensions, dtype),
        "summaries": tables.SUMMARIES,
        "extractions": tables.EXTRACTIONS,
        "failures": tables.FAILURES,
    }
    marks = _marks(job, facts, dimensions, dtype)
    return {name: known[name].with_metadata(marks) for name in tables_of(job)}


def description_of(job: Job, view: LedgerView) -> Description:
    """What dataset.json says of a run: nothing of when or where it took place."""
    facts = _worker_facts(view)
    return Description(
        job.spec.name,
        {
            "schema": 1,
            "fingerprint": job.fingerprint,
            "model": {
                "fingerprint": job.model.fingerprint,
                "generation": facts.get("generation", ""),
                "dtype": facts.get("dtype", "fp32"),
            },
            "tokenizer": job.model.tokenizer_sha256,
            "embedding": {"pooling": facts.get("pooling", ""), "normalized": True, "context": _context(job)},
            "spec": job.spec.semantic(),
            "offsets": "half-open; bytes and code points of the decoded document text, tokens of its encoding",
        },
    )


def _context(job: Job) -> str:
    """What the model had read of a document when it met a sentence: all before it, or the sentence alone."""
    isolated = any(task.type == "embed" and task.pooling == "isolated" for task in job.spec.tasks)
    return "sentence" if isolated else "document"


def _worker_facts(view: LedgerView) -> Mapping[str, str]:
    """What the workers that reported last said of how they compute; nothing if none was ever needed."""
    reported = list(view.numerics.values())
    return reported[-1] if reported else {}


def _marks(job: Job, facts: Mapping[str, str], dimensions: int, dtype: str) -> dict[str, str]:
    rules = f"rules {SENTENCE_RULES}, language {job.spec.split.language}"
    return {
        "unspool.schema": "1",
        "unspool.fingerprint": job.fingerprint,
        "unspool.model": job.model.fingerprint,
        "unspool.tokenizer": job.model.tokenizer_sha256,
        "unspool.split": f"sentencex {versions().get('sentencex', '')}, {rules}",
        "unspool.embedding": json.dumps(
            {
                "dimensions": dimensions,
                "dtype": dtype,
                "layer": "last",
                "pooling": facts.get("pooling", ""),
                "normalized": True,
                "metric": "cosine",
                "context": _context(job),
            },
            sort_keys=True,
        ),
        "unspool.offsets": "half-open; byte: UTF-8 of the decoded text, char: code points, token: of the encoding",
    }


def tables_of(job: Job) -> list[str]:
    """The names of the tables that a job makes."""
    kinds = {task.type for task in job.spec.tasks}
    made = {"embed": "sentences", "summarize": "summaries", "extract": "extractions"}
    return sorted({"documents", "failures", *(made[kind] for kind in kinds if kind in made)})
