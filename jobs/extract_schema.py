"""What a job file may say of an `extract` task: a schema of fields, in the file or in one of its own.

Also reads JSON Schema: an object's properties become fields. Knows nothing of how fields are found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import regex
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from jobs.sections import LIST, Section, TaskName, matching, problem

FieldType = Literal[
    "clause",
    "date",
    "duration",
    "email",
    "iban",
    "identifier",
    "integer",
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
_TYPES: Final = {"number": "number", "integer": "integer"}
_DEEPEST: Final = 16
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
    """Words that are expected beside the value, or in a clause, where the first of them tell most."""
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
        if field.type not in ("date", "integer", "money", "number", "percentage"):
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
    """JSON Schema and pydantic models are turned into fields; anything else stays as it is."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        return from_json_schema(value.model_json_schema())
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
    known = {**_mapping(schema, "definitions"), **_mapping(schema, "$defs")}
    properties = _mapping(schema, "properties")
    fields = [field for name, given in properties.items() for field in _fields_of(name, given, known, 0)]
    return {"description": str(schema.get("description") or schema.get("title") or ""), "fields": fields}


def _fields_of(name: str, given: Any, known: Mapping[str, Any], depth: int) -> list[dict[str, Any]]:
    own = _resolved(name, given, known)
    is_list = own.get("type") == "array"
    item = _resolved(name, own.get("items", {}), known) if is_list else own
    if depth > _DEEPEST:
        raise problem("value", f"the property {name!r} is nested in itself; name the fields that are wanted")
    if "properties" in item:
        nested = ((f"{name}.{inner}", value) for inner, value in _mapping(item, "properties").items())
        fields = [field for inner, value in nested for field in _fields_of(inner, value, known, depth + 1)]
        return [field | {"cardinality": "many"} for field in fields] if is_list else fields
    field: dict[str, Any] = {"name": name, "cardinality": "many" if is_list else "one"}
    field["description"] = own.get("description") or item.get("description") or name.replace("_", " ")
    return [field | _found_by(name, item) | _mapping(own, _SCHEMA_TYPE)]


def _mapping(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What stands under a key, nothing if it is not there."""
    found = schema.get(key, {})
    if not isinstance(found, dict):
        raise problem("expected", f"a mapping under {key!r}, found {found!r}")
    return found


def _resolved(name: str, given: Any, known: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """What a schema says once references are followed and what may be missing is taken as there."""
    if depth > _DEEPEST:
        raise problem("value", f"the references of the property {name!r} lead nowhere; name what they mean")
    if not isinstance(given, dict):
        raise problem("expected", f"a schema for the property {name!r}, found {given!r}")
    for key in ("anyOf", "oneOf", "allOf"):
        choices = [one for one in given.get(key, ()) if isinstance(one, dict) and one.get("type") != "null"]
        if choices:
            return _resolved(name, choices[0], known, depth + 1) | {k: v for k, v in given.items() if k != key}
    if "$ref" in given:
        target = known.get(str(given["$ref"]).rpartition("/")[2])
        if target is None:
            raise problem("value", f"{given['$ref']!r} of the property {name!r} is nowhere in the schema")
        return _resolved(name, target, known, depth + 1) | {k: v for k, v in given.items() if k != "$ref"}
    if isinstance(given.get("type"), list):
        return given | {"type": next((one for one in given["type"] if one != "null"), "string")}
    return given


def _found_by(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a field that say how it is found and what it must be."""
    options: dict[str, Any] = {
        "type": _FORMATS.get(str(item.get("format")), _TYPES.get(str(item.get("type")), "clause"))
    }
    words = item.get("enum", [item["const"]] if "const" in item else None)
    if words is not None:
        if not all(isinstance(word, str | None) for word in words):
            raise problem("value", f"the values of the property {name!r} are not words; give words, or a type")
        options |= {"type": "text", "values": {word: [] for word in words if word is not None}}
    if "pattern" in item:
        options |= {"type": "text", "patterns": [f"({item['pattern'].removeprefix('^').removesuffix('$')})"]}
    if "maxLength" in item:
        options["max_chars"] = item["maxLength"]
    return options | {key: float(item[key]) for key in ("minimum", "maximum") if key in item}
