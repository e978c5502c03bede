"""A small project in a folder, and the command run over it: in this process, or in one of its own that can be killed.

Everything runs in float32, whatever is faster here, and on one thread: two that share a busy processor wait for each
other at every window.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from jobs import cli
from jobs.commands import runs
from pipeline.trial import Trial, TrialError
from tests.rwkv_runtime.tiny import save_pth, tiny_tensors

REPOSITORY = Path(__file__).parents[2]

TASKS = (
    {"name": "vectors", "type": "embed"},
    {"name": "gist", "type": "summarize", "every": "section", "at_end": True, "max_sentences": 3},
    {"name": "keep", "type": "state", "at": ["end"], "boundary": True},
)
JOB: Mapping[str, Any] = {
    "version": 1,
    "name": "small",
    "model": {"dtype": "fp32"},
    "inputs": [{"path": "docs/*"}],
    "tasks": TASKS,
    "output": {"path": "out"},
    "checkpoint": {"every": {"tokens": 128, "seconds": 3600}},
    "run": {"workers": 0, "window": 64},
}

_WORDS = (
    "the old captain keeps a wooden box of letters below his berth and nobody aboard has ever seen it open because "
    "he carries its only key on a thin chain while cold rain falls over quiet harbours where lamps burn late"
)


@dataclass(frozen=True)
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


def prose(sentences: int, seed: int = 0) -> str:
    """Sentences of random words, in paragraphs: about 12 tokens each, no two the same."""
    draw, known = random.Random(seed), _WORDS.split()
    found = []
    for number in range(sentences):
        words = [draw.choice(known) for _ in range(draw.randint(6, 14))]
        words[0] = words[0].capitalize()
        found.append(" ".join(words) + ("." if number % 5 else ".\n\n"))
    return " ".join(found)


class Project:
    """A folder with `docs/` and `job.yaml`."""

    def __init__(self, folder: Path, **documents: str | bytes) -> None:
        self.folder = folder
        (folder / "docs").mkdir(parents=True)
        for name, content in documents.items():
            self.document(f"{name}.txt", content)
        self.write_job()

    @property
    def job(self) -> Path:
        return self.folder / "job.yaml"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def document(self, name: str, content: str | bytes) -> Path:
        path = self.folder / "docs" / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def write_job(self, **changes: Any) -> None:
        """The usual job with these keys in place of its own."""
        self.job.write_text(json.dumps({**JOB, **changes}, indent=1), "utf-8")

    def write_model(self, name: str = "tiny.pth", leave_out: str = "", **sizes: int) -> Path:
        """A random model with the shipped tokenizer beside it, without the tensor `leave_out`."""
        folder = self.folder / "models"
        folder.mkdir(exist_ok=True)
        shipped = REPOSITORY / "rwkv_runtime" / "default" / "tokenizer.json"
        (folder / "tokenizer.json").write_bytes(shipped.read_bytes())
        tensors = tiny_tensors(vocabulary=16384, layers=1, **sizes)
        return save_pth(folder / name, {key: tensor for key, tensor in tensors.items() if key != leave_out})

    def run(self, *options: str, faults: str = "") -> Said:
        return unspool("run", str(self.job), "--no-progress", *options, faults=faults)

    def output(self) -> dict[str, str]:
        return contents(self.out / "output")


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by its path in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def unspool(*arguments: str, faults: str = "") -> Said:
    """The command in this process. What is not an exit would be a bug, and is raised."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["unspool", *arguments]),
        mock.patch.dict(os.environ, {runs.FAULT_VARIABLE: faults}),
        mock.patch("jobs.run.processors", lambda: 1),
        mock.patch("pipeline.trial.tries", _not_tried),  # it would load the model once more for each plan
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            return Said(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("the command returned without an exit code")


def _not_tried(*anything: object) -> list[Trial]:
    raise TrialError("no worker is tried out in tests")


def start(*arguments: str, faults: str = "") -> subprocess.Popen[str]:
    """The command in a process of its own. Its worker is asked for news twenty times a second."""
    program = (
        "import jobs.cli, jobs.run, jobs.supervise\n"
        "jobs.run.processors = lambda: 1\n"
        "jobs.supervise._CALL_SECONDS = 0.05\n"
        "jobs.cli.main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, runs.FAULT_VARIABLE: faults, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str], timeout: float = 60) -> Said:
    """Wait for a command; a negative code is the signal that killed it."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Said(process.returncode, out, err)


def events(run: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's event log."""
    path = run / "events.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for_event(run: Path, event: str, process: subprocess.Popen[str], timeout: float = 60) -> None:
    """Wait until a run has noted this event. Fails if the process ends or the time is over before it has."""
    until = time.monotonic() + timeout
    while not any(found["event"] == event for found in events(run)):
        if process.poll() is not None:
            said = finish(process)
            raise AssertionError(f"ended with {said.code} before the event {event}: {said.err}")
        if time.monotonic() > until:
            process.kill()
            raise AssertionError(f"no event {event} in {timeout:g} s")
        time.sleep(0.005)
