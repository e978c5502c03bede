"""One bad document at a time among twenty good ones, whose rows and states must be those of a run without it.

The cases are those of tests/jobs/bad_documents.py (texts, PDFs, containers) and of tests/jobs/test_path_cases.py
(links, pipes, names, files in motion). That all of them together harm nobody is shown there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import Disk
from tests.jobs import bad_documents, test_path_cases
from tests.jobs.bad_documents import OK, in_the_wild
from tests.jobs.project import Project, contents, prose

GOOD = 20
TABLES = ("documents", "sentences", "summaries")
_NEED_EACH_OTHER = ("round.txt", "about.txt")


@dataclass(frozen=True)
class Bad:
    """A bad file. `ends`: how the documents in it may end, by name; `inputs`: what the job says of it, by its name."""

    file: str
    make: Callable[[Path], object]
    ends: Mapping[str, str]
    inputs: tuple[Mapping[str, object], ...] = ()


def cases() -> list[Bad]:
    """All of the matrix, each file once: records that stand in one file are one case."""
    files: dict[str, list[bad_documents.Case]] = {}
    for case in bad_documents.CASES:
        files.setdefault(case.file.split("#")[0], []).append(case)
    documents = [
        Bad(file, found[0].write, {case.file: case.end for case in found}, (found[0].inputs,) * bool(found[0].inputs))
        for file, found in files.items()
    ]
    paths = [
        Bad(case.name, case.make, {case.name: case.reason}, ({},) * (case.name in test_path_cases.NAMED))
        for case in test_path_cases.CASES
        if case.reason != OK and case.name not in _NEED_EACH_OTHER
    ]
    return documents + paths


class Company:
    """Twenty good documents, and what a run over them alone has made of them."""

    def __init__(self, folder: Path) -> None:
        self._project = Project(folder / "project")
        self._project.write_model()
        for number in range(GOOD):
            self._project.document(f"good-{number}.txt", prose(2 + number % 5, seed=number))
        self._run("golden", [])
        out = self._project.folder / "golden"
        self._ids = frozenset(pq.read_table(out / "output" / "documents").column("doc_id").to_pylist())
        self._expected = self._of_the_good(out)

    def joined_by(self, bad: Bad) -> str:
        """Run over all of them and one bad file; what is wrong with the good ones' rows, or with how that one ends."""
        path = self._project.folder / "docs" / bad.file
        bad.make(path)
        try:
            code = self._run("out", [{"path": f"docs/{bad.file}", **told} for told in bad.inputs])
            return self._wrong(bad, self._project.folder / "out", code)
        finally:
            shutil.rmtree(self._project.folder / "out", ignore_errors=True)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    def _run(self, out: str, named: list[dict[str, object]]) -> int:
        self._project.write_job(
            model={"source": "models/tiny.pth"},
            inputs=[*named, {"path": "docs/*"}],
            output={"path": out},
            on_error={"max_failed": 1.0, "page_timeout": 20},
            run={"workers": 0, "window": 64, "lanes": 8},
        )
        with in_the_wild(), test_path_cases.in_motion(self._project.folder):
            return self._project.run().code

    def _wrong(self, bad: Bad, out: Path, code: int) -> str:
        if code not in (0, 3):
            return f"exit code {code}"
        if self._of_the_good(out) != self._expected:
            return "other documents have other rows"
        ends = dict(self._ends(out))
        for name, end in bad.ends.items():
            if ends.get(f"docs/{name}") not in end.split("|"):
                return f"{name} ends as {ends.get(f'docs/{name}')}, not as {end}"
        return "; ".join(verify(RunDirectory.open(out, Disk())))

    @staticmethod
    def _ends(out: Path) -> Iterator[tuple[str, str]]:
        failures = pq.read_table(out / "output" / "failures").to_pylist()
        why = {row["doc_id"]: row["error_type"] for row in failures}
        for row in pq.read_table(out / "output" / "documents").to_pylist():
            yield row["source_uri"], why.get(row["doc_id"], row["status"])

    def _of_the_good(self, out: Path) -> dict[str, object]:
        """The bytes of their rows by table, and the hashes of their states."""
        states = {name: digest for name, digest in contents(out / "states").items() if name.split(".")[0] in self._ids}
        return {table: self._rows(out, table) for table in TABLES} | {"states": states}

    def _rows(self, out: Path, name: str) -> bytes:
        table = pq.read_table(out / "output" / name)
        return bytes_of(table.filter(pc.is_in(table["doc_id"], pa.array(sorted(self._ids)))))


def bytes_of(table: pa.Table) -> bytes:
    """The rows of a table as bytes, however many batches they lie in."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
        for batch in table.combine_chunks().replace_schema_metadata(None).to_batches():
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def bad_company(seeds: range, folder: Path) -> Iterator[str]:
    """What was wrong with the good documents beside each of the cases, or with how it ended."""
    company, found = Company(folder), cases()
    for seed in seeds:
        bad = found[seed % len(found)]
        wrong = company.joined_by(bad)
        yield f"{bad.file!a}: {wrong}" if wrong else ""
