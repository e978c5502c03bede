"""The job file: from YAML text to a `JobSpec`, with messages that say line and column.

In this order: the file is parsed, `--set` overrides are put in, `${ENV}` is filled in, relative paths become
whole paths (they are relative to the YAML file), the models of jobs/schema.py check everything, and what they
find is said with its place and the nearest known word. Knows nothing of runs.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from jobs.draft import Draft, Spot, at, dotted, has, put, suggestion
from jobs.errors import JobError, safe, together, usage_error
from jobs.schema import JobSpec, Task, json_schema
from jobs.sections import Section, not_yet
from jobs.standard_input import STDIN
from jobs.yaml_file import Data, Steps, named, read_file
from pipeline.durable import sha256_file
from pipeline.fields import shipped

__all__ = ["JobSpec", "differences", "json_schema", "load_resolved", "load_spec", "override"]

_VARIABLE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAGIC = re.compile(r"[*?[]")
_LONGEST_SHOWN = 80  # characters of a value in a difference

_EXPECTED = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "tuple_type": "a list",
}
"""What to say for pydantic's kinds of error, filled from their context."""


def load_spec(path: Path, overrides: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> JobSpec:
    """Read a job file.

    `overrides` are `dotted.path=value` texts, as given to `--set`: list elements by index or by their `name`,
    the value as YAML. `environment` fills `${NAME}` and `${NAME:-default}` in text values.
    Raises JobError (exit 2) with all problems that were found.
    """
    document, data = read_file(path)
    draft = Draft.of(str(path), document, data)
    for text in overrides:
        draft.override(text)
    folder = Path(os.path.abspath(path)).parent
    _include_schemas(draft, folder, environment)
    filled = _fill(draft, environment)
    _seal_profiles(draft, filled, folder)
    _include_prompts(draft, filled, folder)
    return _check(draft, filled, folder)


def load_resolved(resolved: Mapping[str, Any], where: str, environment: Mapping[str, str] = os.environ) -> JobSpec:
    """The job whose `resolved()` this is. `where` names the file that kept it.

    Raises JobError (exit 2) for a variable that is not set now, or for what this version would not accept.
    """
    data: dict[str, Data] = json.loads(json.dumps(resolved))
    draft = Draft(data, keys={}, values={(): Spot(0, 0, where)}, typed={})
    return _check(draft, _fill(draft, environment), folder=Path("/"))


def override(way: str, value: str | int | float | None) -> str:
    """The `--set` text that gives `way` exactly this value, whatever characters it holds."""
    literal = value.replace("${", "$${") if isinstance(value, str) else value
    return f"{way}={json.dumps(literal)}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two dicts of JSON values, a line each: `tasks[1].max_sentences: 5 → 7`."""
    before, after = dict(_leaves(dict(old), ())), dict(_leaves(dict(new), ()))
    ways = [*after, *(way for way in before if way not in after)]
    return [
        safe(f"{dotted(way)}: {_shown(way, before)} → {_shown(way, after)}")
        for way in ways
        if way not in before or way not in after or not _same(before[way], after[way])
    ]


def _include_schemas(draft: Draft, folder: Path, environment: Mapping[str, str]) -> None:
    """Read the files that `extract` tasks name as their schemas; a path is relative to the job file."""
    tasks = draft.data.get("tasks")
    for index in range(len(tasks) if isinstance(tasks, list) else 0):
        way = ("tasks", index, "schema")
        path = draft.at(way)
        if isinstance(path, str) and draft.at(("tasks", index, "type")) == "extract":
            path = _substituted(path, draft, way, environment)
            draft.include(way, shipped.path_of(path) if path in shipped.names() else folder / path)


def _seal_profiles(draft: Draft, filled: _Filled, folder: Path) -> None:
    """Note the hashes of the profiles that `embed` tasks name, so that a run keeps to what they hold now."""
    tasks = filled.data.get("tasks")
    for index in range(len(tasks) if isinstance(tasks, list) else 0):
        way = ("tasks", index, "profile")
        path = at(filled.data, way)
        if isinstance(path, str) and path and at(filled.data, ("tasks", index, "type")) == "embed":
            _use_whole_path(filled, way, str(folder))
            try:
                found = sha256_file(Path(str(at(filled.data, way))))
            except OSError as error:
                message = f"{dotted(way)}: {path} cannot be read ({error.strerror}); make it with `unspool calibrate`"
                raise usage_error("SPEC-PROFILE", message, draft.value_spot(way).where) from error
            put(filled.data, ("tasks", index, "profile_sha256"), found)


def _include_prompts(draft: Draft, filled: _Filled, folder: Path) -> None:
    """Put what the files of `summarize` tasks hold in place of their paths."""
    tasks = filled.data.get("tasks")
    for index in range(len(tasks) if isinstance(tasks, list) else 0):
        way = ("tasks", index, "prompt")
        path = at(filled.data, way)
        if not isinstance(path, str) or not path or at(filled.data, ("tasks", index, "type")) != "summarize":
            continue
        where = draft.value_spot(way).where
        try:
            text = (folder / path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{dotted(way)}: {path} cannot be read as text ({error}); give the path of a prompt"
            raise usage_error("SPEC-PROMPT", message, where) from error
        if "{sentences}" not in text:
            message = f"{dotted(way)}: {path} must have {{sentences}} in it, where the sentences are to stand"
            raise usage_error("SPEC-PROMPT", message, where)
        filled.written.pop(way, None)
        put(filled.data, way, text)


@dataclass
class _Filled:
    """The draft's data with the environment filled in, and the texts that stood there before."""

    data: dict[str, Data]
    written: dict[Steps, str] = field(default_factory=dict)


def _fill(draft: Draft, environment: Mapping[str, str]) -> _Filled:
    """Replace `${NAME}` and `${NAME:-default}` in text values; `$${` stands for a plain `${`."""
    written: dict[Steps, str] = {}
    problems: list[JobError] = []

    def fill(value: Data, way: Steps) -> Data:
        if isinstance(value, dict):
            return {key: fill(element, (*way, key)) for key, element in value.items()}
        if isinstance(value, list):
            return [fill(element, (*way, index)) for index, element in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            filled = _substituted(value, draft, way, environment)
        except JobError as problem:
            problems.append(problem)
            return value
        if filled.replace("${", "$${") != value:  # else it is written back as it stood in any case
            written[way] = value
        return filled

    data = {key: fill(value, (key,)) for key, value in draft.data.items()}
    if problems:
        raise together(problems)
    return _Filled(data, written)


def _substituted(value: str, draft: Draft, way: Steps, environment: Mapping[str, str]) -> str:
    """The text at a place with its variables filled in. Raises JobError (exit 2) for one that is not there."""
    try:
        return _VARIABLE.sub(lambda found: _variable(found, environment), value)
    except KeyError as missing:
        message = f"{dotted(way)}: {missing.args[0]}"
        raise usage_error("SPEC-VARIABLE", message, draft.value_spot(way).where) from None


def _variable(found: re.Match[str], environment: Mapping[str, str]) -> str:
    """What one `${…}` stands for. Raises KeyError with what is wrong with it."""
    name, default = found["name"], found["default"]
    if found[0] == "$${":
        return "${"
    if name is None:
        raise KeyError("`${` starts a variable: write ${NAME} or ${NAME:-default}, or $${ for the characters")
    if default is not None:
        return environment.get(name) or str(default[2:])
    if name not in environment:
        raise KeyError(f"the variable {name} is not set; set it, or write ${{{name}:-default}}")
    return environment[name]


def _use_whole_paths(filled: _Filled, folder: Path) -> None:
    """Make relative paths whole: they are relative to `folder`, the YAML file's."""
    _use_whole_path(filled, ("output", "path"), str(folder))
    if at(filled.data, ("model", "source")) != "default":
        _use_whole_path(filled, ("model", "source"), str(folder))
    inputs = filled.data.get("inputs")
    for index in range(len(inputs) if isinstance(inputs, list) else 0):
        way = ("inputs", index, "path")
        pattern = _MAGIC.search(str(at(filled.data, way)))
        _use_whole_path(filled, way, glob.escape(str(folder)) if pattern else str(folder))
        for key in ("manifest", "folder"):
            _use_whole_path(filled, ("inputs", index, key), str(folder))


def _use_whole_path(filled: _Filled, way: Steps, folder: str) -> None:
    path = at(filled.data, way)
    if not isinstance(path, str) or path in ("", STDIN) or _SCHEME.match(path):
        return
    if way in filled.written and not os.path.isabs(path):
        filled.written[way] = f"{folder.replace('${', '$${')}/{filled.written[way]}"
    put(filled.data, way, os.path.normpath(os.path.join(folder, path)))


def _check(draft: Draft, filled: _Filled, folder: Path) -> JobSpec:
    _use_whole_paths(filled, folder)
    try:
        return JobSpec.model_validate(filled.data, context={"written": filled.written})
    except ValidationError as failure:
        errors = failure.errors(include_url=False, include_input=False)
    if _retype(draft, filled, errors):
        return _check(draft, filled, folder)
    found = sorted((_problem(error, draft, filled.data) for error in errors), key=lambda pair: pair[0])
    raise together([error for _, error in found])


def _retype(draft: Draft, filled: _Filled, errors: Sequence[ErrorDetails]) -> bool:
    """Where text is expected, an unquoted 2024 or true is what was typed. True if there was any."""
    changed = False
    for error in errors:
        way = _way(error, filled.data)
        if error["type"] == "string_type" and draft.typed.get(way) and at(filled.data, way) is not None:
            put(filled.data, way, draft.typed.pop(way))
            changed = True
    return changed


def _problem(error: ErrorDetails, draft: Draft, data: Data) -> tuple[Spot, JobError]:
    """One of pydantic's errors in our words, at its place."""
    way = _way(error, data)
    kind = error["type"]
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        way = (*way, "type")
        kind = "missing" if at(data, way) is None else kind
    if kind == "extra_forbidden":
        code, message = _unknown_key(way, data)
        spot = draft.key_spot(way)
    elif kind == "missing":
        code, message = "SPEC-MISSING-KEY", f"{dotted(way)} is missing{_kinds(way)}"
        spot = draft.value_spot(way[:-1])
    else:
        code, message = _wrong_value(kind, error, draft.at(way))
        message = f"{dotted(way)}: {message}"
        spot = draft.value_spot(way)
    return spot, usage_error(code, message, spot.where)


def _unknown_key(way: Steps, data: Data) -> tuple[str, str]:
    section, key = _section_at(way[:-1], data), str(way[-1])
    if key in section.later:
        return "SPEC-NOT-YET", f"{not_yet(dotted(way))}; {section.later[key]}"
    called = section.called if section is JobSpec else f"`{section.called}`"
    advice = suggestion(key, list(_options(section)), otherwise="it knows ")
    return "SPEC-UNKNOWN-KEY", f"{dotted(way)} is no option of {called}{advice}"


def _wrong_value(kind: str, error: ErrorDetails, written: Data) -> tuple[str, str]:
    context = error.get("ctx", {})
    if kind == "union_tag_invalid":
        return _wrong_task_type(written)
    if kind in {"not_yet", "duplicate", "value"}:
        code = {"not_yet": "SPEC-NOT-YET", "duplicate": "SPEC-DUPLICATE-NAME"}.get(kind, "SPEC-BAD-VALUE")
        return code, str(context["message"])
    code = "SPEC-WRONG-TYPE" if kind.endswith(("_type", "int_from_float")) else "SPEC-BAD-VALUE"
    if kind == "expected":
        return code, f"expected {context['message']}, found {named(written)}"
    if kind not in _EXPECTED:
        return code, f"{error['msg']}, found {named(written)}"
    expected = _EXPECTED[kind].format(**context).replace("'", "")
    return code, f"expected {expected}, found {named(written)}"


def _wrong_task_type(written: Data) -> tuple[str, str]:
    advice = suggestion(str(written), _task_types(), otherwise="there are ")
    return "SPEC-BAD-VALUE", f"{named(written)} is no type of task{advice}"


def _kinds(way: Steps) -> str:
    """The types of task, where the type is what is missing."""
    return f"; write one of {', '.join(_task_types())}" if way[:1] == ("tasks",) and way[-1] == "type" else ""


def _task_types() -> list[str]:
    return [section.called for section in _sections(Task)]


def _way(error: ErrorDetails, data: Data) -> Steps:
    """The way in the data that pydantic's location means: without the names of the members of unions."""
    location = error["loc"] or ("",)
    if location[0] == "tasks":  # the third step is the task's type
        location = location[:2] + location[3:]
    *before, last = location
    way: Steps = ()
    for step in before:
        if has(data, (*way, step)):
            way = (*way, step)
    if last != "" and (error["type"] in {"missing", "extra_forbidden"} or has(data, (*way, last))):
        way = (*way, last)
    return (*way, *error.get("ctx", {}).get("at", ()))


def _section_at(way: Steps, data: Data) -> type[Section]:
    """The section that describes the mapping at `way`."""
    candidates: list[type[Section]] = [JobSpec]
    for depth, step in enumerate(way, start=1):
        if isinstance(step, str):
            fields = [_options(section)[step] for section in candidates if step in _options(section)]
            candidates = [section for field in fields for section in _sections(field.annotation)]
        elif way[0] == "tasks" and depth == 2:
            kind = at(data, (*way[:depth], "type"))
            candidates = [section for section in candidates if section.called == kind]
    return candidates[0]


def _options(section: type[Section]) -> dict[str, FieldInfo]:
    """The options of a section under the names that job files give them."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections in a field's annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _leaves(value: Any, way: Steps) -> Iterator[tuple[Steps, Any]]:
    """The values that hold no others, with their ways; an empty list or dict is one."""
    if isinstance(value, dict) and value:
        for key, element in value.items():
            yield from _leaves(element, (*way, key))
    elif isinstance(value, list) and value:
        for index, element in enumerate(value):
            yield from _leaves(element, (*way, index))
    else:
        yield way, value


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(old == new)


def _shown(way: Steps, leaves: Mapping[Steps, Any]) -> str:
    if way not in leaves:
        return "(none)"
    shown = json.dumps(leaves[way], ensure_ascii=False)
    return shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + "…"
