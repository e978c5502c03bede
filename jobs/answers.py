"""Questions and searches: a run, a kept state or a document is found, and the pipeline is asked about it.

Nothing is written. Turns what the pipeline and the runtime refuse into exit codes. Importing it loads no torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs import prepare, standard_input
from jobs.embed_task import EmbedTask
from jobs.errors import ExitCode, JobError, usage_error
from jobs.manifest import ManifestEntry, document_id, readable, with_members
from jobs.models import model_errors
from jobs.oneshot import address
from jobs.run import RunResult, open_run
from jobs.run_directory import RunDirectory, storage_errors
from jobs.spec import load_resolved
from jobs.standard_input import STDIN
from pipeline.documents import Document, DocumentRef
from pipeline.durable import Disk
from pipeline.errors import DocumentError

if TYPE_CHECKING:
    from pipeline.answers.ask import Answer, Reading
    from pipeline.answers.lines import Line
    from pipeline.answers.search import Vector
    from rwkv_runtime.engine import Engine
    from rwkv_runtime.model import Model
    from rwkv_runtime.state import State

_STATE_SUFFIX: Final = ".arrow"
_END_STATE: Final = ".end.arrow"
_WINDOW: Final = 512


@dataclass(frozen=True)
class Asked:
    """A finished run that is asked, of one of its documents or of all."""

    result: RunResult
    model_source: str
    model_fingerprint: str
    task: EmbedTask
    doc_id: str | None = None

    def documents(self) -> Mapping[str, dict[str, Any]]:
        """The rows of `documents` by their ids."""
        columns = ["doc_id", "source_uri", "language", "title"]
        return {row["doc_id"]: row for row in self.result.table("documents").to_table(columns=columns).to_pylist()}

    def lines(self) -> Iterator[Line]:
        from pipeline.answers.lines import lines_of_table

        if self.task.unit != "sentence":
            return lines_of_table(self.result.table("vectors"), None, self.task.name)
        return lines_of_table(self.result.table("sentences"), self.doc_id)

    def states(self, model: Model) -> KeptStates:
        """The end states that the run has kept."""
        return KeptStates(self.result.path / "states", model)


@dataclass(frozen=True)
class KeptStates(Mapping[str, "State"]):
    """The states behind the last tokens of documents, by their ids; each is read from its file when it is asked for.

    Of a run over many documents a question needs those of a few. Raises JobError (exit 7) through `model_errors`.
    """

    folder: Path
    model: Model

    def __getitem__(self, doc_id: str) -> State:
        from rwkv_runtime.state import State

        path = self.folder / f"{doc_id}{_END_STATE}"
        if not path.exists():
            raise KeyError(doc_id)
        return State.from_arrow(path, self.model)

    def __iter__(self) -> Iterator[str]:
        return (path.name.removesuffix(_END_STATE) for path in sorted(self.folder.glob(f"*{_END_STATE}")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def search_run(path: Path, text: str, top: int, task: str | None = None) -> list[dict[str, Any]]:
    """The sentences of a finished run nearest to a text, best first, or the units of another task; as JSON values.

    Raises JobError: exit 2 if the run has no such vectors, 6 if it is none, 7 for its model.
    """
    if not text.strip():
        raise usage_error("SEARCH", "there is nothing to search for; give some words")
    asked = _open(path, task)
    documents = asked.documents()
    with model_errors():
        from pipeline.answers.search import search

        engine = _engine(_load(asked.model_source, asked.model_fingerprint), asked.task)
        vector = _query_vector(engine, text, asked.task)
    hits = search(asked.lines(), text, vector, top, _languages(documents))
    return [_line(hit.line, documents) | {"score": hit.score, "words": hit.words, "cosine": hit.cosine} for hit in hits]


def _query_vector(engine: Engine, text: str, task: EmbedTask) -> Vector:
    """The vector of a query, read as the units were, or by itself where those were read off the stream."""
    from pipeline import vectors
    from pipeline.tasks.embed import BOTH, joined

    how = vectors.ISOLATED if task.pooling in ("auto", "span", BOTH) else task.pooling
    found = vectors.isolated(engine, [text], how)
    vector: Vector = joined([found, found] if task.pooling == BOTH else [found], task.dims)[0]
    return vector


def ask_target(
    target: Path, question: str, model: str | None, state: Path | None, copy: bool = False
) -> dict[str, Any]:
    """The answer to a question about a run, a state that a run has kept, or a document (`-`: stdin); as a JSON value.

    `model` and `state` are for documents: with a state, passages are read again behind it. With `copy` the model
    narrows the quote down to the words that answer. Raises JobError.
    """
    if not question.strip():
        raise usage_error("ASK", "there is no question; give one")
    if str(target) == STDIN:
        return _ask_stdin(question, model or "default", state, copy)
    if not target.exists():
        raise usage_error("ASK", "no such document, run or state file", str(target))
    if target.is_dir() or target.suffix == _STATE_SUFFIX:
        _refuse_for_runs(target, model, state)
        return _ask_run(_open(target) if target.is_dir() else _of_state(target), question, copy)
    return _ask_document(target, question, model or "default", state, copy)


def _refuse_for_runs(target: Path, model: str | None, state: Path | None) -> None:
    """Raise JobError (exit 2) for options that a run would not heed."""
    if model is not None:
        message = f"a run is asked with the model that it was read with; leave out --model {model}"
        raise usage_error("ASK", message, str(target))
    if state is not None:
        message = f"a run is asked with the states that it has kept; leave out --state {state}"
        raise usage_error("ASK", message, str(target))


def _ask_stdin(question: str, model: str, state: Path | None, copy: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="unspool-ask-") as folder:
        with storage_errors(Path(folder)):
            path = standard_input.keep(Path(folder), Disk(flush=lambda descriptor: None))
        return _ask_document(path, question, model, state, copy, path.name)


def _ask_run(asked: Asked, question: str, copy: bool) -> dict[str, Any]:
    _check_writes(asked.model_source, copy)
    documents = asked.documents()
    with model_errors():
        from pipeline.answers.ask import Reading, ask

        model = _load(asked.model_source, asked.model_fingerprint)
        reading = Reading(_engine(model), asked.states(model))
        answer = ask(_comparable(asked), question, reading, _languages(documents))
        return _narrowed(_answer(answer, documents), answer, reading, copy)


def _comparable(asked: Asked) -> Iterator[Line]:
    """The sentences, without vectors where those are not of the kind that passages are read again for."""
    if asked.task.pooling in ("eol", "multi-eos") or asked.task.profile is not None:
        return (replace(line, vector=None) for line in asked.lines())
    return asked.lines()


def _ask_document(
    path: Path, question: str, source: str, state: Path | None, copy: bool, name: str = ""
) -> dict[str, Any]:
    """`name` is what the document is called where its path says nothing to anybody."""
    _check_writes(source, copy)
    told = document_errors(Path(name or path))
    with tempfile.TemporaryDirectory(prefix="unspool-ask-") as scratch, told, model_errors():
        from pipeline.answers.ask import ask
        from pipeline.answers.lines import lines_of_document
        from pipeline.formats import open_document
        from pipeline.text_store import TextStore

        store = TextStore(Path(scratch), Disk())
        opened = [open_document(ref, store) for ref in references(path, name)]
        if state is not None and len(opened) > 1:
            raise usage_error(
                "ASK", f"holds {len(opened)} documents, and a state is of one; leave --state out", str(path)
            )
        model = _load(source, None)
        documents = {document.ref.doc_id: _row(document) for document in opened}
        reading = _reading(model, opened[0].ref.doc_id, state)
        lines = chain.from_iterable(lines_of_document(document, model.tokenizer) for document in opened)
        answer = ask(lines, question, reading, _languages(documents))
        return _narrowed(_answer(answer, documents), answer, reading, copy)


def _row(document: Document) -> dict[str, Any]:
    """What `documents` would say of a document."""
    facts = document.facts
    return {"source_uri": document.ref.uri, "language": facts.language, "title": facts.title}


def _check_writes(source: str, copy: bool) -> None:
    if copy and source == "default":
        raise usage_error(
            "ASK", "the model in the box cannot write, so it has nothing to copy with; give another model"
        )


def _narrowed(said: dict[str, Any], answer: Answer, reading: Reading, copy: bool) -> dict[str, Any]:
    """The answer with the quote narrowed down to the words that the model copies out of it, if it does."""
    if not copy or answer.quote is None:
        return said
    from pipeline.answers.copying import copied

    passage = answer.passages[said["passage"]]
    words = copied(reading.engine.model, reading.state(answer.quote.doc_id), passage, answer.question)
    if words is None:
        return said
    span = {"char_start": words.char_start, "char_end": words.char_end, "text": words.text}
    chosen = {"answer": words.text, "method": "copied", "likelihood": words.likelihood}
    return said | chosen | {"citation": said["citation"] | span}


def _reading(model: Model, doc_id: str, state: Path | None) -> Reading:
    from pipeline.answers.ask import Reading
    from rwkv_runtime.state import State

    states = {} if state is None else {doc_id: State.from_arrow(state, model)}
    return Reading(_engine(model), states)


def _open(path: Path, task: str | None = "") -> Asked:
    """A finished run with the task whose vectors are wanted: that of a name, of the sentences (""), or any (None)."""
    result = open_run(path)
    info = RunDirectory.open(path, Disk()).info
    spec = load_resolved(info.spec, where=str(path / "run.json"))
    known = [one for one in spec.tasks if isinstance(one, EmbedTask)]
    of_sentences = [one for one in known if one.unit == "sentence"]
    fitting = [one for one in known if one.name == task] if task else of_sentences or (known if task is None else [])
    if not fitting:
        what = "sentences" if not task else f"task {task!r} of type embed; there are {[one.name for one in known]}"
        message = f"the run has no {what}; add a task of type embed to its job and run it anew"
        raise JobError("RUN-NO-TABLE", message, exit_code=ExitCode.USAGE, where=str(path))
    return Asked(result, spec.model.location, info.model_fp, fitting[0])


def _of_state(path: Path) -> Asked:
    """The document of a kept state, in the run that it lies in."""
    run, (doc_id, _, rest) = path.absolute().parent.parent, path.name.partition(".")
    if path.parent.name != "states" or not RunDirectory.exists(run) or rest not in ("end.arrow", "boundary.arrow"):
        message = "a state remembers no words; ask its document: `unspool ask DOCUMENT QUESTION --state STATE`"
        raise usage_error("ASK", message, str(path))
    asked = _open(run)
    return replace(asked, doc_id=doc_id)


def _load(source: str, fingerprint: str | None) -> Model:
    import rwkv_runtime

    model = rwkv_runtime.load(source)
    if fingerprint is not None and model.fingerprint != fingerprint:
        message = f"the run was made with other weights ({fingerprint[:12]}, now {model.fingerprint[:12]})"
        raise JobError("MODEL", f"{message}; put those back", exit_code=ExitCode.MODEL, where=source)
    return model


def _engine(model: Model, task: EmbedTask | None = None) -> Engine:
    """An engine whose vectors are those of a task, by default those that the weights have."""
    from rwkv_runtime import profiles
    from rwkv_runtime.engine import Engine

    if task is None or task.profile is None:
        return Engine(model, window=_WINDOW, lanes=1, pooling=task.pooler if task else "auto")
    pooler = profiles.read(Path(task.profile), task.profile_sha256).pooler(model)
    return Engine(model, window=_WINDOW, lanes=1, pooling=pooler)


def references(path: Path, name: str = "") -> list[DocumentRef]:
    """The documents in a file, as a job lists them: the file itself, or its records, rows, messages or members.

    They have the ids that a job of this one document gives them. `name` is their address where the path is not.
    Raises JobError (exit 2) if two of them have one name.
    """
    from pipeline.formats import members

    one, root = reference(path), Path.cwd()
    uri, shown = name or address(path.absolute()), name or readable(str(path))
    whole = ManifestEntry(0, document_id(uri), uri, one.size, one.mtime_ns, one.reader, name=one.path)
    refs = (prepare.reference(entry, root) for entry in with_members([whole], root, None, members))
    return [replace(ref, uri=shown + ref.uri.removeprefix(uri)) for ref in refs]


def reference(path: Path) -> DocumentRef:
    """A file on its own as a document."""
    from pipeline.formats import reader_for

    facts, reader = path.stat(), reader_for(str(path)) or ""
    return DocumentRef("document", readable(str(path)), str(path.absolute()), facts.st_size, facts.st_mtime_ns, reader)


def _languages(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {doc_id: row["language"] or "en" for doc_id, row in documents.items()}


def _line(line: Line, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "sentence_id": line.sentence_id,
        "document": documents[line.doc_id]["source_uri"],
        "page": line.page,
        "section": line.section,
        "char_start": line.char_start,
        "char_end": line.char_end,
        "text": line.text,
    }


def _answer(answer: Answer, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "question": answer.question,
        "outcome": answer.outcome,
        "answer": _said(answer),
        "value": None if answer.value is None else asdict(answer.value),
        "citation": None if answer.quote is None else _line(answer.quote, documents),
        "passage": None if answer.quote is None else 0,
        "confidence": answer.confidence,
        "method": answer.method,
        "tokens_read": answer.tokens_read,
        "state_sha256": answer.state_sha256,
        "passages": [
            _line(passage.quote, documents)
            | {
                "quote": passage.quote.text,
                "text": passage.text,
                "passage_start": passage.lines[0].char_start,
                "passage_end": passage.lines[-1].char_end,
                "confidence": passage.confidence,
            }
            for passage in answer.passages
        ],
    }


def _said(answer: Answer) -> str | None:
    """The quote, or the sentences of a summary, a line each; None if nothing is answered."""
    if answer.quote is not None:
        return answer.quote.text
    return "\n".join(passage.quote.text for passage in answer.passages) if answer.outcome == "answered" else None


@contextmanager
def document_errors(path: Path) -> Iterator[None]:
    """Turn what is wrong with a document into exit 3, as in a run of this one document."""
    try:
        yield
    except DocumentError as error:
        message = f"{error.message} ({error.error_type})"
        raise JobError("DOCUMENT", message, exit_code=ExitCode.FAILURES, where=str(path)) from error
