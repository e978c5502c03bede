"""Kept states of a run: what there is, whether it is whole, how two differ, one handed out, what is left over removed.

A state is a value: nothing here or in `unspool ask` ever writes one. Knows nothing of tensors; torch is not loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import ExitCode, JobError, usage_error
from jobs.finalize import read_part, state_path
from jobs.ledger import RunLedger
from jobs.manifest import ManifestEntry, names, read_manifests
from jobs.records import Finished
from jobs.run_directory import RunDirectory, storage_errors
from jobs.verify import state_differences
from pipeline.durable import Disk, read_bytes, sha256_hex
from pipeline.parts import STATES, Part
from rwkv_runtime.errors import StateError

if TYPE_CHECKING:
    from rwkv_runtime.state_file import StateFile, TensorDifference

_SUFFIX: Final = ".arrow"


@dataclass(frozen=True)
class KeptState:
    """A state that a run has kept. `kind` is `end`, `boundary`, or `standing`: where a grown document is read on.

    `tokens` of the document stand before it. A standing holds more than a state, so it can be listed and not inspected.
    """

    doc_id: str
    uri: str
    kind: str
    path: str
    bytes: int
    sha256: str
    tokens: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def list_states(path: Path) -> list[KeptState]:
    """The states that the ledger names, in the order of the documents. Raises JobError (exit 4, 6)."""
    run = RunDirectory.open(path, Disk())
    return [_kept(run, entry, part) for entry, part in _parts(run)]


def inspect_state(path: Path) -> dict[str, Any]:
    """What a state file holds, as a JSON value. Raises JobError (exit 2, 6)."""
    found = _read(path)
    return {
        "path": str(path),
        "generation": found.generation,
        "model_fingerprint": found.model_fingerprint,
        "tokens_seen": found.tokens_seen,
        "bytes": path.stat().st_size,
        "tensor_bytes": found.nbytes,
        "sha256": sha256_hex(read_bytes(path)),
        "tensors": {name: list(tensor.shape) for name, tensor in found.tensors.items()},
    }


def verify_states(path: Path) -> list[str]:
    """What is wrong with a state file, or with the kept states of a run, a line each.

    Raises JobError (exit 2, 4, 6).
    """
    if not path.is_dir():
        _read(path)
        return []
    run = RunDirectory.open(path, Disk())
    view = RunLedger.read(run.ledger)
    documents = [document for doc_id in sorted(view.finished_ids()) if (document := view.finished(doc_id))]
    lines = [line for document in documents for line in _differences(run, document, view.final is not None)]
    return [
        *lines,
        *(f"states/{name}: the ledger does not name it; `unspool state gc` removes it" for name in _left(run)),
    ]


def compare_states(one: Path, other: Path) -> list[TensorDifference]:
    """How two state files of one model differ. Raises JobError: exit 2, 6 for a file, 4 for different models."""
    from rwkv_runtime.state_file import compare

    first, second = _read(one), _read(other)
    try:
        return compare(first, second)
    except StateError as error:
        raise JobError("STATE-OTHER-MODEL", str(error), exit_code=ExitCode.OTHER_SPEC) from error


def export_state(path: Path, document: str, kind: str, target: Path) -> Path:
    """Copy a kept state, named by its document's id or address, to a new file. Raises JobError (exit 2, 4, 6)."""
    run = RunDirectory.open(path, Disk())
    meant = names(document)
    mine = [(entry, part) for entry, part in _parts(run) if meant & {entry.doc_id, entry.uri}]
    kinds = {_kind(entry, part): part for entry, part in mine}
    if kind not in kinds:
        there = f"it has {', '.join(sorted(kinds))}" if kinds else "the run has kept none of such a document"
        raise usage_error("STATE-NONE", f"no state `{kind}` of {document!r}; {there}", str(path))
    data = read_part(run, kinds[kind])
    with storage_errors(target):
        try:
            run.disk.put_if_absent(target.absolute(), data)
        except FileExistsError:
            raise usage_error("STATE-EXISTS", "there is a file already; name another one", str(target)) from None
    return target


def collect_states(path: Path, only_say: bool) -> list[str]:
    """Remove the files in `states/` that the ledger does not name, unless they are only to be said; their names.

    Raises JobError (exit 4, 5, 6).
    """
    run = RunDirectory.open(path, Disk())
    with run.lock(), storage_errors(path):
        names = _left(run)
        for name in () if only_say else names:
            run.disk.remove(run.states / name)
    return names


def _parts(run: RunDirectory) -> Iterator[tuple[ManifestEntry, Part]]:
    view = RunLedger.read(run.ledger)
    for entry in read_manifests(run.manifests()):
        document = view.finished(entry.doc_id)
        yield from ((entry, part) for part in (document.parts_of(STATES) if document else ()))


def _kept(run: RunDirectory, entry: ManifestEntry, part: Part) -> KeptState:
    path = state_path(run, part)
    there = path if path.is_file() else run.locate(part.path)  # an unfinished run has not given them their names
    tokens = _tokens(there)
    return KeptState(entry.doc_id, entry.uri, _kind(entry, part), str(there), part.bytes, part.sha256, tokens)


def _kind(entry: ManifestEntry, part: Part) -> str:
    return (part.name or "").removeprefix(f"{entry.doc_id}.").removesuffix(_SUFFIX)


def _tokens(path: Path) -> int:
    """How many tokens stand before a state, by what its file says of itself."""
    import json

    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            marks = pa.ipc.open_file(file).schema.metadata or {}
            return int(marks[b"tokens"] if b"tokens" in marks else json.loads(marks[b"header"])["tokens_seen"])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        message = f"cannot be read: {error}; `unspool verify RUN` says what is damaged"
        raise JobError("STATE-DAMAGED", message, exit_code=ExitCode.ENVIRONMENT, where=str(path)) from error


def _differences(run: RunDirectory, document: Finished, is_final: bool) -> Iterator[str]:
    if is_final:
        yield from state_differences(run, document)
        return
    for part in document.parts_of(STATES):
        try:
            read_part(run, part)
        except JobError as error:
            yield str(error)


def _left(run: RunDirectory) -> list[str]:
    named = {part.name for _, part in _parts(run)}
    there = (path.name for path in run.states.iterdir()) if run.states.is_dir() else ()
    return sorted(name for name in there if name.endswith(_SUFFIX) and name not in named)


def _read(path: Path) -> StateFile:
    from rwkv_runtime.state_file import read_state_file

    if not path.is_file():
        raise usage_error("STATE", "no such file; `unspool state ls RUN` names those of a run", str(path))
    with _state_errors():
        return read_state_file(path)


@contextmanager
def _state_errors() -> Iterator[None]:
    try:
        yield
    except StateError as error:
        raise JobError("STATE", str(error), exit_code=ExitCode.ENVIRONMENT) from error
