"""What the files of a run say of themselves: the tables' schemas with their metadata, and dataset.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.embed_task import EmbedTask
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
    sentences = next((task for task in spec.tasks if isinstance(task, EmbedTask) and task.unit == "sentence"), None)
    others = next((task for task in spec.tasks if isinstance(task, EmbedTask) and task.unit != "sentence"), None)
    known = {
        "documents": tables.DOCUMENTS,
        "sentences": tables.sentences(_dimensions(sentences, facts), sentences.dtype if sentences else "float32"),
        "vectors": tables.vectors(_dimensions(others, facts), others.dtype if others else "float32"),
        "summaries": tables.SUMMARIES,
        "extractions": tables.EXTRACTIONS,
        "failures": tables.FAILURES,
        "contexts": tables.CONTEXTS,
    }
    marks = _marks(job, facts)
    embedded = {"sentences": _embedding(sentences, facts), "vectors": _embedding(others, facts)}
    usual = _embedding(sentences or others, facts)
    return {
        name: known[name].with_metadata({**marks, "unspool.embedding": embedded.get(name, usual)})
        for name in tables_of(job)
    }


def _dimensions(task: EmbedTask | None, facts: Mapping[str, str]) -> int:
    """Of the vectors of a task: those of the model or fewer, twice where a pooling puts two behind each other."""
    return _halves(task) * ((task.dims if task else None) or int(facts.get("dimensions", 0)))


def _halves(task: EmbedTask | None) -> int:
    return 2 if task is not None and "+" in task.pooling else 1


def description_of(job: Job, view: LedgerView) -> Description:
    """What dataset.json says of a run: nothing of when or where it took place."""
    facts = _worker_facts(view)
    embed = next((task for task in job.spec.tasks if isinstance(task, EmbedTask)), None)
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
            "embedding": {"pooling": facts.get("pooling", ""), "normalized": True, "context": _context(embed)},
            "spec": job.spec.semantic(),
            "offsets": "half-open; bytes and code points of the decoded document text, tokens of its encoding",
        },
    )


def _context(task: EmbedTask | None) -> str:
    """What the model had read when it met a unit: the document before it, nothing but the unit, or either."""
    if task is None or task.pooling in ("auto", "span"):
        return "document"
    return f"document, {task.unit}" if "+" in task.pooling else task.unit


def _worker_facts(view: LedgerView) -> Mapping[str, str]:
    """What the workers that reported last said of how they compute; nothing if none was ever needed."""
    reported = list(view.numerics.values())
    return reported[-1] if reported else {}


def _marks(job: Job, facts: Mapping[str, str]) -> dict[str, str]:
    rules = f"rules {SENTENCE_RULES}, language {job.spec.split.language}"
    return {
        "unspool.schema": "1",
        "unspool.fingerprint": job.fingerprint,
        "unspool.model": job.model.fingerprint,
        "unspool.tokenizer": job.model.tokenizer_sha256,
        "unspool.split": f"sentencex {versions().get('sentencex', '')}, {rules}",
        "unspool.offsets": "half-open; byte: UTF-8 of the decoded text, char: code points, token: of the encoding",
    }


def _embedding(task: EmbedTask | None, facts: Mapping[str, str]) -> str:
    """What the vectors of a table are, as JSON."""
    marks = {
        "dimensions": _dimensions(task, facts),
        "dtype": task.dtype if task else "float32",
        "layer": "last",
        "pooling": facts.get("pooling", ""),
        "read": task.pooling if task else "auto",
        "profile": task.profile_sha256 if task else None,
        "normalized": True,
        "metric": "cosine",
        "context": _context(task),
    }
    return json.dumps(marks, sort_keys=True)


def tables_of(job: Job) -> list[str]:
    """The names of the tables that a job makes."""
    made = {"embed": "sentences", "summarize": "summaries", "extract": "extractions"}
    found = {made[task.type] for task in job.spec.tasks if task.type in made and not _is_of_units(task)}
    if any(map(_is_of_units, job.spec.tasks)):
        found.add("vectors")
    if job.spec.policy != "carry":
        found.add("contexts")
    return sorted({"documents", "failures", *found})


def _is_of_units(task: object) -> bool:
    return isinstance(task, EmbedTask) and task.unit != "sentence"
