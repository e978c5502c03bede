"""Console blocks of pages, run again: what a command printed must stand below it.

    python -m tests.console [--write] PAGE...

A block is a fence named `console`; its lines that begin with `$ ` are commands, the others what they print on stdout.
All blocks of a page run in one folder that looks like the repository, so each finds what the ones before it made.
`--write` puts what is printed now in place of what stands there. Times and speeds may differ, numbers with a point by a
little: the last bits of vectors depend on the processor.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tests.jobs.project import REPOSITORY, unspool

_FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DECIMAL = re.compile(r"-?\d+\.\d+|\d+(?=%)")
_TIME = re.compile(r"\d+(?:\.\d+)? (?:ms|s|min|h)\b(?: \d+ (?:s|min)\b)?|[\d,.]+ tokens/s")
_NEAR = 0.02
_COLUMNS = "80"
_LINKED = ("LICENSE", "jobs", "rwkv_runtime")


@dataclass(frozen=True)
class Call:
    """A command of a page and what stands below it."""

    command: str
    printed: str


def calls(text: str) -> Iterator[Call]:
    """The commands of a page, in their order."""
    for block in _FENCE.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield Call(command, printed)


class Shell:
    """Runs commands in a folder that has what the examples need of the repository. To be used as a context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_changed = False
        shutil.copytree(REPOSITORY / "examples" / "cookbook", folder / "examples" / "cookbook")
        (folder / "examples" / "documents").symlink_to(REPOSITORY / "examples" / "documents")
        for name in _LINKED:
            (folder / name).symlink_to(REPOSITORY / name)
        shutil.copytree(REPOSITORY / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, command: str) -> str:
        """What a command prints. Raises AssertionError if it fails."""
        program, rest = _piped(command)
        words = shlex.split(program)
        if words[0] == "unspool" and self._is_changed:
            return self._bash(f"{shlex.quote(sys.executable)} -m jobs.cli {command.removeprefix('unspool ')}")
        if words[0] not in ("unspool", "python"):
            self._is_changed |= "pipeline/" in command  # from here on this folder's code counts, not ours
            return self._bash(command)
        printed = _unspool(words[1:]) if words[0] == "unspool" else _script(words[1:])
        return self._bash(f"cat {rest}", printed) if rest else printed

    def _bash(self, command: str, given: str = "") -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": _COLUMNS}
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, input=given, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


def _piped(command: str) -> tuple[str, str]:
    """A command line's first program, and what its output goes through or into, if anything."""
    quote = ""
    for place, letter in enumerate(command):
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        elif letter in "|>" and not quote:
            return command[:place], command[place:]
    return command, ""


def _unspool(words: list[str]) -> str:
    with mock.patch.dict(os.environ, COLUMNS=_COLUMNS):
        said = unspool(*words)
    assert said.code == 0, f"unspool {shlex.join(words)}: {said.err}"
    return said.out


def _script(words: list[str]) -> str:
    out = io.StringIO()
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(out):
        runpy.run_path(words[0], run_name="__main__")
    return out.getvalue()


def is_near(stands: str, printed: str) -> bool:
    """Whether two texts say the same, times and last digits apart."""
    stands, printed = (_TIME.sub("<time>", text).rstrip() for text in (stands, printed))
    if _DECIMAL.sub("<n>", stands) != _DECIMAL.sub("<n>", printed):
        return False
    pairs = zip(_DECIMAL.findall(stands), _DECIMAL.findall(printed), strict=True)
    return all(abs(float(one) - float(other)) <= max(_NEAR * abs(float(one)), _NEAR) for one, other in pairs)


@contextlib.contextmanager
def standing_in(folder: Path) -> Iterator[Shell]:
    """A shell in a new folder, which is the working directory meanwhile."""
    shell = Shell(folder)
    with contextlib.chdir(folder):
        yield shell


def rewritten(text: str, shell: Shell) -> str:
    """A page with what its commands print now."""

    def again(found: re.Match[str]) -> str:
        return "```console\n" + "".join(_shown(call, shell.run(call.command)) for call in calls(found[0])) + "```"

    return _FENCE.sub(again, text)


def _shown(call: Call, printed: str) -> str:
    """A command and what it prints now, with an empty line behind it where the page has one."""
    text = f"$ {call.command}\n{printed}".rstrip("\n") + "\n"
    return f"{text}\n" if call.printed.endswith("\n\n") else text


def main(arguments: list[str]) -> int:
    """Compare or rewrite pages; the number of those that are not true."""
    pages = [Path(name).absolute() for name in arguments if name != "--write"]
    wrong = 0
    for page in pages:
        text = page.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder, standing_in(Path(folder)) as shell:
            new = rewritten(text, shell)
        if "--write" in arguments:
            page.write_text(new, "utf-8")
        elif not all(is_near(old.printed, now.printed) for old, now in zip(calls(text), calls(new), strict=True)):
            wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
