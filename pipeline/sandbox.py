"""Runs the parser of a format in a process that may hang, crash or explode without harm to anything else.

Each file gets a fresh interpreter with the source's descriptor as its only input, limits on memory, processor time
and open files that it sets itself before it loads any parser, and a clock that it does not own: the whole process
group is killed when it is silent or busy for too long, or writes too much. What comes back is JSON, never objects.
Knows nothing of formats.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import DocumentError

_ROOT: Final = str(Path(__file__).resolve().parents[1])
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[2]); from pipeline.sandbox_child import main; main(sys.argv[1])"
)
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
_READ_BYTES: Final = 1 << 16
_LINE_BYTES: Final = 1 << 20
_LOOK_UP_SECONDS: Final = 0.25


class StoppedError(Exception):
    """Whoever waited for a parser does not want its text any more."""


def never() -> bool:
    return False


@dataclass(frozen=True)
class Limits:
    """What parsing one file may cost. Time in all is `seconds` and `seconds_per_mib` for each MiB of the source.

    `silent_seconds` is how long nothing may come out: the longest time for a page, where a format has pages.
    """

    memory_bytes: int = 1 << 30
    seconds: float = 300.0
    seconds_per_mib: float = 10.0
    silent_seconds: float = 60.0
    output_bytes: int = 2 << 30

    def seconds_for(self, size: int) -> float:
        return self.seconds + self.seconds_per_mib * size / (1 << 20)


def parse(
    reader: str,
    source: int,
    size: int,
    options: Mapping[str, str],
    limits: Limits,
    stopped: Callable[[], bool] = never,
) -> Iterator[Mapping[str, Any]]:
    """What the format `reader` finds in the file with the descriptor `source`, record by record.

    Raises DocumentError: what the format refuses, and bomb, parse_timeout, parse_memory or parse_error for what it
    cannot survive. Raises StoppedError soon after `stopped` is true.
    """
    return _asked("extract", reader, source, size, options, limits, stopped)


def list_members(
    reader: str, source: int, size: int, options: Mapping[str, str], limits: Limits
) -> Iterator[Mapping[str, Any]]:
    """What the format `reader` lists of a file of many documents: the fields of each Member. Raises as `parse`."""
    return _asked("list_members", reader, source, size, options, limits, never)


def unpack(
    reader: str, source: int, size: int, options: Mapping[str, str], limits: Limits
) -> Iterator[Mapping[str, Any]]:
    """All records of a file: of each first its `record`, then its `text` in pieces. Raises as `parse`."""
    return _asked("records", reader, source, size, options, limits, never)


def _asked(
    what: str,
    reader: str,
    source: int,
    size: int,
    options: Mapping[str, str],
    limits: Limits,
    stopped: Callable[[], bool],
) -> Iterator[Mapping[str, Any]]:
    """What that function of the format hands out, up to the line that ends it."""
    seconds = limits.seconds_for(size)
    request = {
        "what": what,
        "reader": reader,
        "source": source,
        "options": dict(options),
        "seconds": seconds,
        **asdict(limits),
    }
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _START, json.dumps(request), _ROOT],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(source,),
        env=_ENVIRONMENT | _password(options),
        cwd="/",
        start_new_session=True,
    )
    try:
        for line in _lines(child, limits, time.monotonic() + seconds, stopped):
            record = json.loads(line)
            if "error" in record:
                raise DocumentError(**record["error"])
            yield record
            if "about" in record:
                return
        raise _died(child.wait(), limits)
    finally:
        _end(child)


def _password(options: Mapping[str, str]) -> dict[str, str]:
    """The variable that an option names, if it is set: what is in the request, everybody on the machine can see."""
    name = options.get("password_env", "")
    return {name: os.environ[name]} if name in os.environ else {}


def _lines(
    child: subprocess.Popen[bytes], limits: Limits, until: float, stopped: Callable[[], bool]
) -> Iterator[bytes]:
    """Whole lines of what the child writes."""
    assert child.stdout is not None  # it was asked for
    pipe, held, total = child.stdout.fileno(), b"", 0
    while True:
        if not _heard(pipe, min(until, time.monotonic() + limits.silent_seconds), stopped):
            raise _timeout(f"no text came out of the parser for {limits.silent_seconds:g} s or it was busy too long")
        data = os.read(pipe, _READ_BYTES)
        if not data:
            return
        total += len(data)
        *whole, held = (held + data).split(b"\n")
        if total > limits.output_bytes or len(held) > _LINE_BYTES:
            raise _failure("bomb", f"the file expands to more than {limits.output_bytes >> 20} MiB of text")
        yield from whole


def _heard(pipe: int, until: float, stopped: Callable[[], bool]) -> bool:
    """Whether there is something to read, or an end, before the time is over."""
    while not stopped():
        patience = until - time.monotonic()
        if patience <= 0:
            return False
        if select.select([pipe], [], [], min(patience, _LOOK_UP_SECONDS))[0]:
            return True
    raise StoppedError


def _died(status: int, limits: Limits) -> DocumentError:
    if status == -signal.SIGXCPU:
        return _timeout("parsing took too much processor time and was stopped")
    if status == -signal.SIGKILL:  # so the kernel ends what takes the last of the machine's memory
        return out_of_memory(limits.memory_bytes)
    what = f"signal {-status}" if status < 0 else f"status {status}"
    return _failure("parse_error", f"the parser died with {what}; the file is damaged or made to do that")


def out_of_memory(memory_bytes: int) -> DocumentError:
    """What a document is refused with whose parser needs more memory than it may have."""
    return _failure("parse_memory", f"parsing needs more than {memory_bytes >> 20} MiB of memory; split the file")


def _timeout(what: str) -> DocumentError:
    message = f"{what}; split or repair the file, or raise on_error.page_timeout and run again"
    return DocumentError("parse", "parse_timeout", message, retryable=True)


def _failure(error_type: str, message: str) -> DocumentError:
    return DocumentError("parse", error_type, message)


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    if child.stdout is not None:
        child.stdout.close()
    child.wait()
