"""What a job file may say of an `extract` task: a schema of fields, in the file or in one of its own.

Also reads JSON Schema: an object's properties become fields. Knows nothing of how fields are found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import regex
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from jobs.sections import LIST, Section, TaskName, matching, problem

FieldType = Literal[
    "clause",
    "date",
    "duration",
    "email",
    "iban",
    "identifier",
    "jurisdiction",
    "money",
    "number",
    "party",
    "percentage",
    "term",
    "text",
    "title",
    "url",
]

_FIELD_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_FORMATS: Final = {"date": "date", "date-time": "date", "email": "email", "uri": "url", "duration": "duration"}
_TYPES: Final = {"number": "number", "integer": "number"}
_SCHEMA_TYPE: Final = "x-unspool"
_MOST_FIELDS: Final = 256


def _patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for place, written in enumerate(patterns):
        try:
            compiled = regex.compile(written, regex.MULTILINE)
        except regex.error as error:
            raise problem("value", f"{written!r} is no regular expression ({error})", at=(place,)) from error
        if compiled.match("") is not None:
            raise problem("value", f"{written!r} also matches nothing at all; let it need a character", at=(place,))
    return patterns


def _words(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(word.strip() for word in words):
        raise problem("expected", "words that are not empty")
    return words


Words = Annotated[tuple[str, ...], LIST, AfterValidator(_words)]


class FieldSpec(Section):
    """One thing that is wanted of every document."""

    called = "a field"

    name: Annotated[str, matching(_FIELD_NAME, "a name of up to 64 letters, digits, _, . and -, a letter or _ first")]
    """Stands in the column `field`."""
    type: FieldType = "text"
    """The rule that finds and reads it; `text` takes words as they stand, `clause` whole sentences."""
    cardinality: Literal["one", "many", "every"] = "one"
    """One answer and what contradicts it, different ones, or every mention."""
    description: str = ""
    """What it is, in words: passages are ranked by it where nothing else says where to look."""
    examples: Words = ()
    """What such a value or clause may look like."""
    cues: Words = ()
    """Words that are expected beside the value."""
    keys: Words = ()
    """Words that stand in front of it, with a colon between: `Total: $5`."""
    patterns: Annotated[tuple[str, ...], LIST, AfterValidator(_patterns)] = ()
    """Regular expressions, the most telling first; the value is the first group, or all that matches."""
    values: Mapping[str, Words] = Field(default_factory=dict)
    """The names that may be found, each with the words that stand for it."""
    at_start: bool = False
    """It is expected where the document begins."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Values less sure are left out."""
    minimum: float | str | None = None
    """The least value: a number, or a date as 2020-01-31."""
    maximum: float | str | None = None
    """The greatest value."""
    max_chars: Annotated[int, Field(ge=1)] | None = None
    """The longest quote, in characters."""


def _fit_together(fields: tuple[FieldSpec, ...]) -> tuple[FieldSpec, ...]:
    if not fields or len(fields) > _MOST_FIELDS:
        raise problem("expected", f"from 1 to {_MOST_FIELDS} fields")
    names = [field.name for field in fields]
    for place, field in enumerate(fields):
        if field.name in names[:place]:
            raise problem("duplicate", "an earlier field has this name; give each its own", at=(place, "name"))
        _check_limits(field, place)
        if field.type == "text" and not (field.keys or field.patterns or field.values):
            message = "a field of type text needs keys, patterns or values; a clause can do with a description"
            raise problem("value", message, at=(place,))
        if field.type == "clause" and not (field.keys or field.patterns or field.values or field.description):
            message = "a field of type clause needs a description, or patterns, keys or values"
            raise problem("value", message, at=(place,))
    return fields


def _check_limits(field: FieldSpec, place: int) -> None:
    for key in ("minimum", "maximum"):
        limit = getattr(field, key)
        if limit is None:
            continue
        if field.type not in ("date", "money", "number", "percentage"):
            raise problem("value", f"a {field.type} has no order; leave `{key}` out", at=(place, key))
        if isinstance(limit, str) != (field.type == "date"):
            wanted = "a date as text, such as '2020-01-31'" if field.type == "date" else "a number"
            raise problem("expected", wanted, at=(place, key))


class FieldSchema(Section):
    """The fields that are wanted."""

    called = "schema"

    description: str = ""
    """Of the schema, for people."""
    fields: Annotated[tuple[FieldSpec, ...], LIST, AfterValidator(_fit_together)]


def default_schema() -> FieldSchema:
    """What is found without a schema: every kind of value that has a rule of its own and says something by itself."""
    kinds: tuple[FieldType, ...] = ("date", "money", "percentage", "duration", "email", "url", "identifier", "term")
    return FieldSchema(fields=tuple(FieldSpec(name=kind, type=kind, cardinality="many") for kind in kinds))


def _schema(value: object) -> object:
    """JSON Schema is turned into fields; anything else stays as it is."""
    if isinstance(value, dict) and "properties" in value and "fields" not in value:
        return from_json_schema(value)
    return value


class ExtractTask(Section):
    """Values of fields, each quoted with its place."""

    model_config = ConfigDict(serialize_by_alias=True)
    called = "extract"

    name: TaskName
    """Names the task in messages and tables."""
    type: Literal["extract"]
    fields_: Annotated[
        FieldSchema,
        BeforeValidator(_schema),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
        Field(alias="schema", default_factory=default_schema),
    ]
    """A file with a schema, in YAML or JSON, the schema itself, or `contract`; else dates, sums and the like."""
    grounding: Literal["quote"] = "quote"
    """Every value is a stretch of the document."""


def from_json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for the properties of a JSON Schema.

    A property's `format`, `type`, `enum` and `pattern` say how it is found; `x-unspool`, a mapping, says the rest in
    our own words. Arrays have many values, others one. Nested objects become fields with dots in their names.
    """
    fields = [field for name, given in schema["properties"].items() for field in _fields_of(name, given)]
    return {"description": str(schema.get("description") or schema.get("title") or ""), "fields": fields}


def _fields_of(name: str, given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, dict):
        raise problem("expected", f"a schema for the property {name!r}, found {given!r}")
    if "properties" in given:
        return [field for inner, value in given["properties"].items() for field in _fields_of(f"{name}.{inner}", value)]
    is_list = given.get("type") == "array"
    item = given.get("items", {}) if is_list else given
    field: dict[str, Any] = {"name": name, "cardinality": "many" if is_list else "one"}
    field["description"] = given.get("description") or item.get("description") or name.replace("_", " ")
    field["type"] = _FORMATS.get(str(item.get("format")), _TYPES.get(str(item.get("type")), "clause"))
    if "enum" in item:
        field |= {"type": "text", "values": {str(word): [] for word in item["enum"] if word is not None}}
    if "pattern" in item:
        field |= {"type": "text", "patterns": [item["pattern"].removeprefix("^").removesuffix("$")]}
    if "maxLength" in item:
        field["max_chars"] = item["maxLength"]
    field |= {key: float(item[key]) for key in ("minimum", "maximum") if key in item}
    return [field | given.get(_SCHEMA_TYPE, {})]
