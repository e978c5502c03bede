"""YAML text → plain data, with the place of every key and value.

Reads the part of YAML 1.2 that a settings file needs and refuses the rest by name: duplicate keys, anchors,
aliases, merge keys, tags, several documents. Scalars follow the 1.2 core schema without octal and
hexadecimal numbers: only `true`/`false` are booleans, `no`, `12:30`, `010` and dates are text, `1e-4` is a
number. Keys are always text. Works on the parser's events with a stack of its own, so nothing is built before
it is checked and no nesting can exhaust Python's stack. Knows nothing of jobs.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import yaml

from jobs.errors import JobError, usage_error

Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"
Steps: TypeAlias = tuple[str | int, ...]
"""The way to a value: ("tasks", 1, "every")."""

LARGEST_BYTES = 1 << 20
DEEPEST = 64
LONGEST_NUMBER = 100  # characters; longer digits stay text, since Python converts them in quadratic time

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Place(NamedTuple):
    """Where something stands: line and column, both counted from 1, the column in characters."""

    line: int
    column: int


class _Mark(Protocol):
    """The parser's places: both counted from 0."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """What a YAML text says and where it says it.

    `typed` has the characters of each unquoted scalar that was read as a number, a boolean or null, for
    readers who expect text there.
    """

    data: Data
    keys: Mapping[Steps, Place]
    values: Mapping[Steps, Place]
    typed: Mapping[Steps, str]


def read_file(path: Path) -> tuple[Document, dict[str, Data]]:
    """The document in a file and its root mapping. UTF-8, or UTF-16 with a byte order mark.

    Raises JobError (exit 2) if it cannot be read, is larger than 1 MiB, is no mapping or is not plain YAML.
    """
    source = str(path)
    document = parse(_decode(_read_bytes(path), source), source)
    if not isinstance(document.data, dict):
        where = _where(source, document.values[()])
        raise usage_error("YAML-ROOT", f"the file holds {named(document.data)}; it must be a mapping", where)
    return document, document.data


def parse(text: str, source: str) -> Document:
    """The one document in `text`, whatever its root. `source` names the text in messages.

    Raises JobError (exit 2) with line and column.
    """
    if forbidden := _FORBIDDEN.search(text):
        message = f"the character U+{ord(forbidden.group()):04X} is not allowed here; remove it"
        raise usage_error("YAML-ENCODING", message, _where(source, _place(text, forbidden.start())))
    builder = _Builder(source)
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            builder.take(loader.get_event())  # type: ignore[no-untyped-call]  # types-PyYAML has no types here
    except yaml.MarkedYAMLError as problem:
        raise builder.syntax_error(problem, text) from None
    except (ValueError, OverflowError):  # the scanner's own failures, at "\Uffffffff" and at endless versions
        message = "a number or an escape here is out of range"
        raise builder.error("YAML-SYNTAX", loader.get_mark(), message) from None
    finally:
        loader.dispose()
    return builder.document()


def named(value: Data) -> str:
    """A value as a message names it: text "x", the number 5, true, null, a list, a mapping."""
    if isinstance(value, str):
        shown = value if len(value) <= 60 else value[:59] + "…"
        return f'text "{shown}"' if value else "an empty text"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"the number {value}"


def scalar(text: str) -> bool | int | float | str | None:
    """What an unquoted scalar means."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) > LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


@dataclass
class _Open:
    """A mapping or list that is being read, and the key whose value comes next."""

    holds: list[Data] | dict[str, Data]
    steps: Steps
    key: str | None = None


class _Builder:
    """Takes a parser's events one by one and has the document at the end."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._open: list[_Open] = []
        self._documents = 0
        self._data: Data = None
        self._keys: dict[Steps, Place] = {}
        self._values: dict[Steps, Place] = {}
        self._typed: dict[Steps, str] = {}

    def document(self) -> Document:
        if not self._documents:
            raise usage_error("YAML-EMPTY", "there is nothing in it but space and comments", self._source)
        return Document(self._data, self._keys, self._values, self._typed)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._start_document(event)
        elif isinstance(event, yaml.NodeEvent):
            self._refuse_extras(event)
            self._take_node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _start_document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            raise self.error("YAML-DOCUMENTS", event.start_mark, "a second document starts; keep one a file")

    def _refuse_extras(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            message = f"`{mark}{event.anchor}`: anchors and aliases are refused; write the value out"
            raise self.error("YAML-ALIAS", event.start_mark, message)
        tag = getattr(event, "tag", None)
        if tag is not None:
            message = f"the tag `{tag}` is refused; write the plain value, in quotes if it is text"
            raise self.error("YAML-TAG", event.start_mark, message)

    def _take_node(self, event: yaml.NodeEvent) -> None:
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.holds, dict) and parent.key is None:
            parent.key = self._take_key(event, parent.holds, parent.steps)
            return
        steps = self._next_steps(parent)
        self._values[steps] = _mark_place(event.start_mark)
        value = self._value(event, steps)
        self._attach(parent, value)
        if isinstance(value, list | dict):
            self._descend(event, value, steps)

    def _take_key(self, event: yaml.NodeEvent, holds: dict[str, Data], steps: Steps) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self.error("YAML-KEY", event.start_mark, "a key must be text, not a list or a mapping")
        key = self._text(event)
        if key == "<<" and event.style is None:
            raise self.error("YAML-MERGE-KEY", event.start_mark, "merge keys are refused; write the keys out")
        if key in holds:
            earlier = self._keys[(*steps, key)].line
            message = f"`{key}` is given twice, first in line {earlier}; keep one of them"
            raise self.error("YAML-DUPLICATE-KEY", event.start_mark, message)
        self._keys[(*steps, key)] = _mark_place(event.start_mark)
        return key

    def _next_steps(self, parent: _Open | None) -> Steps:
        if parent is None:
            return ()
        return (*parent.steps, len(parent.holds) if parent.key is None else parent.key)

    def _value(self, event: yaml.NodeEvent, steps: Steps) -> Data:
        if isinstance(event, yaml.ScalarEvent):
            text = self._text(event)
            value = text if event.style is not None else scalar(text)
            if not isinstance(value, str):
                self._typed[steps] = text
            return value
        return [] if isinstance(event, yaml.SequenceStartEvent) else {}

    def _attach(self, parent: _Open | None, value: Data) -> None:
        if parent is None:
            self._data = value
        elif isinstance(parent.holds, list):
            parent.holds.append(value)
        elif parent.key is not None:
            parent.holds[parent.key] = value
            parent.key = None

    def _descend(self, event: yaml.NodeEvent, value: list[Data] | dict[str, Data], steps: Steps) -> None:
        if len(self._open) == DEEPEST:
            message = f"lists and mappings are nested more than {DEEPEST} deep; no job file needs that"
            raise self.error("YAML-TOO-DEEP", event.start_mark, message)
        self._open.append(_Open(value, steps))

    def _text(self, event: yaml.ScalarEvent) -> str:
        """The scalar's characters, with JSON's surrogate pairs ("\\ud83d\\ude00") joined."""
        try:
            text: str = event.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            message = "an escape here is half a character (a lone surrogate); write the character itself"
            raise self.error("YAML-ENCODING", event.start_mark, message) from None
        if "\0" in text:
            raise self.error("YAML-ENCODING", event.start_mark, "text cannot hold the NUL character; remove it")
        return text

    def syntax_error(self, problem: yaml.MarkedYAMLError, text: str) -> JobError:
        mark = problem.problem_mark or problem.context_mark
        what = ", ".join(part for part in (problem.problem, problem.context) if part)
        return self.error("YAML-SYNTAX", mark, what + _advice(what, text[: mark.index + 1] if mark else ""))

    def error(self, code: str, mark: _Mark | None, message: str) -> JobError:
        return usage_error(code, message, _where(self._source, _mark_place(mark)))


def _advice(what: str, read: str) -> str:
    """What to do about the two slips that the parser's own words explain badly."""
    if "'\\t'" in what:
        return "; indent with spaces, not tabs"
    return "; put text with ${…} in quotes here" if read.endswith("${") else ""


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except IsADirectoryError:
        raise usage_error("SPEC-FILE", "is a folder; give the job file in it", str(path)) from None
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "no possible file name"
        raise usage_error("SPEC-FILE", f"cannot be read: {reason}", str(path)) from None
    if len(content) > LARGEST_BYTES:
        raise usage_error("YAML-TOO-LARGE", "is larger than 1 MiB; no job file needs that", str(path))
    return content


def _decode(content: bytes, source: str) -> str:
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if utf16 else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as problem:
        read = content[: problem.start].decode(encoding, "ignore")
        message = f"the bytes here are not {'UTF-16' if utf16 else 'UTF-8'}; save the file as UTF-8"
        raise usage_error("YAML-ENCODING", message, _where(source, _place(read, len(read)))) from None


def _place(text: str, index: int) -> Place:
    """Line and column of a character, with the line breaks that YAML counts."""
    breaks = [found.end() for found in _LINE_BREAK.finditer(text, 0, index)]
    return Place(len(breaks) + 1, index - (breaks[-1] if breaks else 0) + 1)


def _mark_place(mark: _Mark | None) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


def _where(source: str, place: Place) -> str:
    return f"{source}:{place.line}:{place.column}"
