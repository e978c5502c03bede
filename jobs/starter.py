"""A job file to begin with, for a folder of documents: what is in it, and as comments what one may want to change."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

from jobs.errors import usage_error
from jobs.record_columns import Columns, columns_of
from jobs.spec import json_schema

_LOOKED_AT: Final = 20_000
_RECORDS: Final = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
_PACKED: Final = (".gz", ".zst")


SCHEMA_NAME: Final = ".unspool-job.schema.json"
"""The file beside a job by which an editor completes and checks it."""


def starter(folder: Path, job: Path) -> str:
    """The text of a job over what can be read in `folder`, with paths relative to the file `job`.

    Raises JobError (exit 2) if there is no such folder, or nothing in it that can be read.
    """
    from pipeline.formats import known_suffixes, reader_for

    if not folder.is_dir():
        raise usage_error("INIT-FOLDER", "there is no such folder; name the one with your documents", str(folder))
    files = [path for path in _files(folder) if reader_for(path.name)]
    found = Counter(_suffix(path.name) for path in files)
    if not found:
        message = f"nothing in here can be read; known are {', '.join(known_suffixes())}"
        raise usage_error("INIT-EMPTY", message, str(folder))
    base = Path(os.path.relpath(folder.absolute(), job.absolute().parent)).as_posix()
    first = {_suffix(path.name): path for path in sorted(files, reverse=True)}
    inputs = "\n".join(_input(base, suffix, count, first[suffix]) for suffix, count in sorted(found.items()))
    version = json_schema()["properties"]["version"]["const"]
    return _TEMPLATE.format(name=_name(folder), inputs=inputs, version=version, schema=SCHEMA_NAME)


def _files(folder: Path) -> Iterator[Path]:
    """Files below the folder that are not hidden, up to a number that no person wants to wait for."""
    seen = 0
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            seen += 1
            if seen > _LOOKED_AT:
                return
            if not name.startswith("."):
                yield Path(top, name)


def _suffix(name: str) -> str:
    """The end of a name that tells its format, as it is spelled: patterns tell capitals apart."""
    suffixes = PurePath(name).suffixes
    packed = len(suffixes) > 1 and suffixes[-1].lower() in _PACKED
    return "".join(suffixes[-2:] if packed else suffixes[-1:])


def _input(base: str, suffix: str, count: int, example: Path) -> str:
    pattern = f"{base}/**/*{suffix}" if base != "." else f"**/*{suffix}"
    records = any(suffix.lower().startswith(kind) for kind in _RECORDS)
    columns = columns_of(example) if records else Columns()
    keys = {"text_key": columns.text, "id_key": columns.id} if records else {}
    more = "".join(f", {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items() if value)
    comment = f"{count:,} file(s)" + ("; text_key names the column or field that holds the text" if records else "")
    return f'  - {{path: "{_quoted(pattern)}"{more}}}   # {comment}'


def _quoted(pattern: str) -> str:
    escaped = "".join(f"[{letter}]" if letter in "[?" else letter for letter in pattern.replace("**/*", "\0"))
    return escaped.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "**/*")


def _name(folder: Path) -> str:
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in folder.absolute().name)
    return kept.strip("-")[:64] or "documents"


_TEMPLATE: Final = """\
# A job for unspool. `unspool plan THIS-FILE` says what it would read, `unspool run THIS-FILE` reads it;
# the same command again resumes. Editors that know YAML language servers complete and check it, by the file below.
# yaml-language-server: $schema={schema}
version: {version}
name: {name}

model: {{source: default}}        # or the path of a .pth, .safetensors, .gguf or .bin file of RWKV-4 to 7

inputs:                         # patterns; `exclude` leaves files out again
{inputs}

tasks:                          # all of them in one reading
  - {{name: vectors, type: embed}}                                        # a vector a sentence
  - {{name: gist, type: summarize, every: section, max_sentences: 3}}     # sentences that stand for each section
  - {{name: terms, type: extract}}                                        # dates, sums, parties and the like
  - {{name: keep, type: state, at: [end]}}                                # the state behind each document

output: {{path: out/{name}}}

# limit: 10                                       # only the first documents, to try it out
# checkpoint: {{every: {{tokens: 65536, seconds: 120}}}}
# on_error: {{retries: 2, max_failed: "5%", doc_timeout: 2h}}
# run: {{workers: auto}}                            # Ray workers; 0 reads in this process
"""
