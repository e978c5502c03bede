"""A run as workers see it: documents on disk, a tiny random model with a real tokenizer, and lives that end early."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import Tensor

import rwkv_runtime
from pipeline.documents import DocumentRef
from pipeline.outcome import Outcome
from pipeline.parts import STATES
from pipeline.work import Assignment, Progress, WorkerSpec
from pipeline.worker import Worker
from rwkv_runtime.identity import identify
from tests.rwkv_runtime.tiny import tiny_head, tiny_tensors

WINDOW = 64
CHECKPOINT_TOKENS = 100
BPE_VOCABULARY = 16_384
WORLD_VOCABULARY = 65_536
TOKENIZER = Path(rwkv_runtime.__file__).parent / "default" / "tokenizer.json"
TASKS: tuple[Mapping[str, Any], ...] = (
    {"name": "vectors", "type": "embed", "dims": None, "surprise": True},
    {"name": "gist", "type": "summarize", "seed": 0, "max_sentences": 3, "every": "section", "at_end": True},
    {"name": "keep", "type": "state", "at": ["end"], "boundary": True},
)
NOUNS = ("harbour", "engine", "contract", "naïve reader", "Straße", "river", "今天天气", "theorem", "window", "whale")
VERBS = ("keeps", "forgets", "measures", "carries", "describes", "opens", "doubts", "repeats")


def prose(sentences: int, seed: int = 0) -> str:
    """Markdown with that many different sentences, a heading before every tenth."""
    parts: list[str] = []
    for number in range(sentences):
        if number % 10 == 0:
            parts.append(f"\n\n## Part {number // 10 + seed}\n\n")
        noun, verb = NOUNS[(number * 7 + seed) % len(NOUNS)], VERBS[(number * 5 + seed) % len(VERBS)]
        parts.append(f"The {noun} {verb} number {number} of series {seed}. ")
        if number % 4 == 3:
            parts.append("\n\n")
    return "".join(parts)


def save_model(folder: Path, tensors: dict[str, Tensor], tokenizer: Path | None = TOKENIZER) -> str:
    """Write a model as a folder that `rwkv_runtime.load` reads; its path. Without a tokenizer it is a World model."""
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    if tokenizer is not None:
        shutil.copy(tokenizer, folder / "tokenizer.json")
    return str(folder)


def bpe_tensors() -> dict[str, Tensor]:
    """A tiny model with an embedding head, for the shipped tokenizer."""
    return tiny_tensors(vocabulary=BPE_VOCABULARY, layers=2) | tiny_head(vocabulary=BPE_VOCABULARY)


def document(path: Path, text: str | bytes, doc_id: str | None = None) -> DocumentRef:
    """Write a document and refer to it."""
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    status = path.stat()
    reader = "markdown" if path.suffix == ".md" else "text"
    return DocumentRef(doc_id or path.stem, path.name, str(path), status.st_size, status.st_mtime_ns, reader)


def worker_spec(run: Path, model: str, **changes: Any) -> WorkerSpec:
    """Small windows and frequent checkpoints."""
    run.mkdir(exist_ok=True)
    spec = WorkerSpec(
        run=str(run),
        run_id="run",
        spec_fingerprint="spec",
        model_source=model,
        model_fingerprint=identify(model).fingerprint,
        device="cpu",
        dtype="fp32",
        threads=1,
        window=WINDOW,
        lanes=1,
        pooling="auto",
        max_chars=2000,
        language=None,
        tasks=TASKS,
        checkpoint_tokens=CHECKPOINT_TOKENS,
        checkpoint_seconds=1e9,
        checkpoint_keep=2,
        doc_timeout=1e9,
    )
    return replace(spec, **changes)


@dataclass
class Lives:
    """Reads documents in one life after another, as a driver does that is killed and started again."""

    spec: WorkerSpec
    refs: Sequence[DocumentRef]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    tokens_fed: int = 0
    warnings: list[str] = field(default_factory=list)
    epoch: int = 0
    _worker: Worker | None = None
    _open: set[str] = field(default_factory=set)

    @property
    def worker(self) -> Worker:
        """The one alive."""
        assert self._worker is not None, "no life has begun"
        return self._worker

    def begin(self) -> None:
        """A new worker; the one before is gone with all that it has not written."""
        self._worker = Worker(self.spec)
        self._open = set()
        self.epoch += 1

    def step(self, rounds: int = 1) -> Progress:
        """So many windows of every open document, which are at most `lanes`, but not beyond the last."""
        progress = Progress((), (), 0, 0, 0)
        for _ in range(rounds):
            if len(self.outcomes) < len(self.refs):
                progress = self._advance()
        return progress

    def drain(self) -> Progress:
        progress = self.worker.drain()
        self._note(progress)
        return progress

    def to_the_end(self) -> Lives:
        """Read what is left in a new life."""
        self.begin()
        while len(self.outcomes) < len(self.refs):
            assert not self.step().fault
        return self

    def _advance(self) -> Progress:
        left = [ref for ref in self.refs if ref.doc_id not in self.outcomes and ref.doc_id not in self._open]
        new = left[: max(self.spec.lanes - len(self._open), 0)]
        self._open |= {ref.doc_id for ref in new}
        progress = self.worker.advance([Assignment(ref, self.epoch, 1) for ref in new], seconds=0.0)
        self._note(progress)
        return progress

    def _note(self, progress: Progress) -> None:
        self.tokens_fed += progress.tokens_fed
        self.warnings.extend(progress.warnings)
        for outcome in progress.outcomes:
            assert outcome.doc_id not in self.outcomes
            self.outcomes[outcome.doc_id] = outcome
            self._open.discard(outcome.doc_id)


Rows = dict[str, pa.Table | bytes]


def rows_of(run: Path | str, outcome: Outcome) -> Rows:
    """What came of a document: its tables, parts joined in their order, and its kept states by their names."""
    tables: dict[str, list[pa.Table]] = {}
    found: Rows = {}
    for part in outcome.parts:
        path = Path(run) / part.path
        if part.table == STATES:
            found[str(part.name)] = path.read_bytes()
        else:
            tables.setdefault(part.table, []).append(pq.read_table(path))
    return found | {name: pa.concat_tables(parts).combine_chunks() for name, parts in tables.items()}


def all_rows(lives: Lives) -> dict[str, Rows]:
    return {doc_id: rows_of(lives.spec.run, outcome) for doc_id, outcome in sorted(lives.outcomes.items())}


def assert_same_rows(found: Mapping[str, Rows], expected: Mapping[str, Rows], but: Iterable[str] = ()) -> None:
    """Bit for bit, apart from the documents named by `but`."""
    assert found.keys() == expected.keys()
    for doc_id in found.keys() - set(but):
        assert found[doc_id].keys() == expected[doc_id].keys()
        for name, rows in found[doc_id].items():
            if isinstance(rows, bytes):
                assert rows == expected[doc_id][name], (doc_id, name)
            else:
                assert bits(rows) == bits(expected[doc_id][name]), (doc_id, name)


def bits(rows: pa.Table | bytes) -> bytes:
    """A table as bytes: unlike `==` on tables, it tells -0.0 from 0.0."""
    assert isinstance(rows, pa.Table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return bytes(sink.getvalue())
