"""A whole run without a model: a document's state is a hash chain over its lines, so a lost or doubled line shows.

The real ledger, run directory, manifest and finalise around it, in the order in which a driver uses them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import JobError
from jobs.finalize import Cut, Description, finalize, materialise_states
from jobs.ledger import RunLedger
from jobs.manifest import InputPattern, ManifestEntry, expand, read_manifest, write_manifest
from jobs.records import Done, Epoch, Finished, Quarantine
from jobs.run_directory import RunDirectory, RunInfo, storage_errors
from pipeline import tables
from pipeline.durable import Disk, Faults, Point, sha256_hex
from pipeline.parts import Part

DIMENSIONS = 4
SCHEMAS: Mapping[str, pa.Schema] = {
    "documents": tables.DOCUMENTS,
    "sentences": tables.sentences(DIMENSIONS).with_metadata({"model": "fake"}),
    "summaries": tables.SUMMARIES,
    "failures": tables.FAILURES,
}
CUTS = {"sentences": Cut(4, 8), "documents": Cut(2, 4)}
DESCRIPTION = Description("Fake corpus", {"model": {"fingerprint": "fake"}, "units": "half-open"})
SAVE_EVERY = 3


def quick_disk(faults: str = "") -> Disk:
    """A disk that is never flushed: for tests in which processes die, but never the machine."""
    return Disk(Faults.parse(faults), flush=lambda _: None)


def make_corpus(folder: Path, documents: int = 4) -> None:
    """Documents of different lengths, and an empty one that cannot be read."""
    for number in range(documents):
        lines = "".join(f"line {line} of {number}\n" for line in range(3 + 4 * number))
        (folder / f"doc{number}.txt").write_text(lines, encoding="utf-8")
    (folder / "empty.txt").touch()


def new_run(folder: Path, disk: Disk) -> RunDirectory:
    info = RunInfo("run-1", str(folder), {"tasks": ["vectors"]}, "s", "m", "t", {"unspool": "0"}, "1970-01-01")
    return RunDirectory.create(folder / "run", disk, info)


def parquet_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, write_page_checksum=True)
    return bytes(sink.getvalue())


def publish(run: RunDirectory, table: str, name: str, data: bytes, rows: int, state: str = "") -> Part:
    path = run.parts / table / name
    run.disk.make_folder(path.parent)
    run.disk.reach(Point.PART_BEFORE_WRITE)
    run.disk.publish(path, data)
    run.disk.reach(Point.PART_AFTER_WRITE)
    return Part(path.relative_to(run.path).as_posix(), table, len(data), sha256_hex(data), rows, state)


def sentence(doc_id: str, index: int, text: str, state: str) -> dict[str, Any]:
    """A row of `sentences`."""
    vector = [byte / 255 for byte in bytes.fromhex(state)[:DIMENSIONS]]
    spans = dict.fromkeys(("byte_start", "byte_end", "char_start", "char_end", "token_start", "token_end"), index)
    named = {"id": f"{doc_id}#s{index:07d}", "doc_id": doc_id, "index": index, "text": f"{text} {state}"}
    return {**named, **spans, "page": None, "section": "S", "nll": None, "is_final": True, "embedding": vector}


def rows_of(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in rows], schema=schema)


@dataclass
class Standing:
    """Where the reading of a document stands; what a checkpoint holds."""

    line: int = 0
    state: str = "0" * 64
    pending: list[dict[str, Any]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Driver:
    """One life of the program. `part_rows` is how many rows a part gets."""

    folder: Path
    disk: Disk
    part_rows: int
    run: RunDirectory
    ledger: RunLedger
    unique: Iterator[int]

    def say(self, text: str) -> None:
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            log.write(text + "\n")

    def checkpoints(self, doc_id: str) -> list[Path]:
        """The checkpoints whose content is whole and whose parts are there, newest first."""
        paths = sorted((self.run.checkpoints / doc_id).glob("*.arrow"), reverse=True)
        return [path for path in paths if self.is_whole(path)]

    def is_whole(self, path: Path) -> bool:
        """A driver that was fenced off may still write one, which names parts that have been cleared away."""
        data = path.read_bytes()
        named = json.loads(data)["parts"] if path.stem.endswith(sha256_hex(data)[:32]) else None
        return named is not None and all((self.run.path / part["path"]).is_file() for part in named)

    def standing(self, doc_id: str) -> Standing:
        saved = self.checkpoints(doc_id)
        return Standing(**json.loads(saved[0].read_bytes())) if saved else Standing()

    def still_needed(self, entry: ManifestEntry) -> set[str]:
        saved = {path.relative_to(self.run.path).as_posix() for path in self.checkpoints(entry.doc_id)}
        return saved | {part["path"] for part in self.standing(entry.doc_id).parts}

    def mark(self, doc_id: str, number: int) -> str:
        return f"{doc_id}-s{number:05d}-e{self.ledger.epoch}a1-{next(self.unique):08x}"

    def save(self, doc_id: str, standing: Standing) -> None:
        data = json.dumps(asdict(standing)).encode()
        folder = self.run.checkpoints / doc_id
        self.disk.make_folder(folder)
        name = f"{standing.line:012d}-e{self.ledger.epoch}a1-{sha256_hex(data)[:32]}.arrow"
        self.disk.reach(Point.CHECKPOINT_BEFORE_WRITE)
        self.disk.publish(folder / name, data)
        self.disk.reach(Point.CHECKPOINT_AFTER_WRITE)

    def flush(self, doc_id: str, standing: Standing) -> None:
        table = rows_of(SCHEMAS["sentences"], standing.pending)
        name = self.mark(doc_id, len(standing.parts)) + ".parquet"
        part = publish(self.run, "sentences", name, parquet_bytes(table), table.num_rows)
        standing.parts.append(asdict(part))
        standing.pending = []

    def one_row(self, doc_id: str, table: str, row: dict[str, Any]) -> Part:
        rows = rows_of(SCHEMAS[table], [{"doc_id": doc_id, **row}])
        return publish(self.run, table, self.mark(doc_id, 0) + ".parquet", parquet_bytes(rows), 1)

    def read(self, entry: ManifestEntry) -> Finished:
        doc_id = entry.doc_id
        standing = self.standing(doc_id)
        self.say(f"open {doc_id} {standing.line}")
        lines = entry.path(self.folder).read_text(encoding="utf-8").splitlines()
        while standing.line < len(lines):
            text = lines[standing.line]
            standing.state = hashlib.sha256(f"{standing.state}{text}".encode()).hexdigest()
            standing.pending.append(sentence(doc_id, standing.line, text, standing.state))
            standing.line += 1
            if len(standing.pending) >= self.part_rows:
                self.flush(doc_id, standing)
            if standing.line % SAVE_EVERY == 0:
                self.save(doc_id, standing)
        if standing.pending:
            self.flush(doc_id, standing)
        row = {"source_uri": entry.uri, "status": "ok", "coverage": 1.0, "tokens": len(lines)}
        state_name = self.mark(doc_id, 0) + ".arrow"
        state = publish(self.run, "states", state_name, standing.state.encode(), 0, f"{doc_id}.end.arrow")
        parts = (*(Part(**part) for part in standing.parts), self.one_row(doc_id, "documents", row), state)
        return Finished(doc_id, "ok", parts, tokens=len(lines))

    def give_up(self, entry: ManifestEntry) -> Quarantine:
        row = self.one_row(entry.doc_id, "documents", {"source_uri": entry.uri, "status": "failed", "coverage": 0.0})
        failure = {"id": f"{entry.doc_id}#f0", "source_uri": entry.uri, "error_type": "empty", "retryable": False}
        parts = (row, self.one_row(entry.doc_id, "failures", failure))
        return Quarantine(Finished(entry.doc_id, "failed", parts), "empty", retryable=False)

    def commit(self, group: list[Finished]) -> None:
        if group:
            self.ledger.commit(Done(tuple(group)))
        for document in group:
            self.say(f"ack {document.doc_id}")
            for path in (self.run.checkpoints / document.doc_id).glob("*"):
                self.disk.remove(path)

    def work(self, manifest: list[ManifestEntry]) -> None:
        group: list[Finished] = []
        for entry in manifest:
            if self.ledger.view.finished(entry.doc_id):
                continue
            if entry.size == 0:
                self.ledger.commit(self.give_up(entry))
                continue
            group.append(self.read(entry))
            if len(group) == 2:
                self.commit(group)
                group = []
        self.commit(group)


def drive(folder: Path, disk: Disk, part_rows: int = 5) -> None:
    """Run, or go on with, the run in `folder`/run. Raises JobError."""
    path = folder / "run"
    run = RunDirectory.open(path, disk) if RunDirectory.exists(path) else new_run(folder, disk)
    run.prepare()
    with run.lock(), storage_errors(path):
        if not run.manifest.exists():
            pattern = InputPattern(str(folder / "*.txt"))
            write_manifest(run.manifest, expand([pattern], folder, None, lambda _: "text"), disk)
        manifest = read_manifest(run.manifest)
        owner = Epoch.of_this_process("run", {})
        ledger = RunLedger.take_over(RunLedger.read(run.ledger), disk, run.torn_records, owner)
        unique = count(sum(1 for _ in run.parts.rglob("*")))
        driver = Driver(folder, disk, part_rows, run, ledger, unique)
        open_documents = [entry for entry in manifest if not ledger.view.finished(entry.doc_id)]
        needed = ledger.view.parts().union(*(driver.still_needed(entry) for entry in open_documents))
        run.collect_garbage(needed, ledger.epoch)
        driver.work(manifest)
        materialise_states(run, ledger.view)
        if ledger.view.final is None:
            finalize(run, ledger, manifest, SCHEMAS, DESCRIPTION, CUTS)


def main(folder: str, faults: str, part_rows: int) -> None:
    """The program: exits with the code of the JobError, if any."""
    try:
        drive(Path(folder), quick_disk(faults), part_rows)
    except JobError as error:
        sys.exit(int(error.exit_code))


def result(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in output/ and states/, by path."""
    run = folder / "run"
    paths = [*(run / "output").rglob("*"), *(run / "states").rglob("*")]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in paths if path.is_file()}
