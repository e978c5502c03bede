"""What a job file may say: its sections, their options, defaults and limits.

Frozen, strict pydantic models, closed against unknown keys. What the job format names but this version cannot
do yet is listed beside the option it belongs to (`later`, `_later`) and is refused by name. Knows nothing of
YAML, places in files, the environment or folders: that is jobs/spec.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from jobs.embed_task import EmbedTask, same_kinds
from jobs.extract_schema import ExtractTask
from jobs.quantities import LARGEST_COUNT, Count, Duration, Share, Size, whole_number
from jobs.ray_section import RaySection, of_a_cluster
from jobs.sections import LIST, Section, TaskName, auto_or_count, matching, not_yet, problem
from pipeline.documents import FOLLOW, GROWS
from pipeline.encodings import canonical
from pipeline.object_store import ADDRESS

Way: TypeAlias = tuple[str | int, ...]
"""Leads to a value of the job: ("tasks", 1, "every")."""


_Element = TypeVar("_Element")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INPUT_SCHEMES = ("s3", "gs", "hdfs", "hf", "file")


def _later(*values: str, instead: str) -> BeforeValidator:
    """Refuses values that the job format has and this version has not."""

    def check(value: object) -> object:
        if isinstance(value, str) and value in values:
            raise problem("not_yet", f"{not_yet(f'`{value}`')}; {instead}")
        return value

    return BeforeValidator(check)


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise problem("expected", "a power of two from 64 to 8192")
    return value


def _no_prefix(value: object) -> None:
    if value is not None:
        raise problem("not_yet", f"{not_yet('a prefix')}; write null or leave it out")


def _only_end(places: tuple[str, ...]) -> tuple[str, ...]:
    if places != ("end",):
        raise problem("expected", "[end]")
    return places


def _model_source(text: str) -> str:
    return text if text.startswith("hf://") else _local_path(text)


def _local_path(text: str) -> str:
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() in {"s3", "gs", "hdfs", "file", "hf"}:
        raise problem("not_yet", f"{not_yet(f'`{scheme[1]}://`')}; give a path on this machine")
    if scheme:
        raise problem("expected", "a path on this machine (nothing is downloaded)")
    return text


def _output_path(text: str) -> str:
    return text if ADDRESS.fullmatch(text) and not text.startswith("file:") else _local_path(text)


def _input_path(text: str) -> str:
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    if scheme[1] not in _INPUT_SCHEMES:
        schemes = ", ".join(f"{name}://" for name in _INPUT_SCHEMES)
        raise problem("expected", f"a path on this machine or one of {schemes} (nothing is read from the web)")
    if "@" in text.split("/")[2]:
        raise problem("value", "an address takes no credentials; set them in the environment")
    if scheme[1] == "file" and not text.startswith("file:///"):
        raise problem("expected", "file:// with a whole path, such as file:///data/a.txt")
    return text


def _encoding(name: str) -> str:
    if canonical(name) is None:
        raise problem("expected", "an encoding such as utf-8, cp1252 or shift_jis, and not one that shifts its state")
    return name


def _not_empty(elements: tuple[_Element, ...]) -> tuple[_Element, ...]:
    if not elements:
        raise problem("expected", "at least one element")
    return elements


_FILLED_LIST = Field(strict=False, json_schema_extra={"minItems": 1})

InputPath = Annotated[str, Field(min_length=1), AfterValidator(_input_path)]
OutputPath = Annotated[str, Field(min_length=1), AfterValidator(_output_path)]
LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_local_path)]
ModelSource = Annotated[str, Field(min_length=1), AfterValidator(_model_source)]


class ModelSection(Section):
    """The model that reads."""

    called = "model"
    source: ModelSource = "default"
    """`default` (the shipped model), the path of a weights file or folder, or `hf://OWNER/REPO` for what was pulled."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """Of a model of the hub: the file, together with `revision`; null means the one that was pulled."""
    revision: Annotated[str, matching(re.compile(r"[0-9a-f]{40}"), "a commit: 40 hexadecimal digits")] | None = None
    """Of a model of the hub: the commit."""
    device: Annotated[
        str,
        matching(re.compile(r"auto|cpu|cuda(:\d+)?"), "auto, cpu, cuda or cuda:N"),
        _later("gpu", "mps", instead="write auto, cpu, cuda or cuda:N"),
    ] = "auto"
    """Where it runs: `cpu`, which is what `auto` means, or an NVIDIA GPU, `cuda` or `cuda:N`, in one process."""
    dtype: Literal["auto", "fp32", "bf16", "fp16", "int8", "int4"] = "auto"
    """How large matrices are kept and multiplied; `auto` is the faster of fp32 and bf16, chosen when a run starts."""

    @model_validator(mode="after")
    def _file_and_revision_belong_together(self) -> Self:
        given = [self.file is not None, self.revision is not None]
        if any(given) and not (all(given) and self.source.startswith("hf://") and "@" not in self.source):
            raise problem("value", "`file` and `revision` go together, with a source such as hf://OWNER/REPO")
        return self

    @property
    def location(self) -> str:
        """What the runtime is to load."""
        return self.source if self.file is None else f"{self.source}@{self.revision}/{self.file}"


class PdfSection(Section):
    """How PDF files are read."""

    called = "inputs.pdf"

    headers: Literal["keep", "drop"] = "keep"
    """Lines that stand at the top or the foot of page after page, numbers apart."""
    password_env: Annotated[str, matching(_VARIABLE, "the name of an environment variable")] | None = None
    """The environment variable that holds the password of those that are encrypted; nothing else is kept of it."""


class HtmlSection(Section):
    """How HTML pages are read."""

    called = "inputs.html"

    boilerplate: Literal["keep", "drop"] = "keep"
    """Navigation, footers and what else stands around the text; `drop` needs the extra `web`."""


class InputSection(Section):
    """Files to read."""

    called = "inputs"
    path: InputPath | None = None
    """A file, a pattern (`corpus/**/*.txt`) relative to the job file, an address (`s3://b/*.txt`), or `-` for stdin."""
    exclude: Annotated[tuple[str, ...], LIST] = ()
    """Patterns of files to leave out."""
    manifest: LocalPath | None = None
    """Instead of `path`: a list of files, JSONL or CSV with `path`, `id` (optional) and metadata for each."""
    folder: LocalPath | None = None
    """What the paths of a manifest are relative to and may not leave; null means the manifest's own folder."""
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    """Of the files, such as `cp1252`, where neither a byte order mark nor the bytes themselves tell; null finds it."""

    text_key: Annotated[str, Field(min_length=1)] | None = None
    """In JSONL and CSV files: the key or column of each record's text; null means `text`."""
    id_key: Annotated[str, Field(min_length=1)] | None = None
    """There: the key or column of its id, which no two records may share; null takes the line."""
    metadata: Annotated[tuple[str, ...], LIST] = ()
    """There, and in a manifest: keys or columns that go into `documents.metadata`; of a manifest none means all."""
    max_bytes: Size | None = None
    """Larger files are refused: bytes, or a size such as `64MiB`; of files in files and records, the size of each."""
    pdf: PdfSection = PdfSection()
    """Of PDF files among them."""
    html: HtmlSection = HtmlSection()
    """Of HTML pages among them."""
    follow: bool = False
    """Read plain text files on as they grow, such as logs, until the run is stopped; false reads to their ends."""

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.path is None) == (self.manifest is None):
            raise problem("value", "give either `path` or `manifest`", at=("path",))
        if self.path == "-" and self.exclude:
            raise problem("value", "standard input is one document, so leave `exclude` out", at=("exclude",))
        if self.manifest is not None and self.exclude:
            raise problem("value", "a manifest names each file, so leave `exclude` out", at=("exclude",))
        if self.manifest is None and self.folder is not None:
            raise problem("value", "`folder` belongs to a `manifest`; leave it out", at=("folder",))
        if self.follow and (self.path is None or (_SCHEME.match(self.path) and not self.path.startswith("file://"))):
            raise problem("value", "only files on this machine, named by `path`, can be followed", at=("follow",))
        return self

    def options(self) -> dict[str, str]:
        """What the readers of these files are told."""
        given = {"encoding": self.encoding, "text_key": self.text_key, "id_key": self.id_key}
        listed = {"metadata": json.dumps(self.metadata)} if self.metadata and self.manifest is None else {}
        if self.pdf.headers != "keep":
            listed["pdf_headers"] = self.pdf.headers
        if self.follow:
            listed[FOLLOW] = GROWS
        if self.html.boilerplate != "keep":
            listed["html_boilerplate"] = self.html.boilerplate
        if self.pdf.password_env is not None:
            listed["password_env"] = self.pdf.password_env
        if self.max_bytes is not None:
            listed["max_bytes"] = str(self.max_bytes)
        return {key: value for key, value in given.items() if value} | listed


class SplitSection(Section):
    """How text is cut."""

    called = "split"

    unit: Literal["sentence"] = "sentence"
    """What a row of `sentences` holds."""
    language: Annotated[
        str, matching(re.compile("auto|[a-z]{2}"), "auto or a code of two small letters such as en")
    ] = "auto"
    """The language whose sentence rules hold."""
    max_chars: Annotated[int, Field(ge=16, le=1_000_000)] = 2000
    """Longer sentences are cut, in characters."""
    sections: Literal["headings", "pages", "topics"] = "headings"
    """Where no heading is open: `pages` takes each page for a section, `topics` looks for where the topic changes."""


class EveryTokens(Section):
    """A summary after each stretch of this many tokens."""

    called = "every"

    tokens: Count


def _every(value: object) -> object:
    if value is None or value == "section" or isinstance(value, dict | EveryTokens):
        return value
    raise problem("expected", "section, {tokens: N} or null")


def _every_kind(value: object) -> str:
    return "<word>" if isinstance(value, str) else "<tokens>"


Every = Annotated[
    Annotated[
        Annotated[Literal["section"], Tag("<word>")] | Annotated[EveryTokens, Tag("<tokens>")],
        Discriminator(_every_kind),
    ]
    | None,
    BeforeValidator(_every),
]


class SummarizeTask(Section):
    """The sentences that say most."""

    called = "summarize"
    later = MappingProxyType(
        dict.fromkeys(
            ("max_tokens", "temperature", "top_p", "stop"),
            "summaries quote sentences here; max_sentences sets their length",
        )
    )

    name: TaskName
    """Names the task in messages and tables."""
    type: Literal["summarize"]
    mode: Literal["extractive", "abstractive"] = "extractive"
    """Sentences of the document, word for word; or claims about them by models that can write, checked and cited."""
    template: Annotated[str, Field(min_length=1)] = "g1"
    """Of claims: the words around a question that the model was trained with; a name, or a .toml file."""
    prompt: Annotated[str, Field(min_length=1)] | None = None
    """Of claims: a text file with {sentences} and {count} in it; null takes the one that is shipped."""
    every: Every = "section"
    """When to summarise the stretch just read: after each section, after N tokens, or (null) never."""
    at_end: bool = True
    """Summarise the whole document at its end."""
    max_sentences: Annotated[int, Field(ge=1, le=100)] = 5
    """The longest summary, in sentences."""
    max_words: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The longest summary, in words; null sets no limit."""
    query: Annotated[str, Field(min_length=1)] | None = None
    """What the summaries are to be about, in words; null asks for what the text is about."""


class StateTask(Section):
    """The state after reading, kept as a file."""

    called = "state"

    name: TaskName
    """Names the task in messages and tables."""
    type: Literal["state"]
    at: Annotated[tuple[Literal["end"], ...], _FILLED_LIST, AfterValidator(_only_end)] = ("end",)
    """When it is kept."""
    boundary: bool = True
    """Also keep the last state from which a document that grows can be read on."""


Task = Annotated[EmbedTask | SummarizeTask | ExtractTask | StateTask, Discriminator("type")]


class OutputSection(Section):
    """Where results go."""

    called = "output"

    path: OutputPath
    """The run directory, relative to the job file, or an address on an object store such as `s3://b/runs/1`."""
    mode: Literal["resume", "error", "overwrite"] = "resume"
    """What to do if it has a run already."""
    publish: Annotated[str, matching(ADDRESS, "s3://bucket/folder, gs://bucket/folder or file:///folder")] | None = None
    """Where the finished tables are copied to: an empty folder of an object store."""


class CheckpointEvery(Section):
    """Whichever comes first."""

    called = "checkpoint.every"

    tokens: Count = 65536
    """Tokens read since the last one."""
    seconds: Duration = 120.0
    """Time since the last one."""


class CheckpointSection(Section):
    """Saving in mid-document."""

    called = "checkpoint"

    every: CheckpointEvery = CheckpointEvery()
    keep: Annotated[int, Field(ge=1, le=100)] = 2
    """Checkpoints kept for each document."""


class OnErrorSection(Section):
    """What a failure costs."""

    called = "on_error"
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    """How often a document is tried again."""
    max_failed: Share = 0.05
    """The run stops when more than this share of its documents has failed: `5%` or 0.05."""
    doc_timeout: Duration = 7200.0
    """The longest time for one document: `2h`, `90s` or seconds."""
    stall_timeout: Duration = 60.0
    """A Ray worker that does not answer for so long is ended, and its documents are tried again."""
    page_timeout: Duration = 60.0
    """The longest time that a parser may take for one page, or to find the first text of a file without pages."""


class RunSection(Section):
    """How it runs. The seed can change results; the window changes vectors in their last bits alone."""

    called = "run"

    workers: Annotated[Annotated[int, Field(ge=0, le=1024)] | Literal["auto"], auto_or_count(0, 1024)] = "auto"
    """Ray workers; 0 reads in this process."""
    lanes: Annotated[Annotated[int, Field(ge=1, le=4096)] | Literal["auto"], auto_or_count(1, 4096)] = "auto"
    """Documents that a worker reads side by side."""
    window: Annotated[int, Field(ge=64, le=8192), AfterValidator(_power_of_two)] = 512
    """Tokens fed at once; a power of two."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_COUNT)] = 0
    """Where random choices start."""


def _one_standard_input(inputs: tuple[InputSection, ...]) -> tuple[InputSection, ...]:
    places = [index for index, entry in enumerate(inputs) if entry.path == "-"]
    if len(places) > 1:
        raise problem("value", "there is one standard input; name it once", at=(places[1], "path"))
    return inputs


def _tasks_fit_together(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    names = [task.name for task in tasks]
    for index, task in enumerate(tasks):
        if task.name in names[:index]:
            raise problem("duplicate", "an earlier task has this name; give each its own", at=(index, "name"))
        if isinstance(task, SummarizeTask) and task.every is None and not task.at_end:
            message = "with every: null this task would write nothing; set one of them"
            raise problem("value", message, at=(index, "at_end"))
    return _at_most_one_each(tasks)


def _at_most_one_each(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    for kind in ("state", "embed"):
        places = [index for index, task in enumerate(tasks) if task.type == kind and _is_single(task)]
        if len(places) > 1:
            of_what = " of sentences" if kind == "embed" else ""
            message = f"{not_yet(f'a second `{kind}` task{of_what}')}; keep one, or make a second job"
            raise problem("not_yet", message, at=(places[1], "type"))
    same_kinds([(index, task) for index, task in enumerate(tasks) if isinstance(task, EmbedTask)])
    return tasks


def _is_single(task: Task) -> bool:
    return not isinstance(task, EmbedTask) or task.unit == "sentence"


class JobSpec(Section):
    """A job: what to read, with which model, for which results."""

    called = "a job file"

    version: Annotated[Literal[1], BeforeValidator(whole_number)]
    """Of the job format."""
    name: Annotated[str, matching(_JOB_NAME, "a name of up to 64 letters, digits, -, _ and .")]
    """Of the job."""
    model: ModelSection = ModelSection()
    inputs: Annotated[
        tuple[InputSection, ...], _FILLED_LIST, AfterValidator(_not_empty), AfterValidator(_one_standard_input)
    ]
    limit: Count | None = None
    """Read only the first documents; null reads all."""
    split: SplitSection = SplitSection()
    prefix: Annotated[None, BeforeValidator(_no_prefix)] = None
    """Not in this version."""
    tasks: Annotated[tuple[Task, ...], _FILLED_LIST, AfterValidator(_not_empty), AfterValidator(_tasks_fit_together)]
    """What to make of each document in one reading."""
    policy: Literal["auto", "carry", "section", "reprime"] = "auto"
    """Which context a sentence is read in: `carry` keeps all of the document before it, `section` its section alone,
    `reprime` begins anew every 8,192 tokens; `auto` carries on as long as a probe says that it helps."""
    output: OutputSection
    checkpoint: CheckpointSection = CheckpointSection()
    on_error: OnErrorSection = OnErrorSection()
    run: RunSection = RunSection()
    ray: Annotated[RaySection, AfterValidator(of_a_cluster)] = RaySection()

    _written: Mapping[Way, str] = PrivateAttr(default_factory=dict)
    """Values that must be written back as they stood in the file, such as `${TOKEN}`, by their way."""

    def model_post_init(self, context: Mapping[str, Any] | None) -> None:
        if context:
            self._written = context["written"]

    def semantic(self) -> dict[str, Any]:
        """What determines the rows, apart from the documents and the model's own fingerprint. JSON values."""
        found = self.model_dump(mode="json", include={"version", "split", "prefix", "tasks", "policy"})
        for task in found["tasks"]:
            task.pop("profile", None)  # its hash counts, not where it lies
        return found | {"seed": self.run.seed}

    def resolved(self) -> dict[str, Any]:
        """All options with their defaults and whole paths, as JSON values; loading them gives this job again.

        What came from the environment stands as `${NAME}`, so no secret is in it.
        """
        dumped = self.model_dump(mode="json")
        return {key: _write_back(value, (key,), self._written) for key, value in dumped.items()}

    def fingerprint(self, model_fingerprint: str) -> str:
        """SHA-256, in hex, of what determines the rows: `semantic()` and the model's fingerprint."""
        content = {"model": model_fingerprint, "spec": self.semantic()}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the job file, for editors."""
    schema = JobSpec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "unspool job"}


def _write_back(value: Any, way: Way, written: Mapping[Way, str]) -> Any:
    if way in written:
        return written[way]
    if isinstance(value, dict):
        return {key: _write_back(element, (*way, key), written) for key, element in value.items()}
    if isinstance(value, list):
        return [_write_back(element, (*way, index), written) for index, element in enumerate(value)]
    return value.replace("${", "$${") if isinstance(value, str) else value
