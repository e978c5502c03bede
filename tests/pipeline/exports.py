"""Tables with all that makes handing rows on hard, and a PostgreSQL server for as long as a test lasts."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import tables
from pipeline.exported import Dataset, ExportTable, open_table

HOSTILE = (
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=x", "'quoted'", '"double", comma', "", " ", "\\N", "\\.", "\\"),
    *("a\nb\r\nc\td", "back\\slash\\u0000", "naïve 中文 🙂 \u2028", "\ufeffbom", "plain", "NULL", "a;b", "x" * 5000),
)


def sentences(rows: int, dims: int, seed: int = 0) -> pa.Table:
    """A table of sentences with hostile texts and random vectors of length 1."""
    vectors = np.random.RandomState(seed).randn(rows, dims).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = {
        "id": [f"d{seed}#s{row:07d}" for row in range(rows)],
        "doc_id": [f"d{row % 3}" for row in range(rows)],
        "index": list(range(rows)),
        "text": [HOSTILE[row % len(HOSTILE)] for row in range(rows)],
        "page": [row if row % 2 else None for row in range(rows)],
        "section": [None if row % 5 else "=section" for row in range(rows)],
        "nll": [row / 3 - 1 if row % 4 else None for row in range(rows)],
        "is_final": [row % 2 == 0 for row in range(rows)],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dims),
    }
    schema = tables.sentences(dims)
    spans = {field.name: [2**40 + row for row in range(rows)] for field in schema if field.name not in made}
    return pa.table({field.name: ({**made, **spans})[field.name] for field in schema}, schema=schema)


def documents() -> pa.Table:
    """Documents with metadata: some, none, null, and of names that need care."""
    known = [[("author", "=cmd|' /C calc'!A0"), ('a "b"\\', "x\ny\\")], [], None]
    rows = [
        dict.fromkeys(tables.DOCUMENTS.names)
        | {"doc_id": f"d{row}", "title": HOSTILE[row], "coverage": 1 / 3, "metadata": known[row]}
        for row in range(3)
    ]
    return pa.Table.from_pylist(rows, schema=tables.DOCUMENTS)


def summaries() -> pa.Table:
    cited = [[{"char_start": 1, "char_end": 2, "sentence_id": "s\t1"}], [], None]
    rows = [dict.fromkeys(tables.SUMMARIES.names) | {"id": f"s{n}", "citations": cited[n]} for n in range(3)]
    return pa.Table.from_pylist(rows, schema=tables.SUMMARIES)


def stored(folder: Path, name: str, *parts: pa.Table, dims: int | None = None) -> ExportTable:
    """A table in one file a part, in row groups of eight rows."""
    (folder / name).mkdir(parents=True)
    paths = [folder / name / f"part-{number:05d}-of-{len(parts):05d}.parquet" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        pq.write_table(part, path, row_group_size=8, write_page_checksum=True)
    return open_table(name, paths, dims)


def hard_dataset(folder: Path, dims: int = 6) -> Dataset:
    """Four tables, one of two files, one without rows."""
    return Dataset(
        'A "title": with\nlines',
        (
            stored(folder, "documents", documents()),
            stored(folder, "failures", tables.FAILURES.empty_table()),
            stored(folder, "sentences", sentences(30, dims), sentences(11, dims, seed=1)),
            stored(folder, "summaries", summaries()),
        ),
    )


def rows_in(table: ExportTable) -> list[dict[str, Any]]:
    """What stands in the files of a table, read without what is tested; maps are dicts."""
    rows: list[dict[str, Any]] = pa.concat_tables(pq.read_table(file) for file in table.files).to_pylist()
    maps = [field.name for field in table.schema if pa.types.is_map(field.type) or field.name == "metadata"]
    for row in rows:
        row.update({name: dict(row[name]) for name in maps if row[name] is not None})
    return rows


def in_float32(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their numbers of float32 columns brought back to it."""
    for row in rows:
        if "embedding" in row:
            row["embedding"] = np.float32(row["embedding"]).tolist()
            row["nll"] = None if row["nll"] is None else float(np.float32(row["nll"]))
    return rows


def postgres_programs() -> Path | None:
    """The folder of a PostgreSQL that has pgvector, or None."""
    known = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True))]
    for program in known:
        if program:
            folder = Path(program).resolve().parent
            said = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True).stdout.strip()
            if (Path(said) / "extension" / "vector.control").exists():
                return folder
    return None


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """A server of its own that listens on a socket only; gives the connection string. It never runs as root."""
    user = "nobody" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="unspool-pg-"))
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

    def call(*words: str) -> None:
        subprocess.run(words, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    data, control = str(folder / "data"), str(programs / "pg_ctl")
    try:
        call(str(programs / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        call(control, "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"host={folder} user=tester dbname=postgres"
        finally:
            call(control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
