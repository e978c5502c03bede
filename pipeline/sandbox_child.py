"""The inside of the sandbox: limits first, then one file parsed, what it holds written as lines of JSON.

Runs in a process of its own, started by `pipeline.sandbox`; nothing here is for others to call.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import ModuleType
from typing import Any, BinaryIO, Final

from pipeline.errors import DocumentError
from pipeline.extraction import BLOCK_CHARS, About, merged
from pipeline.sandbox import out_of_memory

_OPEN_FILES: Final = 64
_RECURSION: Final = 3000


def main(request: str) -> None:
    """Parse the file that the request (JSON) names; the last line says what is known of it, or what is wrong."""
    asked = json.loads(request)
    _limit(int(asked["memory_bytes"]), int(asked["seconds"]) + 1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(_RECURSION)
    try:
        module = importlib.import_module(f"pipeline.formats.{asked['reader']}")
        with os.fdopen(int(asked["source"]), "rb") as file:
            _ASKED[asked["what"]](module, file, asked["options"])
    except DocumentError as error:
        _say({"error": {**vars(error)}})
    except MemoryError:
        _say({"error": {**vars(out_of_memory(asked["memory_bytes"]))}})
    except RecursionError:
        _say({"error": _plain("bomb", "the file is nested too deeply")})
    except Exception as error:  # parsers raise whatever they like about damaged files
        reason = " ".join(str(error).split())[:200]
        _say({"error": _plain("parse_error", f"cannot be parsed: {type(error).__name__}: {reason}; repair the file")})
    sys.stdout.flush()
    os._exit(0)  # tearing a huge parse tree down may take longer than building it


def _limit(memory_bytes: int, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if sys.platform != "darwin":  # there it is not enforced, and setting it may fail
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _extract(module: ModuleType, file: BinaryIO, options: Mapping[str, str]) -> None:
    for found in merged(module.extract(file, options)):
        if isinstance(found, About):
            _say({"about": asdict(found)})
        else:
            _say({"text": found.text, "section": found.section, "page": found.page})


def _list_members(module: ModuleType, file: BinaryIO, options: Mapping[str, str]) -> None:
    for member in module.list_members(file, options):
        _say(asdict(member))
    _say({"about": {}})


def _unpack(module: ModuleType, file: BinaryIO, options: Mapping[str, str]) -> None:
    for record in module.records(file, options):
        _say({"record": {"name": record.name, "metadata": dict(record.metadata), "refused": record.refused}})
        for start in range(0, len(record.text), BLOCK_CHARS):
            _say({"text": record.text[start : start + BLOCK_CHARS]})
    _say({"about": {}})


_ASKED: Final[Mapping[str, Callable[[ModuleType, BinaryIO, Mapping[str, str]], None]]] = {
    "extract": _extract,
    "list_members": _list_members,
    "records": _unpack,
}


def _plain(error_type: str, message: str) -> dict[str, Any]:
    return {"stage": "parse", "error_type": error_type, "message": message}


def _say(record: Mapping[str, Any]) -> None:
    # A name or title may hold half a character; in JSON it stands as an escape, and so comes back as it was.
    data = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()  # whoever waits counts the seconds in which nothing comes
